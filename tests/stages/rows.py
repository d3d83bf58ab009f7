"""Constructed iterations for the tests of stages: rollouts with verdicts, scores and novelty, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import dataframely as dy
import polars as pl

from extra_rl.config.section import parse_config
from extra_rl.config.sections import SHARED
from extra_rl.run.context import RunContext
from extra_rl.run.progress import Console
from extra_rl.run.stage import Context, Inputs, Job
from extra_rl.tables import contracts
from extra_rl.tables.files import check, write_table

ARM = "extra"


@dataclass(frozen=True)
class Row:
    """One rollout and the results of the stages; everything except its id has a default."""

    rollout_id: str
    group_id: str = f"{ARM}/s0/i0/0"
    problem_id: str = "p0"
    verdict: str = "wrong"
    reward: float | None = None
    response_tokens: tuple[int, ...] = (10, 11, 2)
    response: str = ""
    entropies: tuple[float, ...] = ()
    sampler_logprob: float = -1.0
    policy_logprob: float | tuple[float, ...] = -1.0
    novelty: float = 0.0
    nearest: str | None = None
    gold: str = "7"
    extracted: str | None = None
    finish_reason: str = "stop"
    prompt_tokens: tuple[int, ...] = (1, 5)
    origin: str = "fresh"
    parent: str | None = None
    prefix_length: int = 0

    def continued(self, name: str, prefix_length: int, **changes: Any) -> Row:
        """A continuation of the first tokens of this rollout."""
        lineage = {"parent": self.rollout_id, "prefix_length": prefix_length, "origin": "regenerated"}
        return replace(self, rollout_id=name, **{**lineage, **changes})

    @property
    def judged(self) -> float | None:
        """The reward: the given one, else 1 for right, none for unjudged rollouts, and 0 for the others."""
        if self.reward is not None or self.verdict in ("error", "gold_unparseable"):
            return self.reward
        return float(self.verdict == "right")


def group(verdicts: str, *, group_id: str = f"{ARM}/s0/i0/0", **common: Any) -> list[Row]:
    """A fresh group, with one letter per rollout: r right, w wrong, t truncated, e verifier error."""
    names = {"r": "right", "w": "wrong", "t": "truncated", "e": "error"}
    return [
        Row(f"{group_id}/{n}", group_id=group_id, verdict=names[letter], **common) for n, letter in enumerate(verdicts)
    ]


def frame(contract: type[dy.Schema], rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as a table that keeps its contract."""
    made = pl.DataFrame(list(rows), schema=contract.create_empty().schema, strict=False)
    return check(made, contract, Path("hand-made"))


def tables_of(generated: Sequence[Row], regenerated: Sequence[Row] = (), prefix: str = "") -> dict[str, pl.DataFrame]:
    """The tables of an iteration by role. generated: what `generate` sampled, queued continuations included."""
    tables: dict[str, pl.DataFrame] = {}
    for source, rows in (("generate", generated), ("regenerate", regenerated)):
        tables[f"{prefix}{source}"] = frame(contracts.Rollouts, map(_rollout, rows))
        tables[f"{prefix}verify_{source}"] = frame(contracts.Verdicts, map(_verdict, rows))
        tables[f"{prefix}score_entropy_{source}"] = frame(contracts.TokenScores, map(_scores, rows))
    tables[f"{prefix}novelty"] = frame(contracts.Novelty, map(_novelty, [*generated, *regenerated]))
    return tables


def _rollout(row: Row) -> dict[str, Any]:
    length = len(row.response_tokens)
    return {
        "rollout_id": row.rollout_id,
        "group_id": row.group_id,
        "problem_id": row.problem_id,
        "origin": row.origin,
        "prefix_id": f"{row.parent}@{row.prefix_length}" if row.origin == "regenerated" else None,
        "parent_rollout_id": row.parent,
        "prefix_length": row.prefix_length,
        "prompt_tokens": row.prompt_tokens,
        "response_tokens": row.response_tokens,
        "sampler_logprobs": [row.sampler_logprob] * length,
        "sampled_tokens": length - row.prefix_length,
        "finish_reason": row.finish_reason,
        "response": row.response,
    }


