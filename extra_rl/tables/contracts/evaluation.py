"""Samples of an evaluation, their figures, and what a comparison of arms says."""

from __future__ import annotations

import dataframely as dy

from extra_rl.tables import column
from extra_rl.tables.contracts.words import ENDS, EVALUATION_METRICS, JUDGED


class EvaluationSamples(dy.Schema):
    """`evaluate`: one sample of one held-out problem a row."""

    problem_id = dy.String(primary_key=True, metadata={"about": "problem"})
    sample_index = dy.Int64(primary_key=True, min=0, metadata={"about": "sample of this problem"})
    benchmark = column.text("benchmark")
    prompt_tokens = column.tokens("what was sent to the sampler")
    response_tokens = column.tokens("response, end-of-sequence included")
    finish_reason = column.one_of(ENDS, "ended by itself, or cut off at the token limit")
    response = column.text("decoded response")
    gold = column.text("answer that it was judged against")
    verdict = column.one_of(JUDGED, "the judgement")
    extracted = column.text("answer found in the response", nullable=True)
    rule = column.text("rule that decided")


class JudgedSamples(dy.Schema):
    """What `compare` reads of `evaluate`: the verdicts; of hundreds of policies the rest would fill the memory."""

    problem_id = dy.String(primary_key=True, metadata={"about": "problem"})
    sample_index = dy.Int64(primary_key=True, min=0, metadata={"about": "sample of this problem"})
    benchmark = column.text("benchmark")
    verdict = column.one_of(JUDGED, "the judgement")


class EvaluationFigures(dy.Schema):
    """`evaluate`: what the samples say of a policy, with intervals (docs/evaluation.md)."""

    benchmark = column.key("benchmark; `mean`: every benchmark weighs the same")
    metric = dy.Enum(EVALUATION_METRICS, primary_key=True, metadata={"about": "what is measured"})
    k = dy.Int64(primary_key=True, min=0, metadata={"about": "k of pass@k and maj@k; 0 for the others"})
    value = column.number("mean over problems", "percent; tokens for mean_length", min=0.0)
    low = column.number("lower end of the 95 % bootstrap interval over problems", "as value")
    high = column.number("upper end of the 95 % bootstrap interval over problems", "as value")
    problems = column.count("problems that count here: those with at least k judged samples")
    samples = column.count("samples of these problems, judged or not")
    excluded = column.count("samples of the benchmark that could not be judged (gold unparseable, verifier error)")


class CachedSamples(dy.Schema):
    """A part of the sample cache of `evaluate` (`extra_rl.evaluation.store`); verdicts are not cached."""

    problem_key = column.key("SHA-256 of the problem's id and prompt tokens")
    sample_index = dy.Int64(primary_key=True, min=0, metadata={"about": "sample of this problem"})
    response_tokens = column.tokens("response, end-of-sequence included")
    finish_reason = column.one_of(ENDS, "ended by itself, or cut off at the token limit")


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
    excluded = column.count("samples left out (gold unparseable, verifier error)")


class SeedFigures(dy.Schema):
    """`compare`: pass@k of every arm and seed, and of the policy that it started from."""

    regime = dy.String(primary_key=True, metadata={"about": "regime; empty: the configuration has none"})
    arm = column.key("arm")
    seed = dy.Int64(primary_key=True, min=0, metadata={"about": "experiment seed"})
    benchmark = column.key("benchmark; `mean`: every benchmark weighs the same")
    k = dy.Int64(primary_key=True, min=1, metadata={"about": "k of pass@k"})
    pass_at_k = column.number("unbiased estimate of the final policy", "percent", min=0.0, max=100.0)
    warm_start = column.count("number of the warm start that it began with")
    warm_start_pass_at_k = column.number("the same figure of that warm start", "percent", nullable=True)


class Differences(dy.Schema):
    """`compare`: arm - base over seeds, in percentage points (docs/statistics.md)."""

    regime = dy.String(primary_key=True, metadata={"about": "regime; empty: the configuration has none"})
    regime_value = column.number("the regime's number; null without regimes", nullable=True)
    arm = column.key("arm")
    base = column.key("arm that it is compared with; `warm_start`: the policy that each seed began with")
    named = column.flag("named before the run (compare.comparisons)")
    benchmark = column.key("benchmark; `mean`: every benchmark weighs the same")
    k = dy.Int64(primary_key=True, min=1, metadata={"about": "k of pass@k"})
    difference = column.number("mean over seeds", "percentage points")
    sd = column.number("standard deviation over seeds; null: one seed", "percentage points", nullable=True)
    t_low = column.number("95 % t interval, blocked by warm start; null: one seed", nullable=True)
    t_high = column.number("upper end of the same", nullable=True)
    bootstrap_low = column.number("95 % bootstrap interval over seeds and problems; null: one seed", nullable=True)
    bootstrap_high = column.number("upper end of the same", nullable=True)
    p = column.number("two-sided p of the sign-flip test over seeds; null: one seed", nullable=True, min=0.0, max=1.0)
    p_holm = column.number("p after Holm; of named differences of `mean`, else null", nullable=True, min=0.0, max=1.0)
    seeds = dy.Int64(min=1, metadata={"about": "seeds that both have"})
    blocks = dy.Int64(min=1, metadata={"about": "warm starts that these seeds began with"})
