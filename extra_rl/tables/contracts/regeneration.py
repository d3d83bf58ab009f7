"""Contracts for what `choose_prefixes` carries from one iteration to the next, in addition to its pool of prefixes."""

from __future__ import annotations

import dataframely as dy
import polars as pl

from extra_rl.tables import column
from extra_rl.tables.contracts.rollouts import CUT_REASONS

ENTRIES = ["rescued", "fresh", "failure", "demonstration"]
ACTIONS = ["branch", "resample", "none", "wait"]


class PrefixBranches(dy.Schema):
    """`choose_prefixes`: continued prefixes and their results, for the fit of `rank: calibrated`, oldest first."""

    prefix_id = column.key("row of choose_prefixes")
    iteration = column.count("iteration that chose it")
    mean_surprisal = column.number("mean surprisal of its tokens under the sampler", "nats")
    highest_surprisal = column.number("highest surprisal of its tokens", "nats")
    remaining = column.count("tokens of its parent after the cut", "tokens")
    estimate = column.number("estimated share of correct continuations when it was chosen; null: no fit", nullable=True)
    successes = column.count("correct continuations")
    tries = column.count("judged continuations; 0: chosen in this iteration")

    @dy.rule()
    def successes_are_tries(cls) -> pl.Expr:
        return cls.successes.col <= cls.tries.col


class FreshGroups(dy.Schema):
    """`choose_prefixes`: results of recent fresh groups, and what was done for the hard ones (`action: cheapest`).

    Useful groups per 1,000 tokens are null where an action was not possible or nothing was estimated.
    """

    group_id = column.key("group")
    iteration = column.count("iteration that sampled it")
    rollouts = column.count("fresh rollouts")
    judged = column.count("of these, judged ones")
    right = column.count("of these, correct ones")
    mixed = column.flag("whether the rewards of the judged ones differ")
    sampled_tokens = column.count("tokens of the fresh rollouts", "tokens")
    decided = column.count("iteration of the latest decision; null: not a hard group", nullable=True)
    action = column.one_of(
        ACTIONS,
        "branch: prefixes are continued; resample: more rollouts of its problem; none: tokens are left for fresh "
        "problems; wait: decided again in the next iteration; null: not a hard group",
        nullable=True,
    )
    branch_per_1000 = column.number("expected of its prefixes", "useful groups per 1,000 tokens", nullable=True)
    resample_per_1000 = column.number("expected of more rollouts", "useful groups per 1,000 tokens", nullable=True)
    fresh_per_1000 = column.number("price: of recent fresh groups", "useful groups per 1,000 tokens", nullable=True)

    @dy.rule()
    def counts_are_nested(cls) -> pl.Expr:
        return (cls.right.col <= cls.judged.col) & (cls.judged.col <= cls.rollouts.col)

    @dy.rule()
    def an_action_was_decided(cls) -> pl.Expr:
        return cls.action.col.is_null() == cls.decided.col.is_null()


class ReplayBank(dy.Schema):
    """`choose_prefixes`: stored trajectories, whose prefixes are replayed (`choose_prefixes.replay`), oldest first."""

    group_id = column.key("group in which it was found; its replays are named after it")
    problem_id = column.text("problem; each has at most one stored trajectory")
    entry = column.one_of(
        ENTRIES,
        "how it was found: a correct continuation, a correct or an incorrect fresh rollout, or a worked solution",
    )
    rollout_id = column.text("rollout; null: a worked solution", nullable=True)
    prompt_tokens = column.tokens("the problem's prompt")
    response_tokens = column.tokens("the trajectory")
    response_logprobs = column.per_token("sampler logprobs of these tokens; 0 in a worked solution", "nats")
    cuts = dy.List(dy.Int64(min=1), min_length=1, metadata={"about": "b_1 < ... < b_m", "unit": "tokens"})
    cut_reason = column.one_of(CUT_REASONS, "which rule proposed the cuts")
    position = column.count("k: its prefix has b_k tokens; 0: none")
    successes = column.count("correct continuations at this position")
    tries = column.count("judged continuations at this position")
    tried_tokens = column.count("tokens sampled for them", "tokens")
    failures = column.count("failures in a row at the easiest position")
    born = column.count("iteration in which it was stored")
    last_served = column.count("last iteration that chose it; null: none yet", nullable=True)
    priority = column.number(
        "p (1 - p) / (G L), or p (1 - p) (`order`), in this iteration; decides what is replayed", min=0.0
    )

    @dy.rule()
    def token_lists_agree(cls) -> pl.Expr:
        return cls.response_tokens.col.list.len() == cls.response_logprobs.col.list.len()

    @dy.rule()
    def cuts_ascend_within_the_trajectory(cls) -> pl.Expr:
        ascend = (cls.cuts.col.list.diff(null_behavior="drop").list.min() > 0).fill_null(True)
        return ascend & (cls.cuts.col.list.last() < cls.response_tokens.col.list.len())

    @dy.rule()
    def the_position_is_a_cut_or_the_prompt(cls) -> pl.Expr:
        return cls.position.col <= cls.cuts.col.list.len()

    @dy.rule()
    def successes_are_tries(cls) -> pl.Expr:
        return cls.successes.col <= cls.tries.col

    @dy.rule()
    def a_problem_is_stored_once(cls) -> pl.Expr:
        return cls.problem_id.col.is_unique()
