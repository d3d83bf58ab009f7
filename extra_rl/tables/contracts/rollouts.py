"""Rollouts, what is said of them, and where they are sampled on from."""

from __future__ import annotations

import dataframely as dy
import polars as pl

from extra_rl.tables import column
from extra_rl.tables.contracts.words import CUT_REASONS, ENDS, JUDGED, ORIGINS, WHEN


class Rollouts(dy.Schema):
    """`generate` and `regenerate`: token ids in, token ids and logprobs out."""

    rollout_id = column.key("{arm}/s{seed}/i{iteration}/{group}/{n}")
    group_id = column.text("group whose prompt this answers; a regenerated rollout names its parent's group")
    problem_id = column.text("problem")
    origin = column.one_of(ORIGINS, "sampled from the bare prompt, on from a chosen prefix, or a worked solution")
    prefix_id = column.text("row of choose_prefixes that it continues", nullable=True)
    parent_rollout_id = column.text("rollout that the prefix was cut from; null without one", nullable=True)
    prefix_length = column.count("response tokens that were given: the parent's; all of a demonstration's", "tokens")
    prompt_tokens = column.tokens("what was sent to the sampler before the prefix")
    response_tokens = column.tokens("prefix and sampled tokens, end-of-sequence included")
    sampler_logprobs = column.per_token(
        "logprob under the distribution that each token was sampled from; 0 in a demonstration", "nats"
    )
    sampled_tokens = column.count("tokens that this row cost: response without prefix", "tokens")
    finish_reason = column.one_of(ENDS, "ended by itself, or cut off at the token limit")
    response = column.text("decoded response up to its end, special tokens within it visible")

    @dy.rule()
    def token_lists_agree(cls) -> pl.Expr:
        return cls.response_tokens.col.list.len() == cls.sampler_logprobs.col.list.len()

    @dy.rule()
    def sampled_is_response_without_prefix(cls) -> pl.Expr:
        return cls.sampled_tokens.col == cls.response_tokens.col.list.len() - cls.prefix_length.col

    @dy.rule()
    def logprobs_are_not_positive(cls) -> pl.Expr:
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
    def nothing_of_a_demonstration_is_sampled(cls) -> pl.Expr:
        return (cls.origin.col != "demonstration") | ((cls.sampled_tokens.col == 0) & cls.prefix_id.col.is_null())

    @dy.rule()
    def a_regenerated_rollout_names_its_prefix(cls) -> pl.Expr:
        return (cls.origin.col != "regenerated") | cls.prefix_id.col.is_not_null()


class RolloutsOfShard(Rollouts):
    """A shard's part of `generate` or `regenerate`; `gather` makes the whole of them."""

    position = column.count("place in the whole table, from 0")


class Verdicts(dy.Schema):
    """`verify`: what became of each rollout when it was judged."""

    rollout_id = column.key("rollout")
    gold = column.text("answer that it was judged against")
    verdict = column.one_of(JUDGED, "the judgement")
    extracted = column.text("answer found in the response", nullable=True)
    rule = column.text("rule that decided")
    reward = column.number("verified reward; null: excluded from its group's statistics", nullable=True)


class Disagreements(dy.Schema):
    """`audit`: the rollouts on which a second judge disagrees with `verify` about right or not."""

    rollout_id = column.key("rollout")
    problem_id = column.text("problem")
    gold = column.text("answer that both judged against")
    first_verdict = column.one_of(JUDGED, "the judgement of verify")
    first_extracted = column.text("answer that verify found", nullable=True)
    first_rule = column.text("rule that decided in verify")
    second_verdict = column.one_of(JUDGED, "the judgement of audit.judge")
    second_extracted = column.text("answer that it found", nullable=True)
    second_rule = column.text("rule that it names")
    response = column.text("decoded response")

    @dy.rule()
    def one_says_right_and_the_other_does_not(cls) -> pl.Expr:
        return (cls.first_verdict.col == "right") != (cls.second_verdict.col == "right")


