"""Contracts for the samples of an evaluation, their statistics, and the comparison of arms."""

from __future__ import annotations

import dataframely as dy

from extra_rl.tables import column
from extra_rl.tables.contracts.rollouts import FINISH_REASONS, VERDICTS

EVALUATION_METRICS = ["pass_at_k", "maj_at_k", "mean_length", "truncated", "no_answer"]


class EvaluationSamples(dy.Schema):
    """`evaluate`: one row per sample of a held-out problem."""

    problem_id = dy.String(primary_key=True, metadata={"about": "problem"})
    sample_index = dy.Int64(primary_key=True, min=0, metadata={"about": "sample of this problem"})
    benchmark = column.text("benchmark")
    prompt_tokens = column.tokens("the prompt that the sampler received")
    response_tokens = column.tokens("response, end-of-sequence included")
    finish_reason = column.one_of(FINISH_REASONS, "stop: ended by the policy; length: cut off at the token limit")
    response = column.text("decoded response")
    gold = column.text("reference answer that it was judged against")
    verdict = column.one_of(VERDICTS, "verdict of the verifier")
    extracted = column.text("answer found in the response", nullable=True)
    rule = column.text("rule that decided")


class JudgedSamples(dy.Schema):
    """The columns of `evaluate` that `compare` reads. With hundreds of policies the others would exceed the memory."""

    problem_id = dy.String(primary_key=True, metadata={"about": "problem"})
    sample_index = dy.Int64(primary_key=True, min=0, metadata={"about": "sample of this problem"})
    benchmark = column.text("benchmark")
    verdict = column.one_of(VERDICTS, "verdict of the verifier")


class EvaluationFigures(dy.Schema):
    """`evaluate`: statistics of a policy's samples, with intervals (docs/evaluation.md)."""

    benchmark = column.key("benchmark; `mean`: every benchmark has equal weight")
    metric = dy.Enum(EVALUATION_METRICS, primary_key=True, metadata={"about": "the statistic"})
    k = dy.Int64(primary_key=True, min=0, metadata={"about": "k of pass@k and maj@k; 0 for the others"})
    value = column.number("mean over problems", "percent; tokens for mean_length", min=0.0)
    low = column.number("lower end of the 95 % bootstrap interval over problems", "as value")
    high = column.number("upper end of the 95 % bootstrap interval over problems", "as value")
    problems = column.count("problems with at least k judged samples, over which the mean is taken")
    samples = column.count("samples of these problems, judged or not")
    excluded = column.count(
        "samples of the benchmark that could not be judged (reference answer unparseable, verifier error)"
    )


class CachedSamples(dy.Schema):
    """A file of the sample cache of `evaluate` (`extra_rl.evaluation.store`); verdicts are not cached."""

    problem_key = column.key("SHA-256 of the problem's id and prompt tokens")
    sample_index = dy.Int64(primary_key=True, min=0, metadata={"about": "sample of this problem"})
    response_tokens = column.tokens("response, end-of-sequence included")
    finish_reason = column.one_of(FINISH_REASONS, "stop: ended by the policy; length: cut off at the token limit")


class Comparison(dy.Schema):
    """`compare`: pass@k per policy, seed and benchmark."""

    policy = dy.String(
        primary_key=True, metadata={"about": "folder of an arm, for its final policy, or of a warm start"}
    )
    seed = dy.Int64(primary_key=True, metadata={"about": "experiment seed; -1 for a warm start"})
    benchmark = dy.String(primary_key=True, metadata={"about": "benchmark"})
    k = dy.Int64(primary_key=True, min=1, metadata={"about": "k of pass@k"})
    pass_at_k = column.number("unbiased estimate, mean over problems", "percent", min=0.0, max=100.0)
    low = column.number("lower end of the 95 % bootstrap interval over problems", "percent")
    high = column.number("upper end of the 95 % bootstrap interval over problems", "percent")
    problems = column.count("problems")
    samples = column.count("samples per problem")
    excluded = column.count("samples left out (reference answer unparseable, verifier error)")


class SeedFigures(dy.Schema):
    """`compare`: pass@k of every arm and seed, and of its initial policy."""

    regime = dy.String(primary_key=True, metadata={"about": "regime; empty: the configuration has none"})
    arm = column.key("arm")
    seed = dy.Int64(primary_key=True, min=0, metadata={"about": "experiment seed"})
    benchmark = column.key("benchmark; `mean`: every benchmark has equal weight")
    k = dy.Int64(primary_key=True, min=1, metadata={"about": "k of pass@k"})
    pass_at_k = column.number("unbiased estimate of the final policy", "percent", min=0.0, max=100.0)
    warm_start = column.count("number of the warm start that is its initial policy")
    warm_start_pass_at_k = column.number("pass@k of that warm start", "percent", nullable=True)


class Differences(dy.Schema):
    """`compare`: arm - base over seeds, in percentage points (docs/statistics.md)."""

    regime = dy.String(primary_key=True, metadata={"about": "regime; empty: the configuration has none"})
    regime_value = column.number("`value` of the regime; null without regimes", nullable=True)
    arm = column.key("arm")
    base = column.key("arm that it is compared with; `warm_start`: the initial policy of each seed")
    named = column.flag("named before the run (compare.comparisons)")
    benchmark = column.key("benchmark; `mean`: every benchmark has equal weight")
    k = dy.Int64(primary_key=True, min=1, metadata={"about": "k of pass@k"})
    difference = column.number("mean over seeds", "percentage points")
    sd = column.number("standard deviation over seeds; null: one seed", "percentage points", nullable=True)
    t_low = column.number("95 % t interval, blocked by warm start; null: one seed", nullable=True)
    t_high = column.number("upper end of the t interval", nullable=True)
    bootstrap_low = column.number("95 % bootstrap interval over seeds and problems; null: one seed", nullable=True)
    bootstrap_high = column.number("upper end of the bootstrap interval", nullable=True)
    p = column.number("two-sided p of the sign-flip test over seeds; null: one seed", nullable=True, min=0.0, max=1.0)
    p_holm = column.number(
        "p after Holm's correction, of named differences of `mean`; else null", nullable=True, min=0.0, max=1.0
    )
    seeds = dy.Int64(min=1, metadata={"about": "seeds of both arms"})
    blocks = dy.Int64(min=1, metadata={"about": "warm starts of these seeds"})
