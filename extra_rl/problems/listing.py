"""Rows of the tables `dropped` (removed problems with reasons) and `sources` (origin of the problems)."""

from __future__ import annotations

from hashlib import sha256

import dataframely as dy
import polars as pl

from extra_rl.config.sections import TaskConfig
from extra_rl.judging.gym_library import release
from extra_rl.problems.clean import Removed
from extra_rl.problems.prepared import PreparedProblem
from extra_rl.problems.sources import RawProblem, Source
from extra_rl.tables.files import canonical_json

Row = dict[str, object]


def removed_row(removed: Removed) -> Row:
    """Return a removed training problem as a row of `dropped` (contract DroppedProblems)."""
    return {
        "problem_id": removed.problem.problem_id,
        "benchmark": removed.problem.benchmark,
        "split": "train",
        "rule": removed.rule,
        "reason": removed.reason,
        "other_problem_id": removed.other_problem_id,
        "share": removed.share,
        "prompt_length": None,
        "problem": removed.problem.text,
        "answer": removed.problem.answer,
    }


def too_long_row(problem: PreparedProblem, raw: RawProblem, prompt_tokens: int) -> Row:
    """Return a problem with a prompt of more than `prompt_tokens` tokens as a row of `dropped`."""
    reason = f"prompt longer than {prompt_tokens} tokens, the context less the response"
    row = removed_row(Removed(raw, "too_long", reason))
    return row | {"split": problem.split, "prompt_length": len(problem.prompt_tokens)}


def source_row(split: str, source: Source) -> Row:
    """Return a source as a row of `sources` (contract Sources). split: what its problems are for."""
    config = source.config
    return {
        "name": source.name,
        "split": split,
        **config.model_dump(include={"path", "dataset", "subset", "revision"}),
        "commit": source.commit,
        "rows": source.rows,
        "expected_rows": config.rows,
        "taken": len(source.problems),
        "digest": source.digest,
    }


def gym_rows(task: TaskConfig) -> list[Row]:
    """Return the sets of Reasoning Gym as rows of `sources`, with the library's version as the commit."""
    if task.name != "reasoning_gym":
        return []
    commit = release()
    return [
        {
            "name": name,
            "split": "train",
            "path": None,
            "dataset": f"reasoning_gym/{chosen.dataset}",
            "subset": canonical_json(chosen.config),
            "revision": f"seed {chosen.seed}",
            "commit": commit,
            "rows": chosen.size,
            "expected_rows": None,
            "taken": chosen.size,
            "digest": sha256(canonical_json([commit, chosen.model_dump()]).encode()).hexdigest(),
        }
        for name, chosen in task.sets.items()
    ]


def table(contract: type[dy.Schema], rows: list[Row]) -> pl.DataFrame:
    """Return rows as a table with the columns of a contract."""
    return pl.DataFrame(rows, schema=contract.create_empty().schema, strict=False)
