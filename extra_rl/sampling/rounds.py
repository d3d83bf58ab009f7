"""Dynamic sampling: rounds of new problems, until enough groups are neither all right nor all wrong.

Source: DAPO, arXiv 2503.14476, section 3.2; a round no larger than what is missing: our decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.judging.dispatch import judge_rollouts
from extra_rl.sampling.rollouts import Plan, Roll
from extra_rl.verdict import DEFAULT_REWARDS


def further_rounds(
    first: pl.DataFrame,
    spare: Sequence[Sequence[Plan]],
    *,
    wanted: int,
    rounds: int,
    roll: Roll,
    count_mixed: Callable[[pl.DataFrame], int],
    announce: Callable[[int, int, int], object],
) -> pl.DataFrame:
    """The rollouts of round 1 (`first`) and of the further ones, at most `rounds` in all.

    A round samples as many groups, the next of `spare` (plans by group), as are still missing of `wanted` mixed ones.
    It is the last one when none is missing or no group is spare. announce(round, missing, rollouts) is called before
    each. All that was sampled is in the table.
    """
    tables, missing = [first], wanted
    for number in range(2, rounds + 1):
        missing -= count_mixed(tables[-1])
        groups, spare = spare[: max(missing, 0)], spare[max(missing, 0) :]
        plans = [plan for group in groups for plan in group]
        if not plans:
            break
        announce(number, missing, len(plans))
        tables.append(roll(plans))
    return pl.concat(tables)


def mixed_groups(rollouts: pl.DataFrame, train: pl.DataFrame, task: TaskConfig, verifier: VerifierConfig) -> int:
    """How many fresh groups have a right and a judged other rollout, by the task's own verifier and own gold.

    What is judged at all is that of the default rewards: `verify.rewards` has no say here.
    """
    fresh = rollouts.filter(pl.col("origin") == "fresh")
    rows = fresh.join(
        train.select("problem_id", "problem", "metadata", "relative_tolerance", "absolute_tolerance", gold="answer"),
        on="problem_id",
        how="left",
        maintain_order="left",
    )
    rewards = [DEFAULT_REWARDS[judgement.verdict] for judgement in judge_rollouts(rows, task, verifier)]
    groups = rows.select("group_id", reward=pl.Series(rewards, dtype=pl.Float64)).drop_nulls().group_by("group_id")
    return int(groups.agg(mixed=pl.col("reward").n_unique() > 1)["mixed"].sum())
