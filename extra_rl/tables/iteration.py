"""Joins within one iteration that several stages need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import polars as pl


class TablesByRole(Protocol):
    """Anything that gives a table for a role: a stage's inputs, or a plain mapping."""

    def __getitem__(self, role: str) -> pl.DataFrame: ...


def all_rollouts(tables: TablesByRole | Mapping[str, pl.DataFrame], prefix: str = "") -> pl.DataFrame:
    """Fresh and regenerated rollouts with their verdicts and token scores, fresh ones first, order kept.

    prefix: "previous_" for the tables of the former iteration.
    """
    return pl.concat([rollouts_of(tables, "generate", prefix), rollouts_of(tables, "regenerate", prefix)])


def rollouts_of(
    tables: TablesByRole | Mapping[str, pl.DataFrame], source: str, prefix: str = ""
) -> pl.DataFrame:
    """The rollouts of one sampling stage with their verdicts and token scores, order kept."""
    joined = tables[f"{prefix}{source}"]
    for stage in ("verify", "score_entropy"):
        joined = joined.join(
            tables[f"{prefix}{stage}_{source}"], on="rollout_id", how="left", maintain_order="left"
        )
    return joined
