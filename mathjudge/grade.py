"""Judge a table of answers: `mathjudge PAIRS.jsonl --out VERDICTS.parquet`.

It reads Parquet, CSV or JSON lines with the columns `gold` (the reference answer) and `response` (or `prediction`), and
optionally `truncated` (true or false). It writes the same table with `verdict`, `extracted` and `rule` as Parquet.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from mathjudge.bounded import Item, judge_all
from mathjudge.judge import MathJudge
from mathjudge.policy import Policy
from mathjudge.tables import make_folder, read_table, write_table
from mathjudge.verdict import MathJudgeError

if TYPE_CHECKING:
    import polars as pl


def grade(table: pl.DataFrame, policy: Policy, *, progress: Callable[[int], object], **limits: float) -> pl.DataFrame:
    """Return the table with the columns `verdict`, `extracted` and `rule`.

    Args:
        table: the columns `gold` (reference answers) and `response` or `prediction`; perhaps `truncated` (bool).
        policy: how responses are read and compared.
        progress: called with 1 for each finished row.
        limits: `workers`, `timeout_s`, `memory_mb` and `max_chars` of `judge_all`.

    Raises:
        MathJudgeError: a column is missing or does not contain single values, or a limit is not positive.
    """
    import polars as pl

    text = next((name for name in ("response", "prediction") if name in table.columns), None)
    if "gold" not in table.columns or text is None:
        raise MathJudgeError(f"The table needs the columns gold and response (or prediction); it has {table.columns}.")
    truncated = table["truncated"].fill_null(False).to_list() if "truncated" in table.columns else [False] * len(table)
    items = [
        Item(gold, response, bool(cut))
        for gold, response, cut in zip(_texts(table["gold"]), _texts(table[text]), truncated, strict=True)
    ]
    judged = judge_all(MathJudge(policy), items, progress=progress, **limits)  # type: ignore[arg-type]
    return table.with_columns(
        pl.Series("verdict", [judgement.verdict.value for judgement in judged], dtype=pl.String),
        pl.Series("extracted", [judgement.extracted for judgement in judged], dtype=pl.String),
        pl.Series("rule", [judgement.rule for judgement in judged], dtype=pl.String),
    )


def _texts(column: pl.Series) -> list[str]:
    """Return a column as text, "" for null. MathJudgeError if its values are lists or structs."""
    import polars as pl

    if column.dtype.is_nested():
        raise MathJudgeError(f"column {column.name} contains {column.dtype}; expected text or numbers.")
    return column.cast(pl.String).fill_null("").to_list()


def read_policy(text: str | None) -> Policy:
    """Return the policy of a YAML mapping such as {relative_tolerance: 0.01}. MathJudgeError if it is no policy."""
    try:
        return Policy(**(yaml.safe_load(text) if text else {}))
    except (ValidationError, yaml.YAMLError, TypeError) as error:
        raise MathJudgeError(f"--policy: {error}") from error


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int], object]]:
    """A bar on stderr, drawn only if stderr is a terminal."""
    from tqdm import tqdm

    with tqdm(total=total, unit="row", disable=not sys.stderr.isatty()) as bar:
        yield bar.update


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mathjudge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path, help="table with the columns gold and response (or prediction)")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default 1)")
    parser.add_argument("--timeout", type=float, default=5.0, help="CPU seconds per row (default 5)")
    parser.add_argument("--memory", type=int, default=1024, help="MiB per worker (default 1024)")
    parser.add_argument("--policy", help="switches as YAML, for example '{relative_tolerance: 0.01}'")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit code: 0, or 2 for an error that the user can fix."""
    options = parse_arguments(arguments)
    try:
        policy, table = read_policy(options.policy), read_table(options.pairs)
        make_folder(options.out.parent)  # fails before the judging, not after it
        with progress_bar(len(table)) as progress:
            limits = {"workers": options.workers, "timeout_s": options.timeout, "memory_mb": options.memory}
            graded = grade(table, policy, progress=progress, **limits)
        write_table(graded, options.out)
    except MathJudgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    counts = Counter(graded["verdict"])
    print(", ".join(f"{verdict} {count}" for verdict, count in counts.most_common()) or "no rows")
    return 0
