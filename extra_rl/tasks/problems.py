"""From a task's configuration to problems with tokenised prompts, for generated tasks and for files alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.errors import ConfigError, InputError
from extra_rl.sections import ModelConfig, SourceConfig, TaskConfig
from extra_rl.tasks.base import load_task
from extra_rl.tasks.sets import make_sets


@dataclass(frozen=True)
class PreparedProblem:
    """A row of the problems table (`extra_rl.tables.contracts.Problems`)."""

    problem_id: str
    benchmark: str
    split: str
    canonical: str
    prompt: str
    prompt_tokens: list[int]
    answer: str


def tokenizer_of(task: TaskConfig, model: ModelConfig) -> Any:
    """The tokenizer that the policies of this configuration will carry."""
    from extra_rl import tokenizers
    from extra_rl.policy import load_tokenizer

    if model.source != "new":
        return load_tokenizer(model.source)
    if model.tokenizer == "bytes":
        return tokenizers.byte_level()
    if task.name == "math":
        raise ConfigError("model.tokenizer: `words` is for generated tasks; a new model for `math` needs `bytes`.")
    return tokenizers.word_level(load_task(task.name).vocabulary)


def problems_of(
    task: TaskConfig,
    model: ModelConfig,
    *,
    seed: int,
    train_per_level: Mapping[str, int],
    tuning_per_level: int,
    final_per_level: int,
) -> list[PreparedProblem]:
    """All problems: train first, then tuning, then final. Files give train and final (their benchmarks).

    Raises ConfigError for a level that has too few problems, InputError for a file or column that is missing.
    """
    tokenizer = tokenizer_of(task, model)
    if task.name == "math":
        return [p for split, name, source in _sources(task) for p in read_source(source, name, split, task, tokenizer)]
    sets = make_sets(
        load_task(task.name),
        seed,
        train=train_per_level,
        tuning_per_level=tuning_per_level,
        final_per_level=final_per_level,
    )
    named = {"train": sets.train, "tuning": sets.tuning, "final": sets.final}
    return [
        PreparedProblem(
            problem_id=p.problem_id,
            benchmark=p.level,
            split=split,
            canonical=p.canonical,
            prompt=p.prompt,
            prompt_tokens=tokenizer(p.prompt)["input_ids"],
            answer=p.answer,
        )
        for split, problems in named.items()
        for p in problems
    ]


def _sources(task: TaskConfig) -> list[tuple[str, str, SourceConfig]]:
    if task.train is None or not task.benchmarks:
        raise ConfigError("task `math` needs task.train.path and at least one entry in task.benchmarks.")
    return [
        ("train", "train", task.train),
        *(("final", name, source) for name, source in task.benchmarks.items()),
    ]


def read_source(
    source: SourceConfig, benchmark: str, split: str, task: TaskConfig, tokenizer: Any
) -> list[PreparedProblem]:
    """The problems of one file; an id is prefixed with the file's name, so that files never collide."""
    frame = read_rows(source)
    problems = []
    for row in frame.iter_rows(named=True):
        text = row["problem"]
        prompt, tokens = chat_prompt(text + task.suffix, task.system, tokenizer)
        problem_id = f"{benchmark}/{row['id']}"
        canonical = " ".join(text.split())
        problems.append(PreparedProblem(problem_id, benchmark, split, canonical, prompt, tokens, row["answer"]))
    return problems


def read_rows(source: SourceConfig) -> pl.DataFrame:
    """Columns id, problem, answer (text) of a file. InputError names the file and the column or row at fault."""
    path = Path(source.path)
    if path.suffix not in (".parquet", ".jsonl"):
        raise InputError(f"{path}: expected a .parquet or .jsonl file of problems.")
    if not path.is_file():
        raise InputError(f"{path}: no such file of problems. Check the path in the configuration's task section.")
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path)
    wanted = {"problem": source.problem, "answer": source.answer} | ({"id": source.id} if source.id else {})
    missing = [column for column in wanted.values() if column not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)} (it has {', '.join(frame.columns)}). Name the right ones in the "
            "configuration's task section."
        )
    if not source.id:
        frame = frame.with_row_index("id")
        wanted["id"] = "id"
    rows = frame.select(pl.col(column).cast(pl.String).alias(name) for name, column in wanted.items())
    rows = rows.head(source.limit) if source.limit else rows
    empty = rows.with_row_index("row").filter(
        pl.any_horizontal(pl.col("problem", "answer", "id").is_null() | (pl.col("problem", "answer", "id") == ""))
    )
    if len(empty):
        raise InputError(f"{path}: problem, answer or id is empty in row(s) {empty['row'].head(5).to_list()}.")
    return rows


def chat_prompt(text: str, system: str, tokenizer: Any) -> tuple[str, list[int]]:
    """The prompt through the tokenizer's chat template (as text and ids); the bare text where it has none."""
    if not tokenizer.chat_template:
        return text, tokenizer(text)["input_ids"]
    messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": text}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return prompt, tokenizer(prompt, add_special_tokens=False)["input_ids"]
