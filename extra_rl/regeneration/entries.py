"""Which trajectories enter the bank of replays: own correct or failed rollouts, and worked solutions as a control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from extra_rl.algorithms.prefixes import candidate_cuts
from extra_rl.algorithms.replay import position_of_half, success_estimate
from extra_rl.config.sections import TaskConfig
from extra_rl.errors import InputError
from extra_rl.regeneration.bank import Stored
from extra_rl.regeneration.candidates import boundary_tokens
from extra_rl.regeneration.continued import Outcome
from extra_rl.regeneration.settings import ReplayConfig
from extra_rl.results import without_arm
from extra_rl.seeding import generator

Solve = Callable[[Mapping[str, Any]], list[int]]
"""A row of `contracts.Rollouts` -> response tokens of a worked solution of its problem."""
COLUMNS = (
    *("group_id", "problem_id", "rollout_id", "prefix_id", "prefix_length", "prompt_tokens", "response_tokens"),
    "sampler_logprobs",
)
COUNTS = ("right", "size")
"""Correct and judged rollouts of a fresh group."""


@dataclass(frozen=True)
class Found:
    """A trajectory that may enter.

    at: its cut, None for the usual one. outcome: of continuations from that cut. pass_rate: estimate for its prompt.
    """

    entry: str
    row: Mapping[str, Any]
    at: int | None = None
    outcome: Outcome | None = None
    pass_rate: float | None = None


def rescues(continued: pl.DataFrame, outcomes: Mapping[str, Outcome]) -> list[Found]:
    """The first correct continuation of each continued group, at its cut; that of a fresh resample has none.

    Args:
        continued: `continued.continuations`.
        outcomes: prefix_id -> outcome of its continuations.
    """
    right = continued.filter(~pl.col("replayed"), pl.col("verdict") == "right")
    return [
        Found("rescued", row, row["prefix_length"] or None, outcomes[row["prefix_id"]])
        for row in _first_of_groups(right)
    ]


def fresh_trajectories(fresh: pl.DataFrame, config: ReplayConfig) -> list[Found]:
    """The first correct rollout of groups with few correct ones; the first incorrect one of those with few failures.

    A group with too few judged rollouts to have both kinds gives neither.

    Args:
        fresh: fresh rollouts with verdicts.
        config: `fresh_correct` and `failures_from`.
    """
    judged = fresh.filter(pl.col("reward").is_not_null()).with_columns(
        is_right=pl.col("verdict") == "right", size=pl.len().over("group_id")
    )
    judged = judged.with_columns(right=pl.col("is_right").sum().over("group_id"))
    mixed = judged.filter(pl.col("right").is_between(1, pl.col("size") - 1))
    found = []
    if config.source == "own":
        rows = mixed.filter("is_right", pl.col("right") <= config.fresh_correct)
        found += [
            Found("fresh", row, pass_rate=success_estimate(row["right"], row["size"])) for row in _first_of_groups(rows)
        ]
    if config.failures_from is not None:
        rows = mixed.filter(~pl.col("is_right"), pl.col("right") >= config.failures_from * pl.col("size"))
        found += [Found("failure", row) for row in _first_of_groups(rows)]
    return found


def demonstrations(hard: pl.DataFrame, solve: Solve) -> list[Found]:
    """A worked solution for each hard group. hard: rollouts of hard groups."""
    rows = []
    for row in _first_of_groups(hard):
        tokens = solve(row)
        known = {"rollout_id": None, "response_tokens": tokens, "sampler_logprobs": [0.0] * len(tokens)}
        rows.append(Found("demonstration", {**row, **known}))
    return rows


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


def _first_of_groups(rows: pl.DataFrame) -> list[dict[str, Any]]:
    first = rows.unique("group_id", keep="first", maintain_order=True)
    return list(first.select(*COLUMNS, *(name for name in COUNTS if name in first)).iter_rows(named=True))


def to_store(
    found: Sequence[Found],
    config: ReplayConfig,
    *,
    tokenizer_file: Path,
    boundary: str,
    min_tokens: int,
    iteration: int,
) -> list[Stored]:
    """The trajectories with their cuts, at the position where they begin; one that cannot be cut is left out.

    A rescue begins at the cut that rescued it, a correct rollout or a solution at the latest cut, a failure at the
    middle one. The fixed positions of `config.cut` take precedence. The known outcome of a rescue's cut is kept.

    Args:
        found: in the order of entry.
        config: cuts and positions.
        tokenizer_file: manifest of the policy whose tokenizer decodes the tokens.
        boundary: text that ends a step.
        min_tokens: minimum distance between cuts.
        iteration: this one.
    Raises InputError for an imported rollout without the sampler's logprobs.
    """
    ids = sorted({token for one in found for token in one.row["response_tokens"]})
    ends_step = boundary_tokens(tokenizer_file, boundary, ids)
    stored = []
    for one in found:
        tokens, logprobs = one.row["response_tokens"], one.row["sampler_logprobs"]
        if logprobs is None:
            raise InputError(
                f"rollout {one.row['rollout_id']} was imported without the sampler's logprobs, so it cannot be "
                "replayed. Set choose_prefixes.replay.rows: 0, or import the logprobs."
            )
        cuts, fallback = candidate_cuts(
            np.array([token in ends_step for token in tokens]),
            first=config.first_cut,
            last=config.last_cut,
            min_tokens=min_tokens,
            max_cuts=config.max_cuts,
        )
        cuts = sorted({*cuts, *([one.at] if one.at else [])})
        if not cuts:
            continue
        start = cuts.index(one.at) + 1 if one.at else len(cuts) if one.entry != "failure" else (len(cuts) + 1) // 2
        if config.move == "half" and one.pass_rate is not None:
            left = [float(len(tokens) - cut) for cut in (0, *cuts)]
            start = position_of_half(left, range(1, len(cuts) + 1), one.pass_rate, left[0])
        position = {"adaptive": start, "last": len(cuts), "prompt": 0}[config.cut]
        known = one.outcome if one.outcome and one.at and position and cuts[position - 1] == one.at else None
        stored.append(
            Stored(
                group_id=one.row["group_id"],
                problem_id=one.row["problem_id"],
                entry=one.entry,
                rollout_id=one.row["rollout_id"],
                prompt_tokens=tuple(one.row["prompt_tokens"]),
                response_tokens=tuple(tokens),
                response_logprobs=tuple(logprobs),
                cuts=tuple(cuts),
                cut_reason="fixed_stride" if fallback else "boundary",
                position=position,
                born=iteration,
                successes=known.right if known else 0,
                tries=known.judged if known else 0,
                tried_tokens=known.sampled_tokens if known else 0,
            )
        )
    return stored
