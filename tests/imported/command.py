"""The command of these tests, and the tables that it writes."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from extra_cli.main import main
from extra_rl.tables import contracts, read_table, scan_iteration


def imported(*words: object) -> int:
    return main(["import", *map(str, words), "--to", "results/x"])


def rows(place: str = "imported/s0/iteration_0000") -> pl.DataFrame:
    return scan_iteration(f"results/x/{place}").collect()


def given(place: str = "imported/s0/iteration_0000") -> pl.DataFrame:
    return read_table(Path("results/x") / place / "imported.parquet", contracts.ImportedRows)
