"""Joins of the tables of one iteration that several stages need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import polars as pl


class TablesByRole(Protocol):
    """An object that maps roles to tables: a stage's inputs, or a plain mapping."""

    def __getitem__(self, role: str) -> pl.DataFrame: ...


SCORES = ("verify", "score_entropy")
"""Stages that judge or score the rollouts of `generate` and of `regenerate`, with one file for each of them."""


def all_rollouts(
    tables: TablesByRole | Mapping[str, pl.DataFrame], prefix: str = "", scores: Sequence[str] = SCORES
) -> pl.DataFrame:
    """The rollouts of `generate`, then of `regenerate`, with their verdicts and token scores, in their order.

    prefix: "previous_" for the tables of the previous iteration. scores: the stages of `SCORES` that are joined.
    """
    return pl.concat([rollouts_of(tables, source, prefix, scores) for source in ("generate", "regenerate")])


def rollouts_of(
    tables: TablesByRole | Mapping[str, pl.DataFrame],
    source: str,
    prefix: str = "",
    scores: Sequence[str] = SCORES,
) -> pl.DataFrame:
    """The rollouts of one sampling stage with their verdicts and token scores, in their order.

    Args:
        tables: roles and their tables.
        source: `generate` or `regenerate`.
        prefix: "previous_" for the tables of the previous iteration.
        scores: the stages of `SCORES` that are joined.
    """
    joined = tables[f"{prefix}{source}"]
    for stage in scores:
        joined = joined.join(tables[f"{prefix}{stage}_{source}"], on="rollout_id", how="left", maintain_order="left")
    return joined
