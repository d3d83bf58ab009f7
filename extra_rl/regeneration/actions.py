"""What is done for each hard group: prefixes, more rollouts of its problem, or nothing (`action: cheapest`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from extra_rl.algorithms.cheapest import (
    Action,
    Beta,
    cheapest,
    fit_beta,
    useful_by_branching,
    useful_by_resampling,
)
from extra_rl.regeneration.candidates import Candidate
from extra_rl.tables import contracts


@dataclass(frozen=True)
class Decision:
    """The candidates of a hard group with rank and copies, and why.

    rows: candidates; those that wait have no copies. branch, resample: expected useful groups per token; None: not
    possible or not estimated. waits: whether other groups were better, and only `groups` of them are served.
    """

    rows: list[Candidate]
    action: Action
    branch: float | None = None
    resample: float | None = None
    waits: bool = False


@dataclass(frozen=True)
class Market:
    """What useful groups cost by the results of recent groups, and how much is sampled for a hard one.

    price: useful groups per token of fresh problems. prior: of pass rates. results: group -> row of
    contracts.FreshGroups. prefixes, continuations: `prefixes_per_problem` and `continuations_per_prefix`.
    """

    price: float
    prior: Beta
    results: Mapping[str, Mapping[str, Any]]
    prefixes: int
    continuations: int

    @classmethod
    def of(cls, groups: pl.DataFrame, since: int, prefixes: int, continuations: int) -> Market:
        """The market of the groups that were sampled in iteration `since` or later. groups: contracts.FreshGroups."""
        recent = groups.filter(pl.col("iteration") >= since)
        tokens = int(recent["sampled_tokens"].sum())
        return cls(
            price=int(recent["mixed"].sum()) / tokens if tokens else 0.0,
            prior=fit_beta(recent["right"].to_numpy(), recent["judged"].to_numpy()),
            results={row["group_id"]: row for row in groups.iter_rows(named=True)},
            prefixes=prefixes,
            continuations=continuations,
        )

    def decide_all(
        self,
        groups: Mapping[str, Sequence[Candidate]],
        ranked: Callable[[str], list[Candidate]],
        *,
        fitted: bool,
        joined: Collection[str],
    ) -> dict[str, Decision]:
        """The decision for each group, in their order.

        Args:
            groups: group_id -> candidates, the empty prefix included.
            ranked: group_id -> its prefixes with rank and copies.
            fitted: as in `decide`.
            joined: groups that their continuations join.
        """
        made = {}
        for group, candidates in groups.items():
            empty = next((one for one in candidates if one.parent_rollout_id is None), None)
            made[group] = self.decide(group, ranked(group), empty, fitted=fitted, joined=group in joined)
        return made

    def decide(
        self, group: str, ranked: Sequence[Candidate], empty: Candidate | None, *, fitted: bool, joined: bool
    ) -> Decision:
        """The decision for one group.

        Args:
            group: its group_id.
            ranked: its prefixes with rank and copies, as `action: branch` would continue them.
            empty: its empty prefix; None for a group that waited since before `action: cheapest`.
            fitted: whether the prefixes have estimates. Before the first fit every group that can be is branched.
            joined: whether the continuations join the group's own rollouts.
        """
        chosen = [one for one in ranked if one.copies]
        if not fitted:
            return self._decision("branch" if chosen else "none", ranked, empty, None, None)
        branch = self._of_branches(chosen, joined) if chosen else None
        known = self.results.get(group)
        resample = self._of_rollouts(known, joined) if known and empty else None
        if joined and known and known["mixed"]:  # the group is useful without further rollouts
            branch = resample = 0.0
        return self._decision(cheapest(branch, resample, self.price), ranked, empty, branch, resample)

    def _of_branches(self, chosen: Sequence[Candidate], joined: bool) -> float:
        q_C = [float(one.estimate or 0.0) for one in chosen]
        tokens = sum(int(one.parent_length or 0) - len(one.prefix_tokens) for one in chosen)
        return useful_by_branching(q_C, self.continuations, separate=not joined) / (self.continuations * tokens)

    def _of_rollouts(self, known: Mapping[str, Any], joined: bool) -> float:
        count = self.prefixes * self.continuations
        useful = useful_by_resampling(self.prior, known["right"], known["judged"], count, separate=not joined)
        return useful / (count * max(1.0, float(known["sampled_tokens"]) / float(known["rollouts"])))

    def _decision(
        self,
        action: Action,
        ranked: Sequence[Candidate],
        empty: Candidate | None,
        branch: float | None,
        resample: float | None,
    ) -> Decision:
        """The empty prefix ranks first if it is chosen, else last."""
        if action == "branch":
            rows = [*([replace(empty, rank=len(ranked))] if empty else []), *ranked]
        elif action == "resample" and empty:
            rows = [replace(empty, copies=self.prefixes), *(replace(o, copies=0, rank=o.rank + 1) for o in ranked)]
        else:
            rows = _unchosen([*([replace(empty, rank=len(ranked))] if empty else []), *ranked])
        return Decision(rows, action, branch, resample)


def best_first(decisions: Mapping[str, Decision], limit: int) -> dict[str, Decision]:
    """The decisions, of which those wait that are not among the `limit` with most useful groups per token.

    Equal ones keep their order. `none` needs no place.
    """
    active = [group for group, one in decisions.items() if one.action != "none"]
    order = sorted(active, key=lambda group: -max(decisions[group].branch or 0.0, decisions[group].resample or 0.0))
    waiting = set(order[limit:])
    return {
        group: replace(one, rows=_unchosen(one.rows), waits=True) if group in waiting else one
        for group, one in decisions.items()
    }


def _unchosen(rows: Sequence[Candidate]) -> list[Candidate]:
    return [replace(one, copies=0) for one in rows]


def fresh_groups(
    previous: pl.DataFrame, fresh: pl.DataFrame, pool: pl.DataFrame, *, iteration: int, kept: int
) -> pl.DataFrame:
    """The table FreshGroups of the latest `kept` iterations, and of older groups that wait.

    Args:
        previous: that of the previous iteration.
        fresh: fresh rollouts of this iteration with verdicts.
        pool: contracts.PrefixPool, with the candidates of groups that wait.
        iteration: this one.
        kept: iterations, this one included.
    """
    rewards = pl.col("reward").drop_nulls()
    new = fresh.group_by("group_id", maintain_order=True).agg(
        iteration=pl.lit(iteration),
        rollouts=pl.len(),
        judged=rewards.len(),
        right=(pl.col("verdict") == "right").sum(),
        mixed=rewards.n_unique() > 1,
        sampled_tokens=pl.col("sampled_tokens").sum(),
    )
    young = pl.col("iteration") > iteration - kept
    waiting = pool.filter("waiting")["group_id"].unique()
    old = previous.filter(young | pl.col("group_id").is_in(waiting.implode()))
    absent = [pl.lit(None, old.schema[name]).alias(name) for name in old.columns if name not in new.columns]
    return contracts.FreshGroups.cast(pl.concat([old, new.with_columns(absent).select(old.columns).cast(old.schema)]))


def with_decisions(
    groups: pl.DataFrame, decisions: Mapping[str, Decision], price: float, iteration: int
) -> pl.DataFrame:
    """The table FreshGroups with the decisions of this iteration. price: useful groups per token."""
    made = [
        {
            "group_id": group,
            "decided": iteration,
            "action": "wait" if one.waits else one.action,
            "branch_per_1000": None if one.branch is None else 1e3 * one.branch,
            "resample_per_1000": None if one.resample is None else 1e3 * one.resample,
            "fresh_per_1000": 1e3 * price,
        }
        for group, one in decisions.items()
    ]
    names = ["group_id", "decided", "action", "branch_per_1000", "resample_per_1000", "fresh_per_1000"]
    new = pl.DataFrame(made, schema={name: groups.schema[name] for name in names}, strict=False)
    found = groups.join(new, on="group_id", how="left", suffix="_now", maintain_order="left")
    is_new = pl.col("decided_now").is_not_null()
    return found.with_columns(
        pl.when(is_new).then(pl.col(f"{name}_now")).otherwise(pl.col(name)).alias(name) for name in names[1:]
    ).select(groups.columns)


def counted(decisions: Mapping[str, Decision], price: float) -> str:
    """The decisions in words, for the log."""
    counts = Counter("wait" if one.waits else one.action for one in decisions.values())
    found = ", ".join(f"{name} {counts[name]}" for name in ("branch", "resample", "none", "wait"))
    return f"hard groups: {found}; fresh problems give {1e3 * price:.3g} useful groups per 1,000 tokens"
