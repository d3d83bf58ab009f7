"""Accuracy of mathjudge and of plain math-verify on the hand-written pairs and on the development pairs, as a table.

    EXTRA_TEST_DATA=FOLDER python -m tests.mathjudge.accuracy

A pair counts as correct if "right" is given exactly where it is expected. math-verify runs with its default settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TRUTH = Path(__file__).with_name("truth.jsonl")
"""Pairs by kind, in the hand of this project: `kind`, `gold`, `response`, `expected` (a value of Verdict)."""


@dataclass(frozen=True)
class Pair:
    """A reference answer and a response of a named set, and whether it is correct. bare: it is only an answer."""

    set: str
    reference: str
    response: str
    expected: bool
    bare: bool = False


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


def scores(accepts: Callable[[Pair], bool], pairs: list[Pair]) -> dict[str, Score]:
    """Return the score of a judge on each set of pairs. accepts: whether the judge gives "right"."""
    found: dict[str, Score] = {}
    for pair in pairs:
        found.setdefault(pair.set, Score()).add(accepts(pair), pair.expected)
    return found


def by_mathjudge(pair: Pair) -> bool:
    """Whether mathjudge accepts a response with its default policy."""
    from mathjudge import Verdict, judge

    return judge(pair.reference, pair.response).verdict is Verdict.RIGHT


def by_math_verify(pair: Pair) -> bool:
    """Whether math-verify accepts a response; a reference or bare answer without marks is set between dollar signs."""
    from math_verify import parse, verify

    response = _marked(pair.response) if pair.bare else pair.response
    return bool(verify(parse(_marked(pair.reference)), parse(response)))


def _marked(text: str) -> str:
    return text if "$" in text or "\\boxed" in text else f"${text}$"


def pairs() -> list[Pair]:
    """Return the hand-written pairs by kind, and the development pairs if EXTRA_TEST_DATA names their folder."""
    found = [Pair(row["kind"], row["gold"], row["response"], row["expected"] == "right") for row in truth()]
    if root := os.environ.get("EXTRA_TEST_DATA"):
        import polars as pl

        table = pl.read_parquet(Path(root) / "verifier/pairs.parquet").filter(pl.col("flag").is_null())
        for row in table.iter_rows(named=True):
            bare = row["form"] == "answer"
            found.append(Pair("development pairs", row["gold"], row["prediction"], row["expected"], bare))
    return found


def main() -> None:
    ours, theirs = (scores(accepts, pairs()) for accepts in (by_mathjudge, by_math_verify))
    print("| set | pairs | mathjudge % | wrongly accepted | math-verify % | wrongly accepted |")
    print("|---|---|---|---|---|---|")
    for name, score in ours.items():
        other = theirs[name]
        figures = f"{score.percent:.1f} | {score.accepted} | {other.percent:.1f} | {other.accepted}"
        print(f"| {name} | {score.pairs} | {figures} |")


if __name__ == "__main__":
    main()
