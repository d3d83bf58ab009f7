"""The files of other programs: which one a file is, by its columns, and its rows as records.

The formats are those that the programs write (docs/import.md has the same table). Source of the layouts: the code of
TRL, verl, verifiers and prime-rl; none of it is used here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from extra_rl.errors import InputError
from extra_rl.imported import records, trace
from extra_rl.imported.records import Bad, BadRowError, Record
from extra_rl.problems.columns import media_of
from extra_rl.problems.files import Row, Table, read_files

ANSWERS = (
    *("answer", "reference_answer", "ground_truth", "gts", "gold", "solution", "final_answer"),
    *("reward_model.ground_truth", "info.answer"),
)
"""Columns of the reference answer, of which the first with a value counts."""
LEVELS = ("benchmark", "level", "data_source", "task", "env_id")
STATEMENTS = ("problem", "question", "messages")
PROMPT_TOKENS = ("prompt_tokens", "prompt_token_ids", "prompt_ids")
RESPONSES = ("response", "completion", "output", "generation")
TOKENS = (
    *("response_tokens", "response_token_ids", "response_ids"),
    *("completion_tokens", "completion_token_ids", "completion_ids", "token_ids"),
)
LOGPROBS = ("sampler_logprobs", "logprobs", "response_logprobs", "completion_logprobs")
GROUPS = ("group_id", "group", "uid")
STEPS = ("step", "iteration", "global_step")
SEVERAL = ("responses", "completions", "outputs", "generations")
STEP_IN_PATH = re.compile(r"(?:step|iteration|global_step|completions)[_-]?0*(\d+)|^0*(\d+)\.jsonl")
"""A step in the name of a file or its folder: step_12, completions_00012.parquet, 12.jsonl."""

ReadRow = Callable[[Row, str, int | None], Iterator[Record]]


@dataclass(frozen=True)
class Format:
    """A program's files. required: columns that recognise them. read: a row, its place and step to records."""

    name: str
    required: tuple[str, ...]
    read: ReadRow


def recognise(table: Table, name: str | None) -> Format:
    """Return the format of a name, or the first whose columns the table has. Raises InputError for none."""
    if name is not None:
        return next(one for one in FORMATS if one.name == name)
    for one in FORMATS:
        if one.required and set(one.required) <= set(table.columns):
            return one
    if set(SEVERAL + RESPONSES + TOKENS) & set(table.columns):
        return FORMATS[-1]
    raise InputError(
        f"{table.name}: no column of completions is known there (it has {', '.join(table.columns)}). Known: "
        f"{', '.join(dict.fromkeys(RESPONSES + SEVERAL + TOKENS[:1]))}; docs/import.md lists the formats."
    )


def read(path: str, name: str | None) -> tuple[Format, list[Record], list[Bad], Table]:
    """Return format, records and unusable rows of a file, a folder of files, or a pattern. Raises InputError."""
    table = read_files(path)
    form = recognise(table, name)
    found: list[Record] = []
    bad: list[Bad] = []
    count = 0
    for part in table.parts:
        step = _step_of(Path(part.path))
        for row in part.rows:
            place = table.place(count)
            count += 1
            try:
                if media := media_of(row):
                    raise BadRowError(f"column {media} is not empty, and only text can be imported")
                made = list(form.read(row, place, step))
                if not made:
                    raise BadRowError("no completion")
                found += made
            except BadRowError as error:
                bad.append(Bad(place, str(error)))
            except (TypeError, ValueError, OverflowError, AttributeError) as error:  # a cell of an unexpected type
                bad.append(Bad(place, f"not a row of the format {form.name} ({type(error).__name__}: {error})"))
    return form, found, bad, table


def _step_of(path: Path) -> int | None:
    for name in (path.name, path.parent.name):
        if match := STEP_IN_PATH.search(name):
            return int(match[1] or match[2])
    return None


def _common(row: Row, place: str, step: int | None) -> Record:
    """What every format may have; the columns of tokens are read where they exist."""
    own = records.whole(row, STEPS)
    return Record(
        place=place,
        prompt_tokens=records.token_ids(row, PROMPT_TOKENS),
        tokens=records.token_ids(row, TOKENS),
        logprobs=records.numbers(row, LOGPROBS),
        finish=records.finish_of(row),
        answer=records.text(row, ANSWERS),
        level=next(
            (str(row[name]) for name in LEVELS if isinstance(row.get(name), str | int) and row[name] != ""), None
        ),
        group=records.text(row, GROUPS),
        step=step if own is None else own,
        reward=records.number(row, ("reward", "score")),
        advantage=records.number(row, ("advantage",)),
        further=further(row),
    )


