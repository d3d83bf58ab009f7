"""Accuracy of mathjudge and of plain math-verify on the hand-written pairs and on the development pairs, as a table.

    EXTRA_TEST_DATA=FOLDER python -m tests.mathjudge.accuracy

A pair counts as correct if "right" is given exactly where it is expected. math-verify runs with its default settings;
a reference answer without a box or dollar signs is set between dollar signs, as its README asks.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TRUTH = Path(__file__).with_name("truth.jsonl")
"""Pairs by kind, in the hand of this project: `kind`, `gold`, `response`, `expected` (a value of Verdict)."""


@dataclass
class Score:
    """How many pairs of a set were judged, judged correctly, and accepted although they are incorrect."""

    pairs: int = 0
    correct: int = 0
    accepted: int = 0

    def add(self, given: bool, expected: bool) -> None:
        self.pairs += 1
        self.correct += given == expected
        self.accepted += given and not expected

    @property
    def percent(self) -> float:
        return 100 * self.correct / self.pairs


def truth() -> Iterator[dict[str, str]]:
    """Yield the rows of truth.jsonl."""
    for line in TRUTH.read_text().splitlines():
        yield json.loads(line)


def scores(accepts: Callable[[str, str], bool], rows: list[tuple[str, str, str, bool]]) -> dict[str, Score]:
    """Return the score of each set. accepts: whether a response matches a reference; rows: set, both texts, expected."""
    found: dict[str, Score] = {}
    for name, reference, response, expected in rows:
        found.setdefault(name, Score()).add(accepts(reference, response), expected)
    return found


def by_mathjudge(reference: str, response: str) -> bool:
    from mathjudge import Verdict, judge

    return judge(reference, response).verdict is Verdict.RIGHT


def by_math_verify(reference: str, response: str) -> bool:
    from math_verify import parse, verify

    marked = reference if "$" in reference or "\\boxed" in reference else f"${reference}$"
    return bool(verify(parse(marked), parse(response)))


def rows() -> list[tuple[str, str, str, bool]]:
    """Return the hand-written pairs by kind, and the unflagged development pairs if EXTRA_TEST_DATA names their folder."""
    found = [(row["kind"], row["gold"], row["response"], row["expected"] == "right") for row in truth()]
    if root := os.environ.get("EXTRA_TEST_DATA"):
        import polars as pl

        pairs = pl.read_parquet(Path(root) / "verifier/pairs.parquet").filter(pl.col("flag").is_null())
        found += [("development pairs", *row) for row in pairs.select("gold", "prediction", "expected").iter_rows()]
    return found


def main() -> None:
    ours, theirs = (scores(accepts, rows()) for accepts in (by_mathjudge, by_math_verify))
    print(
        "| set | pairs | mathjudge % | wrongly accepted | math-verify % | wrongly accepted |\n|---|---|---|---|---|---|"
    )
    for name, score in ours.items():
        other = theirs[name]
        print(
            f"| {name} | {score.pairs} | {score.percent:.1f} | {score.accepted} "
            f"| {other.percent:.1f} | {other.accepted} |"
        )


if __name__ == "__main__":
    sys.exit(main())