def _verdict(row: Row) -> dict[str, Any]:
    return {
        "rollout_id": row.rollout_id,
        "gold": row.gold,
        "verdict": row.verdict,
        "extracted": row.extracted,
        "rule": "by hand",
        "reward": row.judged,
    }


def _scores(row: Row) -> dict[str, Any]:
    length = len(row.response_tokens)
    return {
        "rollout_id": row.rollout_id,
        "policy_logprobs": [row.policy_logprob] * length
        if isinstance(row.policy_logprob, float)
        else row.policy_logprob,
        "entropies": row.entropies or [0.5] * length,
        "computed_tokens": len(row.prompt_tokens) + length,
    }


def _novelty(row: Row) -> dict[str, Any]:
    return {
        "rollout_id": row.rollout_id,
        "novelty": row.novelty,
        "nearest_rollout_id": row.nearest,
        "embedding": None,
    }


PER_ROLLOUT = {
    "generate": contracts.Rollouts,
    "regenerate": contracts.Rollouts,
    "verify_generate": contracts.Verdicts,
    "verify_regenerate": contracts.Verdicts,
    "score_entropy_generate": contracts.TokenScores,
    "score_entropy_regenerate": contracts.TokenScores,
    "novelty": contracts.Novelty,
    "advantage": contracts.Advantages,
}
"""The tables that `scan_iteration` joins."""


def write_tables(folder: Path, tables: Mapping[str, pl.DataFrame], *leave_out: str) -> Path:
    """Write the tables that describe rollouts into an iteration folder."""
    for name in PER_ROLLOUT.keys() - set(leave_out):
        write_table(tables[name], folder / f"{name}.parquet", PER_ROLLOUT[name], {})
    return folder


def problem(problem_id: str, prompt: str = "3 4 :", answer: str = "7", benchmark: str = "L1") -> dict[str, Any]:
    """A row of `contracts.Problems`."""
    return {
        "problem_id": problem_id,
        "benchmark": benchmark,
        "split": "train",
        "canonical": problem_id,
        "problem": prompt,
        "prompt": prompt,
        "prompt_tokens": [1, 5],
        "answer": answer,
        "solution": None,
        "metadata": None,
        "relative_tolerance": 0.0,
        "absolute_tolerance": 0.0,
    }


def run_stage(
    module: ModuleType,
    tables: Mapping[str, pl.DataFrame],
    config: Mapping[str, Any] | None = None,
    *,
    derived: Mapping[str, Any] | None = None,
    run: RunContext | None = None,
    paths: Mapping[str, Path] | None = None,
    outputs: Mapping[str, Path] | None = None,
    arm: str = ARM,
    seed: int = 0,
    iteration: int = 0,
) -> dict[str, pl.DataFrame]:
    """`run()` of a stage on those of `tables` that it reads; what it returns is checked against its contracts.

    Shared sections that the configuration leaves out have their defaults. run: by default that of a run by hand.
    """
    stage = module.STAGE
    declared = {role.rstrip("?*"): contract for role, contract in stage.reads.items()}
    given = {role: table for role, table in tables.items() if role.partition(":")[0] in declared}
    shared: dict[str, Any] = {name: {} for name in SHARED if name in module.Config.model_fields}
    section = parse_config(module.Config, {**shared, **(config or {})}, stage.name)
    inputs = Inputs(given, dict(paths or {}), declared)
    place = {"arm": arm, "iteration": iteration, "derived": dict(derived or {})}
    job = Job(stage.name, stage.version, seed, section.model_dump(mode="json"), **place)
    context = Context(
        job, dict(outputs or {}), Console(None), {}, derived=stage.derived_of(job), run=run or RunContext()
    )
    made = module.run(inputs, section, context)
    return {
        role: check(made[role], contract, Path(role))
        for role, contract in stage.writes.items()
        if issubclass(contract, dy.Schema)
    }
