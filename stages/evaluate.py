"""Samples a policy on the held-out benchmarks and judges every sample.

READS   held_out, policy
ADDS    evaluate: one row a sample, with its tokens, text and verdict
SOURCE  docs/method.md 5: 16 samples a problem; pass@k is computed from this table by `compare`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import Field

from extra_rl.errors import InputError
from extra_rl.rewards.judging import Answer, judge_answers
from extra_rl.sampling.base import Request, refuse_not_finite
from extra_rl.sections import ComputeConfig, SamplingConfig, TaskConfig, VerifierConfig
from extra_rl.seeding import derive_seed
from extra_rl.stage import Context, Inputs, PolicyDirectory, Stage, StageConfig
from extra_rl.tables import contracts


class Config(StageConfig):
    """Which held-out problems, how many samples, and how they are drawn."""

    task: TaskConfig = Field(description="shared section `task`")
    verifier: VerifierConfig = Field(description="shared section `verifier`")
    sampling: SamplingConfig = Field(description="shared section `sampling`: backend and batch size")
    compute: ComputeConfig = Field(description="shared section `compute`")
    split: Literal["tuning", "final"] = Field("final", description="tuning: for choosing settings; final: to report")
    samples: int = Field(16, ge=1, description="samples per problem")
    temperature: float = Field(1.0, gt=0, description="temperature of evaluation")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of evaluation")
    top_k: int = Field(0, ge=0, description="top-k of evaluation; 0: all")
    max_response_tokens: int = Field(64, ge=1, description="response length at which a sample is cut off")
    seed: int = Field(0, description="seed of the samples; the same for every policy, so that pairs share their noise")


STAGE = Stage(
    name="evaluate",
    version=1,
    reads={"held_out": contracts.Problems, "policy": PolicyDirectory},
    adds={"evaluate": contracts.EvaluationSamples},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """`samples` rows for every problem of the split, in the order of the problems."""
    problems = inputs["held_out"].filter(pl.col("split") == config.split)
    if problems.is_empty():
        raise InputError(
            f"held_out has no problem of the split {config.split!r}; see prepare.{config.split}_per_level."
        )
    from extra_rl.sampling.open import open_sampler

    config.compute.apply()
    sampling = SamplingConfig(
        **config.sampling.model_dump(exclude={"temperature", "top_p", "top_k", "max_response_tokens"}),
        **config.model_dump(include={"temperature", "top_p", "top_k", "max_response_tokens"}),
    )
    sampler, decode = open_sampler(inputs.policy(), sampling)
    rows = [(row, sample) for row in problems.iter_rows(named=True) for sample in range(config.samples)]
    progress = context.progress(len(rows), f"evaluate {context.job.arm or 'warm start'}: sample")
    samples = sampler.sample(
        [
            Request(
                tuple(row["prompt_tokens"]),
                sampling.max_response_tokens,
                derive_seed(config.seed, "evaluate", row["problem_id"], sample),
            )
            for row, sample in rows
        ],
        sampling,
        progress.update,
    )
    refuse_not_finite(samples, inputs.policy())
    texts = decode([sample.tokens for sample in samples])
    answers = [
        Answer(row["prompt"], row["answer"], text, sample.finish_reason == "stop")
        for (row, _), sample, text in zip(rows, samples, texts, strict=True)
    ]
    judgements = judge_answers(answers, config.task, config.verifier)
    return {
        "evaluate": contracts.EvaluationSamples.cast(
            pl.DataFrame(
                {
                    "problem_id": [row["problem_id"] for row, _ in rows],
                    "sample_index": [sample for _, sample in rows],
                    "benchmark": [row["benchmark"] for row, _ in rows],
                    "prompt_tokens": [row["prompt_tokens"] for row, _ in rows],
                    "response_tokens": [sample.tokens for sample in samples],
                    "finish_reason": [sample.finish_reason for sample in samples],
                    "response": texts,
                    "gold": [row["answer"] for row, _ in rows],
                    "verdict": [j.verdict.value for j in judgements],
                    "extracted": [j.extracted for j in judgements],
                    "rule": [j.rule for j in judgements],
                },
                strict=False,
            )
        )
    }
