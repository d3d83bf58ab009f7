"""One iteration's optimizer steps: from advantages to the next policy.

READS   generate, regenerate, their token scores (old logprobs), advantage, policy (with its optimizer state), initial
        (reference of the KL term), and the previous iteration's rollouts where they complete a joined group
WRITES  update (one row a step), policy (the next; the same one where no row has a signal)
SOURCE  docs/method.md 1: clipped surrogate with clip-higher and dual clip, token mean over the whole mini-batch,
        truncated importance weight where sampler and trainer differ
REMOVES old weights and optimizer states as `retention` specifies (docs/decisions/0007-retention.md)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from extra_rl.config.section import StageConfig
from extra_rl.devices.acquire import acquire
from extra_rl.errors import InputError
from extra_rl.run.records import NODES
from extra_rl.run.stage import Context, Inputs, PolicyDirectory, Stage
from extra_rl.tables import contracts
from extra_rl.training.settings import UpdateSettings


class Config(UpdateSettings, StageConfig):
    """Loss, optimizer, mini-batches."""


STAGE = Stage(
    name="update",
    version=5,
    reads={
        "generate": contracts.Rollouts,
        "regenerate": contracts.Rollouts,
        "score_entropy_generate": contracts.TokenScores,
        "score_entropy_regenerate": contracts.TokenScores,
        "advantage": contracts.Advantages,
        "policy": PolicyDirectory,
        "initial": PolicyDirectory,
        "previous_generate?": contracts.Rollouts,
        "previous_score_entropy_generate?": contracts.TokenScores,
    },
    writes={"update": contracts.UpdateSteps, "next_policy": PolicyDirectory},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Return the metrics of every step, after writing the next policy."""
    from extra_rl.models import retention
    from extra_rl.models.policy import write_same_policy

    rows = training_rows(inputs, config)
    if config.signal_only and not config.every_row_has_gradient:
        rows = rows.filter(pl.col("trained") == "trained")
    has_signal = (pl.col("trained") == "trained").any()
    if rows.is_empty() or not (rows.select(has_signal).item() or config.every_row_has_gradient):
        write_same_policy(context.outputs["next_policy"], inputs.policy(), context.manifest("policy"))
        steps = contracts.UpdateSteps.create_empty()
    else:
        if config.every_row_has_gradient:
            require_scores(rows)
            require_sampler_logprobs(rows)
        steps = contracts.UpdateSteps.cast(train(rows, inputs, config, context))
    if context.run.retention is not None:
        retention.thin(context.outputs["next_policy"], context.job.iteration, context.run.retention)
    return {"update": steps}


def training_rows(inputs: Inputs, config: Config) -> pl.DataFrame:
    """Return the rows that the loss may count, with tokens and old logprobs, in the order of the advantage table.

    Rows without a signal may have null for old logprobs; InputError for such a row that is trained on. A supervised
    loss reads no old logprobs: rows that were not scored get those of the sampler.
    """
    tokens = pl.concat(inputs[rollouts] for rollouts in ("generate", "regenerate", "previous_generate"))
    scores = pl.concat(
        inputs[role].filter(pl.col("policy_logprobs").is_not_null())
        for role in ("score_entropy_generate", "score_entropy_regenerate", "previous_score_entropy_generate")
    )  # a parent that was not scored in its own iteration is scored with its continuations
    tokens = tokens.join(scores, on="rollout_id", how="left", maintain_order="left")
    counted = inputs["advantage"].filter(pl.col("trained").is_in(["trained", "no_signal"]))
    columns = [
        "rollout_id",
        "prompt_tokens",
        "response_tokens",
        "prefix_length",
        "sampler_logprobs",
        "policy_logprobs",
    ]
    rows = counted.join(tokens.select(columns), on="rollout_id", how="left", maintain_order="left")
    if config.loss == "supervised":
        rows = rows.with_columns(policy_logprobs=pl.coalesce("policy_logprobs", "sampler_logprobs"))
    trained = rows.filter(pl.col("trained") == "trained")
    require_scores(trained)
    require_sampler_logprobs(trained)
    require_an_advantage_per_token(trained)
    return rows


def require_scores(rows: pl.DataFrame) -> None:
    """Raise InputError where a row to train on has no old logprobs."""
    unscored = rows.filter(pl.col("policy_logprobs").is_null())["rollout_id"]
    if len(unscored):
        raise InputError(
            f"{len(unscored)} of {len(rows)} rollouts to train on have no logprobs of the policy, first {unscored[0]}: "
            "score_entropy did not score them. Set score_entropy.rows: all, or delete the iteration's score_entropy "
            "tables and run again; snakemake rebuilds them."
        )


def require_sampler_logprobs(rows: pl.DataFrame) -> None:
    """Raise InputError where a row to train on was imported without the logprobs of its sampler."""
    unknown = rows.filter(pl.col("sampler_logprobs").is_null())["rollout_id"]
    if len(unknown):
        raise InputError(
            f"{len(unknown)} of {len(rows)} rollouts to train on were imported without the sampler's logprobs, first "
            f"{unknown[0]}, so the importance weight pi_old / pi_sampler of their tokens is not known. Import tokens "
            "with logprobs (docs/import.md)."
        )


def require_an_advantage_per_token(rows: pl.DataFrame) -> None:
    """Raise InputError where `token_advantages` of a row to train on has another length than its response."""
    given, tokens = pl.col("token_advantages").list.len(), pl.col("response_tokens").list.len()
    wrong = rows.filter(given != tokens).select("rollout_id", given=given, tokens=tokens)
    if len(wrong):
        name, has, needs = wrong.row(0)
        raise InputError(
            f"{len(wrong)} rollouts have another number of token_advantages than response tokens, first {name} ({has} "
            f"and {needs}): the table advantage belongs to other rollouts. Delete it and run again."
        )


def train(rows: pl.DataFrame, inputs: Inputs, config: Config, context: Context) -> pl.DataFrame:
    """Take the steps, save the next policy, and return one row of metrics per step."""
    from extra_rl.training import run as training
    from extra_rl.training.launch import train_in_processes
    from extra_rl.training.parallel import Parallel

    folder = context.run.retention.optimizer_folder if context.run.retention else None
    job = training.TrainingJob(
        settings=config,
        device=acquire(config.compute, devices=config.processes // config.nodes),
        policy=inputs.policy(),
        initial=inputs.policy("initial") if config.kl_weight or config.lora else None,
        next_policy=context.outputs["next_policy"],
        provenance=context.manifest("policy"),
        seeds=tuple(context.seed("minibatches", epoch) for epoch in range(config.epochs)),
        adapter_seed=context.run_seed("adapters"),
        learning_rate_share=config.learning_rate_share(context.job.iteration),
        optimizer_folder=Path(folder) if folder else None,
        title=f"{context.job.place} update: step",
    )
    if config.nodes > 1:
        context.figures[NODES] = config.nodes
    if config.processes > 1:
        shared = context.outputs["update"].with_suffix(".processes")
        made = train_in_processes(job, rows, shared, context.console)
        context.figures.update(made["figures"])
        context.figures["peak_memory_mb_per_process"] = max(made["peak_memory_mb"])
        steps = made["steps"]
    else:
        step_done = context.progress(job.steps, job.title).update
        steps = training.train(job, rows, Parallel(job.device), step_done, context.figures)
    return pl.DataFrame(steps, schema=contracts.UpdateSteps.create_empty().schema, strict=False)
