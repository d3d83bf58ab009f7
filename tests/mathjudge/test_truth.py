"""The hand-written pairs of truth.jsonl: every kind is judged as expected, and no incorrect answer is accepted."""

from __future__ import annotations

from collections import Counter

import pytest

from mathjudge import Verdict, judge
from tests.mathjudge.accuracy import truth

ROWS = list(truth())
KINDS = sorted({row["kind"] for row in ROWS})
MIN_ACCURACY = 0.97


@pytest.fixture(scope="module")
def verdicts() -> list[str]:
    return [judge(row["gold"], row["response"]).verdict.value for row in ROWS]


def test_the_pairs_are_many_distinct_and_of_both_kinds() -> None:
    assert len({(row["gold"], row["response"]) for row in ROWS}) == len(ROWS) >= 400
    assert len(KINDS) >= 20
    for kind in KINDS:
        expected = Counter(row["expected"] == "right" for row in ROWS if row["kind"] == kind)
        assert min(expected[True], expected[False]) >= 9, kind
    assert {row["expected"] for row in ROWS} <= {verdict.value for verdict in Verdict}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_judged_as_expected(kind: str, verdicts: list[str]) -> None:
    rows = [(row, verdict) for row, verdict in zip(ROWS, verdicts, strict=True) if row["kind"] == kind]
    missed = [(row, verdict) for row, verdict in rows if (verdict == "right") != (row["expected"] == "right")]
    assert len(missed) <= (1 - MIN_ACCURACY) * len(rows), missed


def test_no_incorrect_answer_is_accepted(verdicts: list[str]) -> None:
    pairs = zip(ROWS, verdicts, strict=True)
    assert [row for row, verdict in pairs if verdict == "right" and row["expected"] != "right"] == []


def test_what_concludes_nothing_has_no_answer(verdicts: list[str]) -> None:
    """Text without a conclusion is `no_answer` and not an answer that happens to differ."""
    rows = [(row, v) for row, v in zip(ROWS, verdicts, strict=True) if row["expected"] == "no_answer"]
    assert len(rows) > 50
    assert [row for row, verdict in rows if verdict != "no_answer"] == []
