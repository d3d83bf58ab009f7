"""One evaluation: samples of a policy for some problems, their verdicts and figures. It writes only the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.config.sections import ComputeConfig, SamplingConfig, TaskConfig, VerifierConfig
from extra_rl.evaluation.figures import figures, table_lines
from extra_rl.evaluation.policies import EvaluatedPolicy
from extra_rl.evaluation.sample import Wanted, samples_of
from extra_rl.evaluation.store import Cached, SampleStore, problem_key
from extra_rl.judging.dispatch import Answer, faults_of_judge, judge_answers
from extra_rl.run.progress import Console
from extra_rl.sampling.base import Request
from extra_rl.seeding import derive_seed
from extra_rl.tables import contracts

SETTINGS = ("backend", "temperature", "top_p", "top_k", "max_response_tokens")
"""Keys of the sampling section that determine the distribution of a sample. Stop strings, the precision of the weights
and the seed are the rest of a cache key. Batch size, threads and device change only rounding, so they are not."""

DECODED_TOGETHER = 1024
"""Samples whose token ids are converted to Python lists at a time, which bounds the memory."""


@dataclass(frozen=True)
class Evaluation:
    """Tables EvaluationSamples and EvaluationFigures. opening_seconds: to start the sampler; 0 if all were cached."""

    samples: pl.DataFrame
    figures: pl.DataFrame
    opening_seconds: float


def evaluate(
    problems: pl.DataFrame,
    policy: EvaluatedPolicy,
    *,
    task: TaskConfig,
    verifier: VerifierConfig,
    sampling: SamplingConfig,
    compute: ComputeConfig,
    samples: int,
    seed: int,
    cache: Path | None,
    part_samples: int,
    console: Console,
    label: str = "evaluate",
) -> Evaluation:
    """Sample and judge `samples` responses for every problem, print the figures, and return both tables.

    The seed of a sample depends only on `seed`, its problem and its index, so more samples or problems leave existing
    ones unchanged.

    Args:
        problems: contract Problems; the samples have their order.
        policy: to evaluate.
        task, verifier, sampling, compute: sections of the configuration.
        samples: per problem.
        seed: of the samples.
        cache: folder of `extra_rl.evaluation.store`; None for no cache.
        part_samples: samples between two writes to the cache.
        console: for progress and figures.
        label: begins the printed lines.
    """
    rows = [(row, sample) for row in problems.iter_rows(named=True) for sample in range(samples)]
    keys = {row["problem_id"]: problem_key(row["problem_id"], row["prompt_tokens"]) for row, _ in rows[::samples]}
    wanted = [
        Wanted(
            (keys[row["problem_id"]], sample),
            row["problem_id"],
            Request(
                tuple(row["prompt_tokens"]),
                sampling.max_response_tokens,
                derive_seed(seed, "evaluate", row["problem_id"], sample),
            ),
        )
        for row, sample in rows
    ]
    store = SampleStore.open(cache, policy.digest, settings_of(sampling, compute, seed)) if cache else None
    drawn, decode, opening = samples_of(
        wanted, policy, sampling, compute, store=store, part_samples=part_samples, console=console, label=label
    )
    table, faults = _judged([row for row, _ in rows], [sample for _, sample in rows], drawn, decode, task, verifier)
    if faults:
        console.say(f"WARNING: {label}: {faults}")
    found = figures(table)
    for line in [f"{label}: {policy.name}", *table_lines(found)]:
        console.say(line)
    return Evaluation(table, found, opening)


def settings_of(sampling: SamplingConfig, compute: ComputeConfig, seed: int) -> dict[str, Any]:
    """Return the settings that, with the policy, identify a cache of samples. Stop strings are a set."""
    own = {"stop": sorted(set(sampling.stop)), "precision": compute.precision, "seed": seed}
    return {**sampling.model_dump(include=set(SETTINGS)), **own}


def _judged(
    rows: list[dict[str, Any]],
    indices: list[int],
    drawn: list[Cached],
    decode: Any,
    task: TaskConfig,
    verifier: VerifierConfig,
) -> tuple[pl.DataFrame, str]:
    """Return EvaluationSamples, and a line about responses that a user's judge could not judge.

    Each response is judged by its problem's answer and tolerances.
    """
    texts = [
        text
        for start in range(0, len(drawn), DECODED_TOGETHER)
        for text in decode([sample.tokens.tolist() for sample in drawn[start : start + DECODED_TOGETHER]])
    ]
    answers = [
        Answer(
            row["problem"],
            row["answer"],
            text,
            sample.finish_reason == "stop",
            row.get("relative_tolerance", 0.0),
            row.get("absolute_tolerance", 0.0),
            row.get("metadata"),
            tuple(sample.tokens.tolist()),
        )
        for row, sample, text in zip(rows, drawn, texts, strict=True)
    ]
    judgements = judge_answers(answers, task, verifier)
    names = [f"{row['problem_id']}/{index}" for row, index in zip(rows, indices, strict=True)]
    faults = faults_of_judge(judgements, names, task)
    table = pl.DataFrame(
        {
            "problem_id": [row["problem_id"] for row in rows],
            "sample_index": indices,
            "benchmark": [row["benchmark"] for row in rows],
            "prompt_tokens": [row["prompt_tokens"] for row in rows],
            "response_tokens": [sample.tokens for sample in drawn],
            "finish_reason": [sample.finish_reason for sample in drawn],
            "response": texts,
            "gold": [row["answer"] for row in rows],
            "verdict": [judgement.verdict.value for judgement in judgements],
            "extracted": [judgement.extracted for judgement in judgements],
            "rule": [judgement.rule for judgement in judgements],
        },
        schema=contracts.EvaluationSamples.create_empty().schema,
    )
    return table, faults
