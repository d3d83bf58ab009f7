"""Dynamic sampling: rounds of new problems, until enough groups have both correct and incorrect rollouts.

Source: DAPO, arXiv 2503.14476, section 3.2; the size of a round (the number of groups still missing): our decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.judging.dispatch import judge_rollouts
from extra_rl.judging.reward import RewardRule, rewarded
from extra_rl.sampling.rollouts import Plan


def further_rounds(
    first: pl.DataFrame,
    spare: Sequence[Sequence[Plan]],
    *,
    target: int,
    rounds: int,
    roll: Callable[[int, int, Sequence[Plan]], pl.DataFrame],
    count_mixed: Callable[[pl.DataFrame], int],
) -> pl.DataFrame:
    """Return the rollouts of round 1 and of further rounds, at most `rounds` in all.

    A round samples as many groups, the next of `spare`, as mixed groups are still missing. The last round is the one
    after which none is missing or no group is left. The table contains everything that was sampled.

    Args:
        first: rollouts of round 1.
        spare: plans of further groups, in the order in which they are sampled.
        target: number of mixed groups to reach.
        rounds: largest number of rounds.
        roll: (number of the round, missing groups, plans) -> rollouts.
        count_mixed: rollouts -> number of mixed groups.
    """
    tables, missing = [first], target
    for number in range(2, rounds + 1):
        missing -= count_mixed(tables[-1])
        groups, spare = spare[: max(missing, 0)], spare[max(missing, 0) :]
        plans = [plan for group in groups for plan in group]
        if not plans:
            break
        tables.append(roll(number, missing, plans))
    return pl.concat(tables)


def mixed_groups(
    rollouts: pl.DataFrame,
    train: pl.DataFrame,
    task: TaskConfig,
    verifier: VerifierConfig,
    weights: Mapping[str, float] | None = None,
) -> int:
    """Return the number of fresh groups whose judged rollouts have different rewards.

    Args:
        rollouts: of the latest round.
        train: problems with their answers.
        task, verifier: select the judge and its limits.
        weights: `verify.weights`. `verify.rewards` has no effect here: verdicts have their default rewards.
    """
    fresh = rollouts.filter(pl.col("origin") == "fresh")
    rows = fresh.join(
        train.select("problem_id", "problem", "metadata", "relative_tolerance", "absolute_tolerance", gold="answer"),
        on="problem_id",
        how="left",
        maintain_order="left",
    )
    found = rewarded(rows, judge_rollouts(rows, task, verifier), RewardRule(weights=weights or {}))
    rewards = [one.reward for one in found]
    groups = rows.select("group_id", reward=pl.Series(rewards, dtype=pl.Float64)).drop_nulls().group_by("group_id")
    return int(groups.agg(mixed=pl.col("reward").n_unique() > 1)["mixed"].sum())
