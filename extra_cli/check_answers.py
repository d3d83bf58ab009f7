"""List reference answers (gold) that do not match themselves, so that no response to them can be judged correct.

extra check-answers problems.parquet
extra check-answers problems.jsonl --answer solution --workers 4 --out bad.parquet
extra check-answers math500                          a known benchmark or training set, from the hub
extra check-answers dapo_math_17k --folder data      the same, from a local folder

The exit code is 0 if there is none, 1 if there are some, 2 for an error.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from extra_rl.errors import ConfigError, InputError

if TYPE_CHECKING:
    import polars as pl

    from extra_rl.config.sections import VerifierConfig

HELP = "reference answers that do not match themselves"
ANSWERS = ("answer", "gold")
SHOWN = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="table of problems (.parquet, .jsonl or .csv), or a known name")
    parser.add_argument("--folder", metavar="DIR", help="local files of known names, <name>.parquet or .jsonl")
    parser.add_argument("--answer", metavar="COLUMN", help="reference answers (default: answer, else gold)")
    parser.add_argument("--id", metavar="COLUMN", help="names of rows (default: id, else the row number)")
    parser.add_argument(
        "--problem",
        metavar="COLUMN",
        default="problem",
        help="text for --out (default: problem)",
    )
    parser.add_argument("--workers", type=int, default=1, help="judging processes (default 1)")
    parser.add_argument("--timeout", type=float, default=5.0, help="CPU seconds per answer (default 5)")
    parser.add_argument("--policy", help="options of the verifier as YAML, for example '{decimal_comma: true}'")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the listed rows as Parquet")


def run(arguments: argparse.Namespace) -> int:
    import polars as pl

    from extra_rl.judging.check import REASONS, check_golds
    from extra_rl.tables.files import write_whole
    from mathjudge.grade import progress_bar

    verifier = verifier_of(arguments)
    rows = known_rows(arguments.data, arguments.folder)
    if rows is None:
        rows = read_rows(Path(arguments.data), arguments.answer, arguments.id, arguments.problem)
    with progress_bar(len(rows)) as progress:
        reasons = check_golds(rows["gold"].to_list(), verifier, progress)
    found = rows.with_columns(pl.Series("reason", reasons, dtype=pl.String)).filter(pl.col("reason").is_not_null())
    for name, gold, reason in found.select("id", "gold", "reason").head(SHOWN).iter_rows():
        print(f"{name}  {shortened(gold)}  {reason}: {REASONS[reason]}")
    if len(found) > SHOWN:
        print(f"... and {len(found) - SHOWN} more; --out FILE writes all of them")
    print(f"{len(found)} of {len(rows)} reference answers do not match themselves")
    if arguments.out:
        write_whole(arguments.out, lambda tmp: found.write_parquet(tmp))
    return 1 if len(found) else 0


def verifier_of(arguments: argparse.Namespace) -> VerifierConfig:
    """Return the verifier's section from the options. Raises ConfigError for an invalid value."""
    from pydantic import ValidationError

    from extra_rl.config.section import mistakes
    from extra_rl.config.sections import VerifierConfig
    from extra_rl.judging.pool import mathjudge_errors_as
    from mathjudge.grade import read_policy

    with mathjudge_errors_as(ConfigError):
        policy = read_policy(arguments.policy)
    try:
        return VerifierConfig(workers=arguments.workers, timeout_s=arguments.timeout, policy=policy)
    except ValidationError as error:
        raise ConfigError("; ".join(mistakes(error, VerifierConfig, "verifier"))) from None


def known_rows(name: str, folder: str | None) -> pl.DataFrame | None:
    """Return the rows of a known benchmark or training set (`extra_rl.config.benchmarks`), None for another name."""
    import polars as pl
    from pydantic import ValidationError

    from extra_rl.config.benchmarks import registry
    from extra_rl.config.section import mistakes
    from extra_rl.config.sections import TaskConfig
    from extra_rl.problems.sources import read_source

    field = next((f for f, kind in (("benchmarks", "benchmarks"), ("train", "training")) if name in registry(kind)), "")
    if not field:
        return None
    try:
        task = TaskConfig.model_validate({"name": "math", "folder": folder, field: [name]})
    except ValidationError as error:
        raise ConfigError("; ".join(mistakes(error, TaskConfig, "task"))) from None
    problems = read_source(name, getattr(task, field)[name]).problems
    columns = {"id": "problem_id", "gold": "answer", "problem": "text"}
    return pl.DataFrame({column: [getattr(p, attribute) for p in problems] for column, attribute in columns.items()})


def read_rows(path: Path, answer: str | None, name: str | None, problem: str) -> pl.DataFrame:
    """Return the rows as text columns id, gold and, if the table has it, problem; a missing answer is empty.

    Args:
        path: Parquet, JSON lines or CSV.
        answer: column of reference answers; None: `answer`, else `gold`.
        name: column that identifies a row; None: `id`, else the row's number.
        problem: column with the problem's text.

    Raises InputError for a file that cannot be read or lacks a named column.
    """
    import polars as pl

    from extra_rl.judging.pool import mathjudge_errors_as
    from mathjudge.tables import read_table

    with mathjudge_errors_as(InputError):
        table = read_table(path, text=None)
    gold = answer or next((column for column in ANSWERS if column in table.columns), ANSWERS[0])
    for column in (gold, name):
        if column and column not in table.columns:
            raise InputError(f"{path}: no column {column!r}; the columns are {', '.join(table.columns)}.")
    label = name or ("id" if "id" in table.columns else None)
    rows = table.with_row_index("row")
    columns = {"id": pl.col(label or "row"), "gold": pl.col(gold).cast(pl.String).fill_null("")}
    if problem in table.columns:
        columns["problem"] = pl.col(problem)
    return rows.select(**columns).with_columns(pl.col("id").cast(pl.String).fill_null(""))


def shortened(text: str) -> str:
    """Return untrusted text for one line of a terminal: unprintable characters are escaped."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:81])
    return f"`{shown}`" if len(shown) <= 80 else f"`{shown[:77]}...`"
