"""Sampling in rounds: of new problems until enough groups are mixed, or of the same problems until each group is.

Source: new problems: DAPO, arXiv 2503.14476, section 3.2; the size of a round (the number of groups still missing): our
decision. The same problems: Reinforce-Ada, arXiv 2510.04996. Half groups: our decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.judging.dispatch import judge_rollouts
from extra_rl.judging.reward import RewardRule, rewarded
from extra_rl.sampling.rollouts import Plan
from extra_rl.verdict import Verdict


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


def same_problem_rounds(
    first: pl.DataFrame,
    further: Sequence[Sequence[Plan]],
    *,
    roll: Callable[[int, int, Sequence[Plan]], pl.DataFrame],
    judge: Callable[[pl.DataFrame], pl.DataFrame],
    goes_on: pl.Expr,
) -> pl.DataFrame:
    """Return the rollouts of round 1 and of further rounds, in which only some of the same groups are sampled again.

    The table contains everything that was sampled. It ends with the round after which no group goes on.

    Args:
        first: rollouts of round 1.
        further: for each further round, the plans of all groups.
        roll: (number of the round, groups that go on, plans) -> rollouts.
        judge: rollouts -> (group_id, reward, right), one row per judged fresh rollout.
        goes_on: whether a group is sampled again, an expression over all judged rollouts of it so far. A group without
            a judged rollout is not.
    """
    tables, judged = [first], judge(first)
    active = set(first.filter(pl.col("origin") == "fresh")["group_id"])
    for number, plans in enumerate(further, start=2):
        wanted = judged.group_by("group_id").agg(goes_on=goes_on).filter("goes_on")["group_id"]
        active &= set(wanted)
        chosen = [plan for plan in plans if plan.group_id in active]
        if not chosen:
            break
        tables.append(roll(number, len(active), chosen))
        judged = pl.concat([judged, judge(tables[-1])])
    return pl.concat(tables)


def lacks(right: int, wrong: int) -> pl.Expr:
    """Whether a group has fewer than `right` correct or `wrong` incorrect judged rollouts."""
    return (pl.col("right").sum() < right) | ((~pl.col("right")).sum() < wrong)


def is_mixed() -> pl.Expr:
    """Whether the judged rollouts of a group have different rewards."""
    return pl.col("reward").n_unique() > 1


def mixed_groups(
    rollouts: pl.DataFrame,
    train: pl.DataFrame,
    task: TaskConfig,
    verifier: VerifierConfig,
    weights: Mapping[str, float] | None = None,
) -> int:
    """Return the number of fresh groups whose judged rollouts have different rewards (`judged_rollouts`)."""
    groups = judged_rollouts(rollouts, train, task, verifier, weights).group_by("group_id")
    return int(groups.agg(mixed=is_mixed())["mixed"].sum())


def judged_rollouts(
    rollouts: pl.DataFrame,
    train: pl.DataFrame,
    task: TaskConfig,
    verifier: VerifierConfig,
    weights: Mapping[str, float] | None = None,
) -> pl.DataFrame:
    """Return (group_id, reward, right) of the fresh rollouts that could be judged; right: a correct verdict.

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
    made = rows.select(
        "group_id",
        reward=pl.Series([one.reward for one in found], dtype=pl.Float64),
        right=pl.Series([one.judgement.verdict is Verdict.RIGHT for one in found], dtype=pl.Boolean),
    )
    return made.drop_nulls("reward")