def further(row: Row) -> dict[str, float]:
    """The other numbers of a row, such as the rewards of single functions."""
    known = {*STEPS, "reward", "score", "advantage", "id", "example_id"}
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and name not in known and value == value and abs(value) != float("inf")
    }


def _with_prompt(record: Record, value: object) -> Record:
    """Messages are rendered by the template; a text is what the model read."""
    prompt = records.prompt_of(value, record.place)
    return replace(record, prompt=prompt) if isinstance(prompt, str) else replace(record, problem=prompt)


def _trl(row: Row, place: str, step: int | None) -> Iterator[Record]:
    """`log_completions` of TRL: the functions' rewards are columns with their names."""
    record = _common(row, place, step)
    if record.reward is None and len(record.further) == 1:  # one reward function: its number is the reward
        record = replace(record, reward=next(iter(record.further.values())))
    yield replace(_with_prompt(record, row.get("prompt")), response=records.answer_text(row.get("completion")))


def _verl(row: Row, place: str, step: int | None) -> Iterator[Record]:
    """`trainer.rollout_data_dir` of verl."""
    record = _common(row, place, step)
    yield replace(record, prompt=records.raw_text(row, ("input",)), response=records.raw_text(row, ("output",)))


def _verifiers(row: Row, place: str, step: int | None) -> Iterator[Record]:
    """results.jsonl of verifiers, and train_rollouts.jsonl of prime-rl before its traces."""
    if row.get("error"):
        raise BadRowError(f"the rollout failed there ({str(row['error'])[:60]})")
    record = _common(row, place, step)
    example = records.text(row, ("example_id", "id"))
    named = f"{record.level or 'example'}/{example}" if example is not None else None
    record = replace(record, problem_id=named, response=records.answer_text(row.get("completion")))
    record = _with_prompt(record, row.get("prompt"))
    steps = row.get("trajectory")
    if isinstance(steps, Sequence) and len(steps) == 1 and isinstance(steps[0], Mapping):
        tokens = steps[0].get("tokens")
        if isinstance(tokens, Mapping):
            given = dict(tokens)
            record = replace(
                record,
                prompt_tokens=records.token_ids(given, ("prompt_ids",)),
                tokens=records.token_ids(given, ("completion_ids",)),
                logprobs=records.numbers(given, ("completion_logprobs",)),
            )
    yield record


def _traces(row: Row, place: str, step: int | None) -> Iterator[Record]:
    """Traces of verifiers 1, which prime-rl writes as train_rollouts.jsonl."""
    yield trace.record_of(row, place, step)


def _plain(row: Row, place: str, step: int | None) -> Iterator[Record]:
    """Any file with one completion a row, or with lists of them."""
    record = replace(
        _common(row, place, step),
        problem_id=records.text(row, ("problem_id", "id")),
        metadata=records.text(row, ("metadata",)),
    )
    statement = records.prompt_of(records.first(row, STATEMENTS), place)
    record = _with_prompt(record, row.get("prompt"))
    record = replace(record, problem=statement or record.problem)
    several = next((name for name in SEVERAL if isinstance(row.get(name), list)), None)
    if several is None:
        yield replace(record, response=records.answer_text(records.first(row, RESPONSES)))
        return
    texts = row[several]
    assert isinstance(texts, list)
    lists = {name: row.get(name) for name in ("rewards", "scores", "response_tokens", "logprobs", "finish_reasons")}
    lists["finish_reason"] = lists.pop("finish_reasons") or row.get("finish_reason")
    for name, values in lists.items():
        if isinstance(values, list) and len(values) != len(texts):
            raise BadRowError(f"{several} has {len(texts)} members and {name} {len(values)}")
    for number, given in enumerate(texts):
        one = {name: values[number] for name, values in lists.items() if isinstance(values, list)}
        yield replace(
            record,
            place=f"{place}, completion {number}",
            response=records.answer_text(given),
            tokens=records.token_ids(one, ("response_tokens",)),
            logprobs=records.numbers(one, ("logprobs",)),
            reward=records.number(one, ("rewards", "scores")),
            finish=records.finish_of(one),
        )


FORMATS = (
    Format("trl", ("prompt", "completion", "step", "advantage"), _trl),
    Format("verl", ("input", "output", "score"), _verl),
    Format("prime-rl", ("nodes", "rewards", "task"), _traces),
    Format("verifiers", ("prompt", "completion", "example_id"), _verifiers),
    Format("verifiers", ("prompt", "completion", "task", "reward"), _verifiers),
    Format("jsonl", (), _plain),
)
"""In the order in which they are tried; the last one is any file with a column of completions."""
NAMES = tuple(dict.fromkeys(one.name for one in FORMATS))
