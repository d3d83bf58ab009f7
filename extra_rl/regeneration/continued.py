"""What became of earlier choices: the judged continuations that an iteration can read, by prefix and by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from extra_rl.results import replayed_group
from extra_rl.tables.iteration import TablesByRole, rollouts_of
from extra_rl.tables.signal import is_replay


class Outcome(NamedTuple):
    """Judged continuations of a prefix or a stored trajectory: correct ones, all, and the tokens sampled for all."""

    right: int
    judged: int
    sampled_tokens: int


def continuations(tables: TablesByRole | Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The judged continuations whose outcome is new to this iteration, with verdicts, and `replayed`.

    Those that were queued are in `generate`; those of the previous iteration's second sampling call are in
    `previous_regenerate`, because they were judged after that iteration's choice.
    """
    rows = pl.concat(
        [
            rollouts_of(tables, "generate", scores=("verify",)),
            rollouts_of(tables, "regenerate", "previous_", scores=("verify",)),
        ]
    )
    found = rows.filter(pl.col("origin") == "regenerated", pl.col("reward").is_not_null())
    return found.with_columns(replayed=is_replay())


def outcomes_by(continued: pl.DataFrame, name: str) -> dict[str, Outcome]:
    """The outcome of the continuations for each value of column `name`."""
    found = continued.group_by(name, maintain_order=True).agg(
        (pl.col("verdict") == "right").sum(), pl.len(), pl.col("sampled_tokens").sum()
    )
    return {key: Outcome(*values) for key, *values in found.iter_rows()}


def outcomes_of_stored(continued: pl.DataFrame) -> dict[str, Outcome]:
    """The outcome of the replays of each stored trajectory, by the group in which the trajectory was found."""
    replays = outcomes_by(continued.filter("replayed"), "group_id")
    return {replayed_group(group): outcome for group, outcome in replays.items()}
