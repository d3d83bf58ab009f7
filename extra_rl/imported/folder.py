"""Write the results folder of an import: whole or not at all, from files that other programs wrote."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from extra_rl.config.sections import TaskConfig
from extra_rl.errors import InputError
from extra_rl.imported import answers, formats
from extra_rl.imported.groups import Cell, Problems, cell_of
from extra_rl.imported.records import Bad, Record
from extra_rl.imported.tables import Writer
from extra_rl.imported.texts import Texts
from extra_rl.models.digests import MANIFEST
from extra_rl.models.policy import write_manifest
from extra_rl.models.protocol import Tokenizer
from extra_rl.problems.files import WILDCARDS, files_of
from extra_rl.problems.frames import is_saved
from extra_rl.results import start_folder
from extra_rl.tables import contracts
from extra_rl.tables.files import canonical_json, file_digest, whole_folder

RECORD = "import.json"
"""What was imported, in the results folder: files, steps, rows that were left out. It marks the folder as an import."""
CONFIG = "import.yaml"
"""The configuration of the stages that were run on it."""
SHOWN, REASONS = 3, 5
"""Rows of each reason, and reasons, that a message names."""
WORD = re.compile(r"(?P<arm>[\w][\w.+-]*?)(/s(?P<seed>\d+))?=(?P<path>.+)")


@dataclass(frozen=True)
class Given:
    """A file, folder or pattern, and the arm and seed that its rollouts become."""

    path: str
    arm: str
    seed: int

    @classmethod
    def parse(cls, word: str, arm: str, seed: int) -> Given:
        """Parse `PATH`, `ARM=PATH` or `ARM/sSEED=PATH`. arm, seed: of a word that names none."""
        found = None if Path(word).exists() else WORD.fullmatch(word)
        if found is None:
            return cls(word, arm, seed)
        return cls(found["path"], found["arm"], int(found["seed"] or seed))


@dataclass
class Import:
    """What was read: rollouts by arm and seed, their problems, and the rows that were left out."""

    cells: list[Cell] = field(default_factory=list)
    problems: Problems = field(default_factory=lambda: Problems(answers=True))
    bad: list[Bad] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0

    @property
    def rollouts(self) -> int:
        """Number of rollouts of all arms and seeds."""
        return sum(len(rows) for cell in self.cells for rows in cell.iterations)

    @property
    def without_logprobs(self) -> int:
        """Rollouts whose sampler logprobs are not known."""
        every = (row for cell in self.cells for rows in cell.iterations for row in rows)
        return sum(row.response.logprobs is None for row in every)


def read(
    given: Sequence[Given],
    tokenizer: Tokenizer,
    task: TaskConfig,
    *,
    stop: Sequence[str] = (),
    form: str | None = None,
    answers_file: str | None = None,
    reward: str | None = None,
    drop: bool = False,
) -> Import:
    """Read the files of all arms and seeds.

    Args:
        given: files with their arms and seeds; several of one arm and seed are read one after the other.
        tokenizer: makes token ids of texts, and decodes the others.
        task: how problems without a prompt of their own are rendered.
        stop: texts that end a response (`sampling.stop`).
        form: one of `formats.NAMES`; None: recognised by the columns of each file.
        answers_file: problems with reference answers (docs/data.md).
        reward: column whose number decides instead of a verifier; None: reference answers are needed.
        drop: leave unusable rows out instead of refusing them.
    Raises InputError for files that cannot be read, unusable rows, and where no row is left.
    """
    made = Import(problems=Problems(answers=reward is None))
    known = answers.read_answers(answers_file) if answers_file else []
    texts = Texts(tokenizer, task, stop)
    by_cell: dict[tuple[str, int], list[Record]] = {}
    for one in given:
        if not Path(one.path).exists() and not WILDCARDS.search(one.path):
            raise InputError(f"{one.path}: no such file or folder of rollouts.")
        found, rows, bad, table = formats.read(one.path, form)
        if reward is not None:
            rows = [_with_reward(record, reward) for record in rows]
        by_cell.setdefault((one.arm, one.seed), []).extend(answers.with_answers(rows, known) if known else rows)
        made.bad += bad
        made.rows += len(table.rows)
        saved = is_saved(Path(one.path))
        for path in sorted(Path(one.path).rglob("*.arrow")) if saved else files_of(one.path):
            made.files.append(
                {"arm": one.arm, "seed": one.seed, "path": str(path), "format": found.name, "sha256": file_digest(path)}
            )
    for (arm, seed), recorded in sorted(by_cell.items()):
        cell, bad = cell_of(arm, seed, recorded, texts, made.problems, reward=reward is not None)
        made.bad += bad
        if cell.iterations:
            made.cells.append(cell)
    if made.bad and not (drop and made.rollouts):
        raise InputError(_refusal(made))
    return made


def _with_reward(record: Record, column: str) -> Record:
    if column in ("reward", "score"):
        return record
    return replace(record, reward=record.further.get(column))


def _refusal(made: Import) -> str:
    lines = "; ".join(bad_lines(made.bad))
    if not made.rollouts:
        return f"No row can be imported. {lines}."
    return f"{len(made.bad)} of {made.rows} rows cannot be imported. {lines}. Correct them, or add --bad drop."


def bad_lines(bad: Sequence[Bad]) -> list[str]:
    """One text for each of the most frequent reasons: how many rows have it, and the first of them."""
    kinds: dict[str, list[Bad]] = {}
    for one in bad:
        kinds.setdefault(_kind(one.reason), []).append(one)
    lines = []
    ordered = sorted(kinds.values(), key=len, reverse=True)
    for rows in ordered[:REASONS]:
        more = f" and {len(rows) - SHOWN} more such rows" if len(rows) > SHOWN else ""
        lines.append("; ".join(f"{one.place}: {one.reason}" for one in rows[:SHOWN]) + more)
    if further := sum(map(len, ordered[REASONS:])):
        lines.append(f"{further} more rows with other reasons")
    return lines


def _kind(reason: str) -> str:
    """A reason without the numbers and texts of its row, so that equal ones are counted together."""
    return re.sub(r"(?<!\w)'[^']*'|\"[^\"]*\"|-?\d+(\.\d+)?(e-?\d+)?|nan|inf", "#", reason)


def require_free(results: Path, force: bool) -> None:
    """Raise InputError where the results folder exists, unless it is an import that is to be replaced."""
    if not results.exists():
        return
    if not (results / RECORD).is_file():
        raise InputError(f"{results}: exists, and is no import (it has no {RECORD}). Name another folder with --to.")
    if not force:
        raise InputError(f"{results}: exists already. Name another folder with --to, or add --force to replace it.")


def write(
    made: Import,
    results: Path,
    tokenizer: Tokenizer,
    config: dict[str, Any],
    settings: dict[str, Any],
    *,
    force: bool,
) -> None:
    """Write the results folder: all tables, the tokenizer as a policy without weights, the record, the configuration.

    Args:
        made: what was read.
        results: `results/<name>`.
        tokenizer: of all rollouts.
        config: raw configuration of the stages.
        settings: options that changed the tables: `format`, `reward` (a column that decides instead of a verifier, or
            None) and `right_from` (its smallest number of a correct response).
        force: replace an import.
    Raises InputError where the folder is in use or cannot be written.
    """
    require_free(results, force)
    with whole_folder(results, lambda: require_free(results, force)) as here:
        writer = Writer(here, settings_of(made, settings))
        train = writer.problems(made.problems, _sources(made))
        _write_tokenizer(writer, here / start_folder(0), tokenizer)
        for cell in made.cells:
            for number in range(len(cell.iterations)):
                folder = writer.iteration(cell, number, train)
                if settings["reward"] is not None:
                    writer.verdicts(cell, number, folder, settings["reward"], settings["right_from"])
        (here / RECORD).write_text(json.dumps(_record(made, settings), indent=1) + "\n")
        (here / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))


def settings_of(made: Import, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what the footers of an import's tables name: the options, and the digests of all files."""
    return settings | {"files": sorted({one["sha256"] for one in made.files})}


