"""Two checks that may end a run: sampler and policy differ too much, or several iterations gave nothing to learn from.

Neither changes a byte of any table, so their keys are no part of a stage's section: they reach a stage through the
run's context (`extra_rl.run.context`). A run that one of them has stopped continues from where it stopped, with other
values of the keys and the same command.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl

from extra_rl.algorithms.mismatch import TOLERANCE, mismatch
from extra_rl.errors import NoSignalError, NumericalError
from extra_rl.results import RunFolder, iteration_name
from extra_rl.run.context import Guards
from extra_rl.run.records import MISMATCH_TOLERANCE
from extra_rl.run.stage import Context
from extra_rl.tables.signal import OF_USEFUL_GROUPS, useful_groups


def tolerance_of(guards: Guards, precision: str) -> float:
    """Return the tolerance on the mean absolute difference, in nats. precision: `compute.precision`.

    Measured noise of the transformers sampler on a CPU at temperatures from 0.6 to 1.5 (docs/sampling.md): at most 3e-5
    in float32, and 0.012 in bfloat16 for trained models; random ones with unusually large weights reach 0.8. A stale
    output head differed by 0.45. Where `mismatch_tolerance` is set, it is taken unchanged.
    """
    return TOLERANCE[precision] if guards.mismatch_tolerance is None else guards.mismatch_tolerance


def check_mismatch(rollouts: pl.DataFrame, scores: pl.DataFrame, precision: str, source: str, context: Context) -> None:
    """Compare the logprobs of sampler and policy over the tokens that this iteration sampled.

    The tokens of a prefix are left out: a previous policy sampled them. Writes mean, maximum and tolerance into the
    stage's run record. Beyond the tolerance it warns on the console or raises, depending on `on_mismatch`.

    Args:
        rollouts: `contracts.Rollouts`.
        scores: `contracts.TokenScores`, one row a rollout, in the same order.
        precision: `compute.precision`, which sets the default tolerance.
        source: the file of the rollouts, for the message.
        context: of the stage that computed the scores.

    Raises NumericalError beyond the tolerance, and for a difference that is not finite even with `on_mismatch: warn`.
    Source: our decision.
    """
    sampled = rollouts.select("rollout_id", "prefix_length", "sampler_logprobs").with_columns(scores["policy_logprobs"])
    sampled = sampled.filter(pl.col("sampler_logprobs").is_not_null())  # not known of an imported rollout
    columns = ("policy_logprobs", "sampler_logprobs")
    tokens = sampled.select(
        "rollout_id", *(pl.col(name).list.slice(pl.col("prefix_length")).cast(pl.List(pl.Float64)) for name in columns)
    ).explode(columns, empty_as_null=False)
    if tokens.is_empty():
        return
    guards = context.run.guards
    tolerance = tolerance_of(guards, precision)
    size = (tokens["policy_logprobs"] - tokens["sampler_logprobs"]).abs()
    faulty = (~size.is_finite()).arg_true()
    worst = faulty[0] if len(faulty) else size.arg_max()
    assert worst is not None
    rollout = tokens["rollout_id"][worst]
    if len(faulty):
        raise NumericalError(
            f"{source}: the sampler's logprob of {len(faulty)} of {len(tokens)} sampled tokens is not finite, first in "
            f"rollout {rollout}, while the policy's own are. The sampler is at fault: use sampling.backend: "
            "transformers, or another version of vLLM. Delete the file and run again; snakemake rebuilds it."
        )
    mean = mismatch(*(tokens[name].to_numpy() for name in columns)).mean
    assert mean is not None
    context.figures |= {"mismatch_mean": mean, "mismatch_max": size[worst], MISMATCH_TOLERANCE: tolerance}
    if mean <= tolerance:
        return
    found = (
        f"{source}: sampler and policy differ by {mean:.4g} nats on average over {len(tokens)} sampled tokens, at most "
        f"by {size[worst]:.4g} (rollout {rollout}); the tolerance is {tolerance:g}. The sampler does not sample from "
        "the policy that is trained: its weights are stale, or its kernels, precision, temperature or model code "
        "differ. "
    )
    if guards.on_mismatch == "stop":
        raise NumericalError(
            f"{found}Check `extra doctor MODEL`, or use sampling.backend: transformers. If only rounding differs, "
            "raise mismatch_tolerance; with on_mismatch: warn the same command continues from here."
        )
    context.console.say(f"WARNING: {context.job.title}: {found}The run continues (on_mismatch: warn).")


class Iteration(NamedTuple):
    """Groups of a finished iteration. useful: groups in which trained rollouts have different rewards."""

    number: int
    rollouts: int
    groups: int
    all_correct: int
    all_incorrect: int
    useful: int


def refuse_without_signal(previous_summarize: Path | None, context: Context) -> None:
    """Raise NoSignalError when the last `stop_without_signal` iterations of this arm and seed had no useful group.

    A group is useful if `update` learns from it and its rewards differ, continuations included. Optimizer steps do not
    show that: KL and entropy terms cause steps without any group, and the novelty bonus does in groups that are all
    correct. Iterations without a rollout, whose budget was spent, do not count. Finished iterations are looked up next
    to the previous one; outside a run's folder nothing is checked.
    """
    limit = context.run.guards.stop_without_signal
    number = context.job.iteration - 1
    if not limit or previous_summarize is None or previous_summarize.parent.name != iteration_name(number):
        return
    run = RunFolder(previous_summarize.parents[1])
    dry: list[Iteration] = []
    while number >= 0 and len(dry) < limit:
        found = read_iteration(run.iteration(number), number)
        if found is None or found.useful:
            return
        if found.rollouts:
            dry.append(found)
        number -= 1
    if len(dry) < limit:
        return
    raise NoSignalError(_without_signal(f"{context.job.arm}/s{context.job.seed}", dry, limit))


def read_iteration(folder: Path, number: int) -> Iteration | None:
    """Return the groups of a finished iteration; None where its tables no longer exist."""
    summary, advantage = folder / "summarize.parquet", folder / "advantage.parquet"
    if not (summary.is_file() and advantage.is_file()):
        return None
    row = pl.read_parquet(summary).row(0, named=True)
    return Iteration(
        number=number,
        rollouts=row["rollouts"],
        groups=row["groups"],
        all_correct=row["all_correct"],
        all_incorrect=row["all_incorrect"],
        useful=useful_groups(pl.read_parquet(advantage, columns=list(OF_USEFUL_GROUPS))),
    )


def _without_signal(run: str, dry: list[Iteration], limit: int) -> str:
    """The error message: what was found, what it means, what to do. dry: iterations without a signal, last first."""
    groups, correct, incorrect = (
        sum(getattr(found, name) for found in dry) for name in ("groups", "all_correct", "all_incorrect")
    )
    where = f"iteration {dry[0].number}" if limit == 1 else f"iterations {dry[-1].number} to {dry[0].number}"
    advice = (
        "harder problems (task, select.level_weights)"
        if correct > incorrect
        else "easier problems (task, select.level_weights), a larger generate.group_size, or continuations of failed "
        "rollouts (preset: prototype)"
    )
    return (
        f"{run}: {where} had no group to learn from (stop_without_signal: {limit}). Of {groups} fresh groups, "
        f"{correct} were all correct and {incorrect} all incorrect. Equal rewards give no advantage, so the policy "
        f"does not improve. Groups become mixed with {advice}, or with another sampling.temperature. Nothing is lost: "
        f"to continue with iteration {dry[0].number + 1}, raise or remove stop_without_signal and run the same command "
        "again."
    )
