"""List reference answers that do not match themselves, so that no response to them can be judged correct.

extra check-answers problems.parquet
extra check-answers problems.jsonl --answer solution --workers 4 --out bad.parquet
extra check-answers math500                          a known benchmark or training set, from the hub
extra check-answers dapo_math_17k --folder data      the same, from a local folder

A file of problems is read in every format of docs/data.md. A table of reference answers alone needs a column `answer`
or `gold`. The exit code is 0 if there is no such answer, 1 if there are some, 2 for an error.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from extra_cli.data import validated
from extra_rl.errors import ConfigError, InputError

if TYPE_CHECKING:
    import polars as pl

    from extra_rl.config.sections import SourceConfig, VerifierConfig
    from extra_rl.problems.columns import Roles
    from extra_rl.problems.files import Row, Table

HELP = "reference answers that do not match themselves"
ANSWERS = ("answer", "gold")
"""Columns of reference answers in a table without problems."""

SHOWN = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", metavar="DATA", help="file, folder or pattern of problems (docs/data.md), or a known name"
    )
    parser.add_argument("--folder", metavar="DIR", help="local files of known names, <name>.parquet or .jsonl")
    parser.add_argument("--answer", metavar="COLUMN", help="column of the reference answer (default: recognised)")
    parser.add_argument("--id", metavar="COLUMN", default="id", help="column of the id (default: id, else row numbers)")
    parser.add_argument("--problem", metavar="COLUMN", help="column of the problem (default: recognised)")
    parser.add_argument("--split", default="train", help="of a saved directory (default: train)")
    parser.add_argument("--workers", type=int, default=1, help="judging processes (default 1)")
    parser.add_argument("--timeout", type=float, default=5.0, help="CPU seconds per answer (default 5)")
    parser.add_argument("--policy", help="options of the verifier as YAML, for example '{decimal_comma: true}'")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the listed rows as Parquet")


def run(arguments: argparse.Namespace) -> int:
    import polars as pl

    from extra_rl.judging.check import REASONS, check_references
    from extra_rl.tables.files import write_whole
    from mathjudge.grade import progress_bar

    verifier = verifier_of(arguments)
    rows = known_rows(arguments.data, arguments.folder)
    if rows is None:
        rows = read_rows(arguments)
    with progress_bar(len(rows)) as progress:
        reasons = check_references(rows["gold"].to_list(), verifier, progress)
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
    from extra_rl.config.sections import VerifierConfig
    from extra_rl.judging.pool import mathjudge_errors_as
    from mathjudge.grade import read_policy

    with mathjudge_errors_as(ConfigError):
        policy = read_policy(arguments.policy)
    limits = {"workers": arguments.workers, "timeout_s": arguments.timeout}
    return validated(VerifierConfig, {**limits, "policy": policy}, "verifier")


def known_rows(name: str, folder: str | None) -> pl.DataFrame | None:
    """Return the rows of a known benchmark or training set (`extra_rl.config.benchmarks`), None for another name."""
    import polars as pl

    from extra_rl.config.benchmarks import registry
    from extra_rl.config.sections import TaskConfig
    from extra_rl.problems.sources import read_source

    field = next((f for f, kind in (("benchmarks", "benchmarks"), ("train", "training")) if name in registry(kind)), "")
    if not field:
        return None
    task = validated(TaskConfig, {"name": "math", "folder": folder, field: [name]}, "task")
    problems = read_source(name, getattr(task, field)[name]).problems
    columns = {"id": "problem_id", "gold": "answer", "problem": "text"}
    return pl.DataFrame({column: [getattr(p, attribute) for p in problems] for column, attribute in columns.items()})


def read_rows(arguments: argparse.Namespace) -> pl.DataFrame:
    """Return the rows as text columns id, gold and, if the table has it, problem; a missing answer is empty.

    Raises InputError for a file that cannot be read, a named column that does not exist, and a cell that is not text.
    """
    import polars as pl

    from extra_rl.config.sections import SourceConfig
    from extra_rl.problems.files import read_files

    names = {name: getattr(arguments, name) for name in ("answer", "id", "problem", "split")}
    config = validated(SourceConfig, {"path": arguments.data, **names}, "check-answers")
    table = read_files(arguments.data, config.split)
    roles = roles_of(table, config)
    columns: dict[str, list[str | None]] = {
        "id": [text(row, roles.id, table, n) if roles.id else str(n) for n, row in enumerate(table.rows)],
        "gold": [text(row, roles.answer, table, n) for n, row in enumerate(table.rows)],
    }
    if roles.problem:
        columns["problem"] = [statement(row, roles.problem) for row in table.rows]
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def roles_of(table: Table, config: SourceConfig) -> Roles:
    """Return the columns by the layouts of docs/data.md, else those of a table of reference answers alone.

    Raises InputError if a named column does not exist, or there is no column of reference answers.
    """
    from extra_rl.problems.columns import Roles, has_column, recognise

    named = [name for name in (config.answer, config.problem, config.id if config.id != "id" else None) if name]
    if missing := [name for name in named if not has_column(table, name)]:
        raise no_column(table, missing[0])
    try:
        return recognise(table, config)
    except InputError:  # all named columns exist, so no layout fits: there may be no column of problems
        answer = config.answer or next((name for name in ANSWERS if has_column(table, name)), None)
        if answer is None:
            raise
    identifier = config.id if has_column(table, str(config.id)) else None
    return Roles("reference answers", config.problem or "", answer, identifier, share_gpt=False)


def no_column(table: Table, name: str) -> InputError:
    """Return the error for a named column that no row has."""
    return InputError(f"{table.name}: no column {name!r}; the columns are {', '.join(table.columns)}.")


def text(row: Row, column: str, table: Table, number: int) -> str:
    """Return a cell as text, empty if it is missing. Raises InputError, with file and row, if it is not text."""
    from extra_rl.problems.columns import CellError, cell, text_of

    try:
        return text_of(cell(row, column)) or ""
    except CellError as error:
        raise InputError(f"{table.place(number)}: column {column} {error}.") from error


def statement(row: Row, column: str) -> str | None:
    """Return a problem as text for --out: messages as JSON, None if it is missing."""
    from extra_rl.problems.columns import ABSENT, cell

    value = cell(row, column)
    if value is None or value is ABSENT or isinstance(value, str):
        return value if isinstance(value, str) else None
    return json.dumps(value, ensure_ascii=False, default=str)


def shortened(text: str) -> str:
    """Return untrusted text for one line of a terminal: unprintable characters are escaped."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:81])
    return f"`{shown}`" if len(shown) <= 80 else f"`{shown[:77]}...`"
