"""Worked solutions of training problems as tokens, for `replay.source: demonstrations`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.config.sections import TaskConfig
from extra_rl.regeneration.entries import Solve
from extra_rl.results import without_arm
from extra_rl.seeding import generator


def solver_of(train: pl.DataFrame, task: TaskConfig, stop: str | None, policy_file: Path, seed: int) -> Solve:
    """A function that returns the tokens of a worked solution of a rollout's problem.

    Args:
        train: contracts.Problems.
        task: whose solutions they are.
        stop: ends a solution; None: nothing does.
        policy_file: manifest of the policy whose tokenizer is used.
        seed: of the solutions.
    """
    from extra_rl.models.policy import load_tokenizer, resolve
    from extra_rl.sampling.demonstrated import solver
    from extra_rl.tasks.demonstrations import response_tokens

    tokenizer = load_tokenizer(resolve(policy_file))
    problems = {row["problem_id"]: row for row in train.iter_rows(named=True)}
    solve = solver(task)

    def tokens(row: Mapping[str, Any]) -> list[int]:
        rng = generator(seed, without_arm(row["group_id"]))
        return response_tokens(solve(problems[row["problem_id"]], rng), task, stop, tokenizer)

    return tokens
