"""Choose the groups that the page shows, spread over arms, seeds, iterations and kinds, in a fixed order."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from extra_rl.results import RunFolder
from extra_rl.tables.signal import is_replay
from extra_rl.verdict import UNJUDGED

KINDS = ("rescued", "mixed", "replayed", "regenerated", "all_correct", "all_incorrect", "excluded")
"""Kinds of groups. `rescued`: continued, with a correct continuation. `regenerated`: continued, without one.
`replayed`: replays of a stored trajectory, with or without a correct one. `excluded`: no fresh rollout was judged
(yet). The others were not continued."""
CONTINUED = ("rescued", "replayed", "regenerated")
"""Kinds with rollouts that continue a prefix."""
ROLLOUTS_A_RUN = 48
"""Every arm is shown with its first seed, and with further seeds if each can have this many rollouts. Source: our
decision."""
MOST_TOGETHER = 64
"""Maximum number of rollouts of a group and its parents' groups that are shown together. Source: our decision."""
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Group:
    """A group of fresh rollouts with their continuations. parents: the groups that its prefixes came from."""

    name: str
    iteration: int
    size: int
    kind: str
    parents: tuple[str, ...]


def choose_groups(results: Path, limit: int, places: Container[str] | None = None) -> dict[Path, dict[str, str]]:
    """Return folder of an arm and seed -> group to show -> its kind; at most `limit` rollouts, without randomness.

    All arms are covered first, then their seeds. Each run shows its first, middle and last iteration, then continued
    groups from all iterations, then others up to the limit. A group is shown with its continuations and its parents'
    groups (up to `MOST_TOGETHER` rollouts), or not at all. places: `{arm}/s{seed}` of the runs to show; None: all.
    """
    runs = [run for run in runs_of(results) if places is None or f"{run.parent.name}/{run.name}" in places]
    arms = len({run.parent for run in runs})
    runs = runs[: max(arms, limit // ROLLOUTS_A_RUN)]
    groups = {run: groups_of(run) for run in runs}
    queues = {run: deque(order_of(list(found.values()), shift)) for shift, (run, found) in enumerate(groups.items())}
    smallest = min((group.size for found in groups.values() for group in found.values()), default=0)
    chosen: dict[Path, dict[str, None]] = {run: {} for run in runs}
    left = limit
    while left >= smallest and any(queues.values()):
        for run in runs:
            while queues[run]:
                first = queues[run].popleft()
                new = [name for name in together(first, groups[run]) if name not in chosen[run]]
                size = sum(groups[run][name].size for name in new)
                if new and size <= left:
                    chosen[run] |= dict.fromkeys(new)
                    left -= size
                    break
    return {run: {name: groups[run][name].kind for name in names} for run, names in chosen.items() if names}


def runs_of(results: Path) -> list[Path]:
    """Return the folders of arms and seeds with rollouts: every arm's first seed, then every arm's second, ..."""
    arms: dict[str, list[tuple[int, Path]]] = {}
    for run in RunFolder.below(results):
        if run.iterations():
            arms.setdefault(run.arm, []).append((run.seed, run.path))
    ranked = [(rank, arm, run) for arm, found in arms.items() for rank, (_, run) in enumerate(sorted(found))]
    return [run for _, _, run in sorted(ranked)]


def groups_of(run: Path) -> dict[str, Group]:
    """Return every group of an arm and seed by name, in the order of sampling."""
    rows = pl.concat(list(_scans(run)), how="diagonal").collect()
    group_of = dict(rows.select("rollout_id", "group_id").iter_rows())
    right = pl.col("verdict") == "right"
    guided = pl.col("origin") == "regenerated"
    judged = ~guided & pl.col("verdict").is_not_null() & ~pl.col("verdict").is_in(UNJUDGED)
    table = rows.group_by("group_id", maintain_order=True).agg(
        iteration=pl.col("iteration").min(),
        size=pl.len(),
        fresh=judged.sum(),
        fresh_right=(judged & right).sum(),
        continued=guided.any(),
        replayed=is_replay().any(),
        rescued=(guided & right).any(),
        parents=pl.col("parent_rollout_id").drop_nulls().unique(maintain_order=True),
    )
    found = {}
    for row in table.iter_rows(named=True):
        name = row["group_id"]
        parents = dict.fromkeys(group_of[parent] for parent in row["parents"] if parent in group_of)
        parents.pop(name, None)
        found[name] = Group(name, row["iteration"], row["size"], _kind(row), tuple(parents))
    return found


def _scans(run: Path) -> Iterable[pl.LazyFrame]:
    columns = ["rollout_id", "group_id", "origin", "parent_rollout_id"]
    for iteration, folder in RunFolder(run).iterations().items():
        for source in ("generate", "regenerate"):
            rollouts, verdicts = folder / f"{source}.parquet", folder / f"verify_{source}.parquet"
            if not rollouts.is_file():
                continue
            rows = pl.scan_parquet(rollouts, glob=False).select(*columns, iteration=pl.lit(iteration))
            if verdicts.is_file():
                judged = pl.scan_parquet(verdicts, glob=False).select("rollout_id", pl.col("verdict").cast(pl.String))
                rows = rows.join(judged, on="rollout_id", how="left", maintain_order="left")
            else:
                rows = rows.with_columns(verdict=pl.lit(None, pl.String))
            yield rows.with_columns(pl.col("origin").cast(pl.String))


def _kind(row: Mapping[str, int]) -> str:
    if row["replayed"]:
        return "replayed"
    if row["continued"]:
        return "rescued" if row["rescued"] else "regenerated"
    if not row["fresh"]:
        return "excluded"
    if row["fresh_right"] in (0, row["fresh"]):
        return "all_correct" if row["fresh_right"] else "all_incorrect"
    return "mixed"


def order_of(groups: Sequence[Group], shift: int) -> list[Group]:
    """Return the groups in the order in which the page takes them. shift: which kind comes first.

    There is a queue for each combination of kind and cell (first, middle, last iteration, all continued groups). Queues
    are served in turn, so that neighbours differ in both; groups in no queue come last.
    """
    iterations = sorted({group.iteration for group in groups})
    if not iterations:
        return []
    cells: list[list[Group]] = [
        [group for group in groups if group.iteration == iteration]
        for iteration in dict.fromkeys([iterations[0], iterations[len(iterations) // 2], iterations[-1]])
    ]
    cells.append([group for group in groups if group.kind in CONTINUED])
    queues = []
    for turn in range(len(KINDS)):
        for place, cell in enumerate(cells):
            kind = KINDS[(turn + place + shift) % len(KINDS)]
            queues.append(spread_out([group for group in cell if group.kind == kind]))
    ordered = [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)]
    return list(dict.fromkeys([*ordered, *spread_out(list(groups))]))


def spread_out(groups: list[Group]) -> list[Group]:
    """Return the groups in an order whose every prefix is spread evenly over the list (golden ratio sequence)."""
    return [groups[i] for i in sorted(range(len(groups)), key=lambda i: i * GOLDEN % 1)]


def together(group: Group, groups: Mapping[str, Group]) -> list[str]:
    """Return the group and its ancestors' groups, nearest first, up to `MOST_TOGETHER` rollouts."""
    names, size = {group.name: None}, group.size
    waiting = list(group.parents)
    while waiting:
        name = waiting.pop(0)
        if name in names or size + groups[name].size > MOST_TOGETHER:
            continue
        names[name] = None
        size += groups[name].size
        waiting += groups[name].parents
    return list(names)
