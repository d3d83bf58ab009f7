"""Distinct solutions: texts of correct samples, ignoring white space."""

from __future__ import annotations

import polars as pl

from extra_rl.report.tables import distinct_solutions
from extra_rl.tables import contracts


def samples(*rows: tuple[str, str, str, str]) -> pl.DataFrame:
    """Of (benchmark, problem, verdict, response)."""
    names = ("benchmark", "problem_id", "verdict", "response")
    frame = pl.DataFrame([dict(zip(names, row, strict=True)) for row in rows], schema=dict.fromkeys(names, pl.String))
    return frame.with_columns(pl.col("verdict").cast(contracts.EvaluationSamples.create_empty().schema["verdict"]))


def test_texts_of_correct_samples_count_once() -> None:
    table = samples(
        ("L2", "b", "right", "1 + 2 = 3"),
        ("L2", "b", "right", " 1 + 2\n=  3\t"),
        ("L2", "b", "right", "2 + 1 = 3"),
        ("L2", "b", "wrong", "3"),
        ("L1", "a", "wrong", "4"),
        ("L1", "c", "right", "5"),
    )
    assert distinct_solutions(table).rows() == [("L2", "b", 3, 2), ("L1", "a", 0, 0), ("L1", "c", 1, 1)]


def test_an_evaluation_without_samples_has_no_rows() -> None:
    found = distinct_solutions(samples())
    assert found.rows() == []
    assert found.columns == ["benchmark", "problem_id", "right", "distinct"]
    assert found.schema["distinct"] == pl.Int64
