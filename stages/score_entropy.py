"""Scores every response token with the policy's own forward pass: logprob and full-vocabulary entropy.

READS   rollouts (generate or regenerate), policy; with `rows: signal` their verdicts and, where groups are joined, the
        rollouts that include their parents, with verdicts, scores and the policy that sampled them
WRITES  score_entropy: policy_logprobs (the old logprobs of the update) and entropies, at the sampling temperature
SOURCE  docs/method.md 1 (old_logprob is the trainer's, not the sampler's) and 3 (entropy guides the choice of
        prefixes); choice of rows: docs/decisions/0016
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl
from pydantic import Field

from extra_rl.config.section import Section, StageConfig
from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.devices.acquire import acquire
from extra_rl.errors import ConfigError, NumericalError
from extra_rl.models.policy import read_manifest
from extra_rl.run.guards import check_mismatch
from extra_rl.run.stage import Context, Inputs, PolicyDirectory, Stage
from extra_rl.scoring.layout import DESCRIPTION, Layout
from extra_rl.tables import contracts
from extra_rl.tables.signal import rows_with_signal

if TYPE_CHECKING:
    from extra_rl.scoring.batches import Piece


class Config(StageConfig):
    """Which rollouts are scored, and how many tokens in one forward pass."""

    sampling: SamplingConfig = Field(description="shared section `sampling`: scores are taken at its temperature")
    compute: ComputeConfig = Field(description="shared section `compute`")
    rows: Literal["all", "signal"] = Field(
        "all",
        description="`signal`: only rollouts that may carry a signal are scored; the others have null for logprobs "
        "and entropies (docs/sampling.md)",
    )
    layout: Layout = Field(
        "auto", description=f"set the same as in `update`, or every ratio starts with a rounding error; {DESCRIPTION}"
    )
    tokens_per_batch: int = Field(
        8192, ge=1, description="maximum tokens of one forward pass; padding counts, shared tokens count once"
    )


class Derived(Section):
    """Values that follow from other sections, with `rows: signal`."""

    joined: bool = Field(False, description="advantage.group is `joined`: parents complete the groups of continuations")
    bonus: bool = Field(False, description="advantage.weight is above 0: correct rollouts carry a signal")
    zero_variance: bool = Field(
        False, description="advantage.zero_variance_weight is above 0: every judged rollout may carry a signal"
    )
    segments: bool = Field(
        False, description="advantage.credit is `segment`: rewards of parents give credit to prefixes"
    )


STAGE = Stage(
    name="score_entropy",
    version=3,
    reads={
        "rollouts": contracts.Rollouts,
        "policy": PolicyDirectory,
        "verify?": contracts.Verdicts,
        "parents?": contracts.Rollouts,
        "parents_verify?": contracts.Verdicts,
        "parents_scores?": contracts.TokenScores,
        "parents_policy?": PolicyDirectory,
    },
    writes={"score_entropy": contracts.TokenScores},
    derived=Derived,
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Return one row per rollout, in the order of the rollouts, then the parents that were not scored before."""
    rollouts, parents = rows_to_score(inputs, config, context.derived)
    calls = [(rollouts, inputs.policy())]
    if len(parents):
        calls.append((parents, inputs.policy("parents_policy")))
        # One policy for both, as in a first iteration: its model is loaded once.
        if len({read_manifest(policy)["digest"] for _, policy in calls}) == 1:
            calls = [(pl.concat([rollouts, parents]), inputs.policy())]
    progress = context.progress(len(rollouts) + len(parents), f"{context.job.place} score_entropy: rollout")
    batches: list[Piece] = []
    scored: list[pl.DataFrame] = [contracts.TokenScores.create_empty()]
    for rows, policy in calls:
        if len(rows):
            table, made = score(rows, policy, config, progress.update)
            scored.append(table)
            batches += made
    scores = pl.concat(scored)
    if len(scores):
        from extra_rl.scoring.batches import token_shares

        context.figures |= token_shares(batches)
        source = str(inputs.paths.get("rollouts", "the rollouts"))
        check_mismatch(pl.concat([rollouts, parents]), scores, config.compute.precision, source, context)
    ids = pl.concat([inputs["rollouts"].select("rollout_id"), parents.select("rollout_id")])
    table = ids.join(scores, on="rollout_id", how="left", maintain_order="left")
    return {"score_entropy": contracts.TokenScores.cast(table.with_columns(pl.col("computed_tokens").fill_null(0)))}


