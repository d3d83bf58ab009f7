"""Joins within one iteration that several stages need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import polars as pl


class TablesByRole(Protocol):
    """Anything that gives a table for a role: a stage's inputs, or a plain mapping."""

    def __getitem__(self, role: str) -> pl.DataFrame: ...


SCORES = ("verify", "score_entropy")
"""Stages that score the rollouts of `generate` and of `regenerate`, each in a file of its own."""


def all_rollouts(
    tables: TablesByRole | Mapping[str, pl.DataFrame], prefix: str = "", scores: Sequence[str] = SCORES
) -> pl.DataFrame:
    """Fresh and regenerated rollouts with their verdicts and token scores, fresh ones first, order kept.

    prefix: "previous_" for the tables of the former iteration. scores: which of `SCORES` to join.
    """
    return pl.concat([rollouts_of(tables, source, prefix, scores) for source in ("generate", "regenerate")])


def rollouts_of(
    tables: TablesByRole | Mapping[str, pl.DataFrame],
    source: str,
    prefix: str = "",
    scores: Sequence[str] = SCORES,
) -> pl.DataFrame:
    """The rollouts of one sampling stage with their verdicts and token scores, order kept."""
    joined = tables[f"{prefix}{source}"]
    for stage in scores:
        joined = joined.join(tables[f"{prefix}{stage}_{source}"], on="rollout_id", how="left", maintain_order="left")
    return joined