class TokenScores(dy.Schema):
    """`score_entropy`: the policy's own view of every response token, at the sampling temperature.

    With `score_entropy.rows: signal` both lists are null for rollouts that carry no signal. There may then be rows
    behind those of the rollouts: of rollouts that an earlier call left out, and that continuations complete now.
    """

    rollout_id = column.key("rollout")
    policy_logprobs = column.per_token(
        "logprob under the policy that sampled it (old_logprob); null: not scored", "nats", nullable=True
    )
    entropies = column.per_token(
        "full-vocabulary Shannon entropy before each token; null: not scored", "nats", nullable=True
    )
    computed_tokens = column.count(
        "tokens that the layers ran on for it: prompt and padding counted, those shared within a micro-batch once",
        "tokens",
    )

    @dy.rule()
    def token_lists_agree(cls) -> pl.Expr:
        unscored = cls.policy_logprobs.col.is_null() & cls.entropies.col.is_null() & (cls.computed_tokens.col == 0)
        same_length = cls.policy_logprobs.col.list.len() == cls.entropies.col.list.len()
        return unscored | same_length.fill_null(False)


class Prefixes(dy.Schema):
    """`choose_prefixes`: every candidate prefix of the hard groups, its score, and whether it was chosen."""

    prefix_id = column.key("{rollout_id}@{prefix_length}; with a group where a remembered prefix serves again")
    group_id = column.text("hard group that it is to help")
    problem_id = column.text("problem")
    parent_rollout_id = column.text("rollout it was cut from; null for a fresh resample", nullable=True)
    iteration = column.count("iteration in which the parent was sampled")
    prompt_tokens = column.tokens("the problem's prompt")
    prefix_tokens = column.tokens("response tokens that are kept")
    prefix_logprobs = column.per_token("sampler logprobs of the kept tokens", "nats")
    parent_length = column.count("response length of the parent; null without one", "tokens", nullable=True)
    cut_reason = column.one_of(CUT_REASONS, "which rule proposed the cut")
    score = column.number(
        "mean token entropy (or surprisal, by `rank`) of the prefix; null: a fresh resample", "nats", nullable=True
    )
    smoothed_score = column.number("score after smoothing over similar prefixes", "nats", nullable=True)
    effective_neighbours = column.number("exp(entropy) of the smoothing weights", "prefixes", nullable=True)
    rank = column.count("place in the order of choice within its problem, 0 first")
    chosen = column.flag("whether continuations are sampled from it")
    continuations = column.count("how many; 0 unless chosen")
    when = column.one_of(WHEN, "in this iteration's second call, or in one batch with the next iteration's prompts")

    @dy.rule()
    def token_lists_agree(cls) -> pl.Expr:
        return cls.prefix_tokens.col.list.len() == cls.prefix_logprobs.col.list.len()

    @dy.rule()
    def chosen_means_continuations(cls) -> pl.Expr:
        return cls.chosen.col == (cls.continuations.col > 0)


class PrefixPool(dy.Schema):
    """`choose_prefixes`: what later iterations may use: hard groups that wait, and remembered prefixes."""

    prefix_id = column.key("{rollout_id}@{prefix_length}")
    waiting = dy.Bool(primary_key=True, metadata={"about": "its group waits for its turn; else remembered"})
    group_id = column.text("group it was cut from")
    problem_id = column.text("problem")
    parent_rollout_id = column.text("rollout it was cut from; null for a fresh resample", nullable=True)
    iteration = column.count("iteration in which the parent was sampled")
    prompt_tokens = column.tokens("the problem's prompt")
    prefix_tokens = column.tokens("response tokens that are kept")
    prefix_logprobs = column.per_token("sampler logprobs of the kept tokens", "nats")
    parent_length = column.count("response length of the parent; null without one", "tokens", nullable=True)
    cut_reason = column.one_of(CUT_REASONS, "which rule proposed the cut")
    score = column.number(
        "mean token entropy (or surprisal, by `rank`) of the prefix; null: a fresh resample", "nats", nullable=True
    )