def rows_to_score(inputs: Inputs, config: Config, derived: Derived) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rollouts to score, and those of their parents that have no scores yet.

    Raises ConfigError where `rows: signal` is configured and the verdicts are missing.
    """
    rollouts = inputs["rollouts"]
    if config.rows == "all":
        return rollouts, rollouts.clear()
    if "verify" not in inputs.tables:
        raise ConfigError("score_entropy.rows: signal reads the verdicts of the rollouts: pass their file as `verify`.")
    judged = rollouts.join(inputs["verify"], on="rollout_id", how="left", maintain_order="left")
    previous = inputs["parents"].join(inputs["parents_verify"], on="rollout_id", how="left", maintain_order="left")
    rows, parents = rows_with_signal(judged, previous, **derived.model_dump())
    known = inputs["parents_scores"].filter(pl.col("policy_logprobs").is_not_null())
    new = parents.join(known, on="rollout_id", how="anti", maintain_order="left")
    return rows.select(rollouts.columns), new.select(rollouts.columns)


def score(
    rollouts: pl.DataFrame, policy: Path, config: Config, done: Callable[[int], object]
) -> tuple[pl.DataFrame, list[Piece]]:
    """Return TokenScores of the rollouts under a policy, in their order, and the micro-batches of the computation.

    done: called with the number of rollouts of each finished micro-batch. Raises NumericalError for a logprob that is
    not finite.
    """
    import torch

    from extra_rl.models.policy import load_policy_model
    from extra_rl.scoring.batches import TokenSequence, computed_of_rows, fill, pieces_of
    from extra_rl.scoring.layout import budget_of, chosen, token_statistics

    device, precision = acquire(config.compute), config.compute.precision
    model = load_policy_model(policy, device=device)
    sequences = [
        TokenSequence(prompt, response)
        for prompt, response in zip(rollouts["prompt_tokens"], rollouts["response_tokens"], strict=True)
    ]
    layout = chosen(config.layout, model)
    budget = budget_of(layout, model, config.tokens_per_batch)
    batches = fill(pieces_of(sequences, layout, budget), layout, budget)
    logprobs: list[list[float]] = [[] for _ in sequences]
    entropies: list[list[float]] = [[] for _ in sequences]
    computed = [0 for _ in sequences]
    with torch.inference_mode():
        for piece in batches:
            rows = piece.rows
            batch = [sequences[row] for row in rows]
            logprob_BT, entropy_BT, _ = token_statistics(model, batch, config.sampling.temperature, precision, layout)
            tokens_B = computed_of_rows(piece, sequences, layout)
            values = zip(rows, logprob_BT.tolist(), entropy_BT.tolist(), tokens_B, strict=True)
            for row, logprob_T, entropy_T, tokens in values:
                count = len(sequences[row].response)
                logprobs[row], entropies[row], computed[row] = logprob_T[:count], entropy_T[:count], tokens
            done(len(rows))
    bad = [i for i, row in enumerate(logprobs) if not all(-float("inf") < v < float("inf") for v in row)]
    if bad:
        raise NumericalError(
            f"the policy {policy} gives a logprob that is not finite, first for rollout "
            f"{rollouts['rollout_id'][bad[0]]}. The previous update diverged: lower update.learning_rate."
        )
    columns = {"policy_logprobs": logprobs, "entropies": entropies, "computed_tokens": computed}
    frame = pl.DataFrame({"rollout_id": rollouts["rollout_id"], **columns})
    return contracts.TokenScores.cast(frame), batches
