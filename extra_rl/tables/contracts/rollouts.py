"""Contracts for rollouts, their verdicts and token scores, the prefixes that are continued, and imported rows."""

from __future__ import annotations

import dataframely as dy
import polars as pl

from extra_rl.tables import column
from extra_rl.verdict import Verdict

ORIGINS = ["fresh", "regenerated", "demonstration"]
FINISH_REASONS = ["stop", "length"]
VERDICTS = [verdict.value for verdict in Verdict]
CUT_REASONS = ["boundary", "before_peak", "random", "fixed_stride", "fresh"]
WHEN = ["same_iteration", "next_iteration"]


class Rollouts(dy.Schema):
    """`generate` and `regenerate`: one row per rollout, with its tokens and their logprobs."""

    rollout_id = column.key("{arm}/s{seed}/i{iteration}/{group}/{n}")
    group_id = column.text("group of its prompt; a regenerated rollout has the group of its parent")
    problem_id = column.text("problem")
    origin = column.one_of(ORIGINS, "sampled from the prompt, continued from a chosen prefix, or a worked solution")
    prefix_id = column.text("row of choose_prefixes that it continues", nullable=True)
    parent_rollout_id = column.text("rollout that the prefix was cut from; null without one", nullable=True)
    prefix_length = column.count(
        "response tokens that were not sampled: those of the prefix; all tokens of a demonstration", "tokens"
    )
    prompt_tokens = column.tokens("the prompt that the sampler received, without the prefix")
    response_tokens = column.tokens("prefix and sampled tokens, end-of-sequence included")
    sampler_logprobs = column.per_token(
        "logprob under the distribution that each token was sampled from; 0 in a demonstration; null: not known, of an "
        "imported rollout",
        "nats",
        nullable=True,
    )
    sampled_tokens = column.count("tokens sampled for this row: the response without the prefix", "tokens")
    finish_reason = column.one_of(FINISH_REASONS, "stop: ended by the policy; length: cut off at the token limit")
    response = column.text("decoded response up to its end, with the special tokens within it")

    @dy.rule()
    def token_lists_agree(cls) -> pl.Expr:
        known = cls.sampler_logprobs.col.is_not_null()
        return ~known | (cls.response_tokens.col.list.len() == cls.sampler_logprobs.col.list.len())

    @dy.rule()
    def sampled_is_response_without_prefix(cls) -> pl.Expr:
        return cls.sampled_tokens.col == cls.response_tokens.col.list.len() - cls.prefix_length.col

    @dy.rule()
    def logprobs_are_not_positive(cls) -> pl.Expr:
        # A sampler may round the logprob of a certain token to slightly above 0.
        return cls.sampler_logprobs.col.list.max().fill_null(0) <= 1e-4

    @dy.rule()
    def a_group_has_one_problem(cls) -> pl.Expr:
        return cls.problem_id.col.n_unique().over(cls.group_id.col) == 1

    @dy.rule()
    def a_fresh_rollout_has_no_prefix(cls) -> pl.Expr:
        return (cls.origin.col != "fresh") | (
            (cls.prefix_length.col == 0) & cls.prefix_id.col.is_null() & cls.parent_rollout_id.col.is_null()
        )

    @dy.rule()
    def a_demonstration_has_no_sampled_tokens(cls) -> pl.Expr:
        return (cls.origin.col != "demonstration") | ((cls.sampled_tokens.col == 0) & cls.prefix_id.col.is_null())

    @dy.rule()
    def a_regenerated_rollout_names_its_prefix(cls) -> pl.Expr:
        return (cls.origin.col != "regenerated") | cls.prefix_id.col.is_not_null()


class RolloutsOfShard(Rollouts):
    """One shard of `generate` or `regenerate`; `gather` combines the shards."""

    position = column.count("position in the whole table, from 0")


class Verdicts(dy.Schema):
    """`verify`: one row per rollout, with its verdict and reward."""

    rollout_id = column.key("rollout")
    gold = column.text("reference answer that it was judged against")
    verdict = column.one_of(VERDICTS, "verdict of the verifier")
    extracted = column.text("answer found in the response", nullable=True)
    rule = column.text("rule that decided")
    reward = column.number("verified reward; null: excluded from its group's statistics", nullable=True)
    numbers = column.numbers("named numbers of the judge, and the built-in ones that verify.weights names; null: none")


class Disagreements(dy.Schema):
    """`audit`: the rollouts that exactly one of `verify` and a second judge considers correct."""

    rollout_id = column.key("rollout")
    problem_id = column.text("problem")
    gold = column.text("reference answer that both judged against")
    first_verdict = column.one_of(VERDICTS, "verdict of verify")
    first_extracted = column.text("answer that verify found", nullable=True)
    first_rule = column.text("rule that decided in verify")
    second_verdict = column.one_of(VERDICTS, "verdict of audit.judge")
    second_extracted = column.text("answer that audit.judge found", nullable=True)
    second_rule = column.text("rule that decided in audit.judge")
    response = column.text("decoded response")

    @dy.rule()
    def exactly_one_verdict_is_correct(cls) -> pl.Expr:
        return (cls.first_verdict.col == "right") != (cls.second_verdict.col == "right")


