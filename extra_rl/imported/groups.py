"""Completions as rollouts of iterations and groups, with the problems that they answer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from extra_rl.imported.records import Bad, BadRowError, Record
from extra_rl.imported.texts import Prompt, Response, Texts
from extra_rl.problems.prepared import PreparedProblem
from extra_rl.problems.statements import normalise
from extra_rl.results import place_name, run_name
from extra_rl.tables.files import canonical_json

LEVEL = "imported"
"""Level of the problems of a file that names none."""


@dataclass(frozen=True)
class Rollout:
    """A completion of an iteration. group: number within the iteration; n: number within the group."""

    record: Record
    problem_id: str
    prompt: Prompt
    response: Response
    group: int = 0
    n: int = 0


@dataclass
class Cell:
    """The rollouts of one arm and seed. steps: the file's step of each iteration; None: it names none."""

    arm: str
    seed: int
    iterations: list[list[Rollout]] = field(default_factory=list)
    steps: list[int | None] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`{arm}/s{seed}`."""
        return run_name(self.arm, self.seed)

    def place(self, iteration: int) -> str:
        """Beginning of the ids of an iteration."""
        return place_name(self.arm, self.seed, iteration)


class Problems:
    """The problems of all arms, by id. A problem has one reference answer, and the prompt of its first completion."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self._found: dict[str, PreparedProblem] = {}
        self._places: dict[str, str] = {}

    def __iter__(self) -> Iterator[PreparedProblem]:
        return iter(self._found.values())

    def add(self, record: Record, prompt: Prompt) -> str:
        """Add the problem of a record; its id. BadRowError without a reference answer, or with another one."""
        if record.answer is None and self._answers:
            raise BadRowError("no reference answer (docs/import.md: --answers FILE, or --reward COLUMN)")
        answer = record.answer or ""
        content = canonical_json([prompt.statement, answer])
        named = record.problem_id or hashlib.sha256(content.encode()).hexdigest()[:12]
        problem_id = f"{LEVEL}/{named}"
        known = self._found.get(problem_id)
        if known is None:
            self._places[problem_id] = record.place
            self._found[problem_id] = PreparedProblem(
                problem_id=problem_id,
                benchmark=record.level or LEVEL,
                split="train",
                canonical=normalise(prompt.statement),
                problem=prompt.statement,
                prompt=prompt.text,
                prompt_tokens=prompt.tokens,
                answer=answer,
                metadata=record.metadata,
            )
        elif known.answer != answer:
            raise BadRowError(
                f"problem {named} has the reference answer {answer[:40]!r} here and {known.answer[:40]!r} in "
                f"{self._places[problem_id]}"
            )
        return problem_id


def cell_of(
    arm: str, seed: int, recorded: Sequence[Record], texts: Texts, problems: Problems, *, reward: bool
) -> tuple[Cell, list[Bad]]:
    """Return the rollouts of an arm and seed, and the rows that cannot be imported.

    Iterations are the file's steps in ascending order, numbered from 0. A group is named by the file, else it is all
    completions of one prompt in an iteration; groups are in the order of their first completion.

    Args:
        recorded: rows of all files of the arm and seed, in order.
        texts: of the tokenizer.
        problems: extended.
        reward: whether each row must have a reward.
    """
    bad: list[Bad] = []
    made: list[Rollout] = []
    some_steps = any(record.step is not None for record in recorded)
    for record in recorded:
        try:
            if some_steps and record.step is None:
                raise BadRowError("no step, which other rows have")
            if reward and record.reward is None:
                raise BadRowError("no reward")
            prompt = texts.prompt(record)
            response = texts.response(record)
            made.append(Rollout(record, problems.add(record, prompt), prompt, response))
        except BadRowError as reason:
            bad.append(Bad(record.place, str(reason)))
    cell = Cell(arm, seed)
    cell.steps = sorted({rollout.record.step for rollout in made}, key=lambda step: -1 if step is None else step)
    for step in cell.steps:
        rows, mixed = _grouped([one for one in made if one.record.step == step])
        cell.iterations.append(rows)
        bad += mixed
    return cell, bad


def _grouped(rows: Sequence[Rollout]) -> tuple[list[Rollout], list[Bad]]:
    """Number groups and their members; a row that answers another problem than its group's first one is bad."""
    groups: dict[object, tuple[int, str]] = {}
    sizes: Counter[int] = Counter()
    kept, bad = [], []
    for row in rows:
        key = row.record.group or (row.problem_id, tuple(row.prompt.tokens))
        group, problem_id = groups.setdefault(key, (len(groups), row.problem_id))
        if problem_id != row.problem_id:
            bad.append(Bad(row.record.place, f"group {row.record.group} has completions of several problems"))
            continue
        kept.append(Rollout(row.record, row.problem_id, row.prompt, row.response, group, sizes[group]))
        sizes[group] += 1
    kept.sort(key=lambda row: (row.group, row.n))
    return kept, bad