def _write_tokenizer(writer: Writer, folder: Path, tokenizer: Tokenizer) -> None:
    """Write the initial policy of an import: its tokenizer, and no weights."""
    policy = folder / "policy"
    policy.mkdir(parents=True)
    tokenizer.save_pretrained(policy)
    footer = {**writer.provenance(), "name": "s0/policy", "weights": 0}
    write_manifest(policy / MANIFEST, footer)
    empty = contracts.WarmStartSteps.create_empty()
    writer.write(empty, folder / "warm_start.parquet", contracts.WarmStartSteps, writer.provenance())


def _sources(made: Import) -> list[dict[str, Any]]:
    """Rows of the table `sources`: one for each arm and seed."""
    rows = []
    for cell in made.cells:
        own = [one for one in made.files if (one["arm"], one["seed"]) == (cell.arm, cell.seed)]
        taken = sum(map(len, cell.iterations))
        content = canonical_json(sorted(one["sha256"] for one in own))
        rows.append(
            {
                "name": cell.name,
                "split": "train",
                "path": ", ".join(one["path"] for one in own),
                "rows": taken,
                "taken": taken,
                "digest": hashlib.sha256(content.encode()).hexdigest(),
            }
        )
    return rows


def _record(made: Import, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "settings": settings,
        "files": made.files,
        "rows": made.rows,
        "rollouts": made.rollouts,
        "steps": {cell.name: cell.steps for cell in made.cells},
        "left_out": [{"place": one.place, "reason": one.reason} for one in made.bad],
    }