class TokenScores(dy.Schema):
    """`score_entropy`: the policy's logprob and entropy at every response token, at the sampling temperature.

    With `score_entropy.rows: signal` both lists are null for rollouts without a signal. Further rows may then follow
    those of the rollouts: parents that an earlier call left out and whose continuations now give them a signal.
    """

    rollout_id = column.key("rollout")
    policy_logprobs = column.per_token(
        "logprob under the policy that sampled it (old_logprob); null: not scored", "nats", nullable=True
    )
    entropies = column.per_token(
        "full-vocabulary Shannon entropy before each token; null: not scored", "nats", nullable=True
    )
    computed_tokens = column.count(
        "tokens that the layers computed for it, with prompt and padding; shared tokens of a micro-batch count once",
        "tokens",
    )

    @dy.rule()
    def token_lists_agree(cls) -> pl.Expr:
        # Both lists null and nothing computed, or both present with one entry per token.
        unscored = cls.policy_logprobs.col.is_null() & cls.entropies.col.is_null() & (cls.computed_tokens.col == 0)
        same_length = cls.policy_logprobs.col.list.len() == cls.entropies.col.list.len()
        return unscored | same_length.fill_null(False)


class Prefixes(dy.Schema):
    """`choose_prefixes`: every candidate prefix of the hard groups, its score, and whether it was chosen."""

    prefix_id = column.key("{rollout_id}@{prefix_length}; followed by >{group_id} if remembered or replayed")
    group_id = column.text("hard group for which it is a candidate, or group of replays")
    problem_id = column.text("problem")
    parent_rollout_id = column.text(
        "rollout that it was cut from; null for a fresh sample or a worked solution", nullable=True
    )
    iteration = column.count("iteration in which the parent was sampled, or the replayed trajectory was stored")
    prompt_tokens = column.tokens("the problem's prompt")
    prefix_tokens = column.tokens("response tokens of the prefix")
    prefix_logprobs = column.per_token("sampler logprobs of these tokens; null: not known", "nats", nullable=True)
    parent_length = column.count("response length of the parent; null without a parent", "tokens", nullable=True)
    cut_reason = column.one_of(CUT_REASONS, "which rule proposed the cut")
    score = column.number(
        "mean token entropy (or surprisal, by `rank`) of the prefix; null: a fresh sample or a replay",
        "nats",
        nullable=True,
    )
    smoothed_score = column.number("score after smoothing over similar prefixes", "nats", nullable=True)
    effective_neighbours = column.number("exp(entropy) of the smoothing weights", "prefixes", nullable=True)
    estimate = column.number(
        "share of correct continuations that the fit of past branches expects (`rank: calibrated`); null: no fit",
        nullable=True,
    )
    rank = column.count("position in the order of choice within its group, from 0")
    chosen = column.flag("whether continuations are sampled from it")
    continuations = column.count("number of continuations; 0 unless chosen")
    when = column.one_of(
        WHEN, "continued in this iteration's second sampling call, or with the next iteration's prompts"
    )

    @dy.rule()
    def token_lists_agree(cls) -> pl.Expr:
        known = cls.prefix_logprobs.col.is_not_null()
        return ~known | (cls.prefix_tokens.col.list.len() == cls.prefix_logprobs.col.list.len())

    @dy.rule()
    def chosen_means_continuations(cls) -> pl.Expr:
        return cls.chosen.col == (cls.continuations.col > 0)


class PrefixPool(dy.Schema):
    """`choose_prefixes`: prefixes for later iterations, of hard groups that wait and remembered ones."""

    prefix_id = column.key("{rollout_id}@{prefix_length}")
    waiting = dy.Bool(primary_key=True, metadata={"about": "true: of a group that waits; false: remembered"})
    group_id = column.text("group of its parent")
    problem_id = column.text("problem")
    parent_rollout_id = column.text("rollout that it was cut from; null for a fresh sample", nullable=True)
    iteration = column.count("iteration in which the parent was sampled")
    prompt_tokens = column.tokens("the problem's prompt")
    prefix_tokens = column.tokens("response tokens of the prefix")
    prefix_logprobs = column.per_token("sampler logprobs of these tokens; null: not known", "nats", nullable=True)
    parent_length = column.count("response length of the parent; null without a parent", "tokens", nullable=True)
    cut_reason = column.one_of(CUT_REASONS, "which rule proposed the cut")
    score = column.number(
        "mean token entropy (or surprisal, by `rank`) of the prefix; null: a fresh sample", "nats", nullable=True
    )

    @dy.rule()
    def token_lists_agree(cls) -> pl.Expr:
        known = cls.prefix_logprobs.col.is_not_null()
        return ~known | (cls.prefix_tokens.col.list.len() == cls.prefix_logprobs.col.list.len())


class ImportedRows(dy.Schema):
    """`extra import`: one row per rollout, with its place and the numbers that its file gives it."""

    rollout_id = column.key("rollout")
    place = column.text("file and row")
    step = dy.Int64(nullable=True, metadata={"about": "the file's step; null: it names none"})
    reward = column.number("the file's reward; null: none", nullable=True)
    advantage = column.number("the file's advantage; null: none", nullable=True)
    further = column.text("JSON of the row's other numbers, by column")
