"""Contracts for novelty, advantages, optimizer steps, and the summary of an iteration."""

from __future__ import annotations

import dataframely as dy
import polars as pl

from extra_rl.tables import column

GROUP_TYPES = ["all_incorrect", "mixed", "all_correct", "excluded"]
TRAINED = ["trained", "no_signal", "unrescued", "excluded", "left_out"]


class Novelty(dy.Schema):
    """`novelty`: the novelty of each rollout among its siblings and the remembered rollouts."""

    rollout_id = column.key("rollout")
    novelty = column.number("raw bonus before weight, centring and scale; 0 with an empty comparison set", min=0.0)
    nearest_rollout_id = column.text("nearest member of the comparison set", nullable=True)
    embedding = column.per_token(
        "unit-norm embedding of the response; null where the measure has none", "", nullable=True
    )


class NoveltyMemory(dy.Schema):
    """`novelty`: the last rollouts of each problem, for the comparison sets of later iterations."""

    rollout_id = column.key("rollout")
    problem_id = column.text("problem")
    iteration = column.count("iteration that sampled it")
    tokens = column.tokens("tail of the response")
    embedding = column.per_token("unit-norm embedding; null where the measure has none", "", nullable=True)


class Advantages(dy.Schema):
    """`advantage`: one advantage per rollout, which `update` broadcasts over its response tokens, and its parts.

    Where the tokens of a rollout differ, `token_advantages` holds one for each token instead, and the other columns
    have the means over the tokens with loss.
    """

    rollout_id = column.key("rollout")
    advantage_group = column.text("rows that were normalised together")
    group_type = column.one_of(GROUP_TYPES, "type of that group, by the correctness of its judged rollouts")
    reward = column.number("verified reward; null: excluded", nullable=True)
    normalised = column.number("reward, normalised over the group; with token_advantages their mean without bonus")
    bonus = column.number("novelty bonus: weight, centring and scale applied")
    advantage = column.number("normalised + bonus; 0 where `positive_only` removed a negative advantage")
    token_advantages = column.per_token(
        "advantage of each response token, 0 before loss_start; null: `advantage` for every token", "", nullable=True
    )
    carried = column.flag("sampled in the previous iteration; completes a joined group")
    trained = column.one_of(TRAINED, "whether `update` trains on it, and if not, why")
    loss_start = column.count("position of the first response token with loss", "tokens")

    @dy.rule()
    def parts_add_up(cls) -> pl.Expr:
        total = cls.normalised.col + cls.bonus.col
        return (cls.advantage.col == 0) | ((cls.advantage.col - total).abs() <= 1e-5 * (1 + total.abs()))


class UpdateSteps(dy.Schema):
    """`update`: one row per optimizer step."""

    step = dy.Int64(primary_key=True, min=0, metadata={"about": "optimizer step within the iteration"})
    rows = column.count("rollouts of the mini-batch, including those without a signal")
    signal_rows = column.count("rollouts with a forward and backward pass")
    loss_tokens = column.count("tokens in the denominator of the loss", "tokens")
    computed_tokens = column.count(
        "tokens that the layers computed, with prompt and padding; tokens shared within a micro-batch count once",
        "tokens",
    )
    loss = column.number("the minimised loss")
    gradient_norm = column.number("norm of the gradient before clipping")
    learning_rate = column.number("learning rate of this step")
    clipped_low = column.number("share of loss tokens clipped from below")
    clipped_high = column.number("share of loss tokens clipped from above")
    approx_kl = column.number("k3 estimate of KL(old || new) over loss tokens; 0 for a supervised loss", "nats")
    kl_to_reference = column.number("estimated KL to the initial policy (`update.kl`); null without it", nullable=True)
    entropy = column.number("mean entropy of the loss tokens under the new policy", "nats")
    importance_mean = column.number("mean of pi_old / pi_sampler over sampled loss tokens, before truncation")
    importance_max = column.number("maximum of pi_old / pi_sampler over sampled loss tokens, before truncation")
    padding = column.number("share of padding in the computed tokens", nullable=True, min=0, max=1)
    shared = column.number(
        "share of the rollouts' tokens that were not computed, because rollouts share them (update.layout)",
        nullable=True,
        min=0,
        max=1,
    )


class IterationSummary(dy.Schema):
    """`summarize`: one row for the iteration."""

    arm = dy.String(primary_key=True, metadata={"about": "arm"})
    seed = dy.Int64(primary_key=True, metadata={"about": "experiment seed"})
    iteration = dy.Int64(primary_key=True, min=0, metadata={"about": "iteration"})
    rollouts = column.count("rollouts sampled, fresh, regenerated and replayed")
    groups = column.count("fresh groups")
    all_incorrect = column.count("fresh groups without a correct rollout")
    mixed = column.count("fresh groups with correct and incorrect rollouts")
    all_correct = column.count("fresh groups without an incorrect rollout")
    pass_rate = column.number("share of correct rollouts among judged fresh ones; null without any", nullable=True)
    mean_reward = column.number("mean reward of judged fresh rollouts; null without any", nullable=True)
    excluded = column.count(
        "rollouts excluded from the statistics, because their verdict has no reward (verify.rewards)"
    )
    verdict_right = column.count("rollouts judged correct")
    verdict_wrong = column.count("rollouts judged incorrect")
    verdict_no_answer = column.count("rollouts without an answer")
    verdict_truncated = column.count("rollouts cut off before an answer")
    verdict_gold_unparseable = column.count("rollouts whose reference answer the verifier cannot parse")
    verdict_timeout = column.count("rollouts whose judgement exceeded its limit of time or memory")
    verdict_error = column.count("rollouts at which the verifier failed")
    mean_entropy = column.number("mean token entropy of fresh rollouts", "nats", nullable=True)
    mean_length = column.number("mean response length of fresh rollouts", "tokens", nullable=True)
    truncated = column.count("rollouts cut off at the token limit")
    prefixes_chosen = column.count("prefixes chosen in this iteration")
    regenerated_rollouts = column.count("continuations of hard groups' prefixes sampled in this iteration")
    regenerated_groups = column.count("groups of these rollouts")
    rescued_groups = column.count("of these, groups with at least one correct regenerated rollout")
    replayed_rollouts = column.count("replays of stored trajectories sampled in this iteration")
    replayed_groups = column.count("groups of these replays")
    replayed_mixed = column.count("of these, groups with correct and incorrect replays")
    replayed_pass_rate = column.number("share of correct ones among judged replays; null without any", nullable=True)
    stored_trajectories = column.count("trajectories stored for the next iteration")
    bonus_share = column.number("sum T|bonus| / sum T(|normalised| + |bonus|) over all rows")
    steps = column.count("optimizer steps")
    loss = column.number("mean loss over the steps; null without a step", nullable=True)
    gradient_norm = column.number("mean gradient norm over the steps; null without a step", nullable=True)
    importance_mean = column.number("mean pi_old / pi_sampler over the steps; null without a step", nullable=True)
    importance_max = column.number("maximum pi_old / pi_sampler; null without a step", nullable=True)
    mismatch_mean = column.number("mean |ln pi_old / pi_sampler| over all sampled tokens", "nats", nullable=True)
    mismatch_p99 = column.number("99th percentile of |ln pi_old / pi_sampler|", "nats", nullable=True)
    mismatch_max_ratio = column.number("maximum of the ratio or its inverse", nullable=True)
    mismatch_kl = column.number("k3 estimate of KL(sampler || policy)", "nats", nullable=True)
    sampled_tokens = column.count("tokens sampled in this iteration", "tokens")
    total_sampled_tokens = column.count("tokens sampled by this arm and seed so far", "tokens")
    prefilled_tokens = column.count(
        "tokens of distinct prompts with their prefixes that the sampler computed", "tokens"
    )
    scored_tokens = column.count("tokens that the layers computed in score_entropy", "tokens")
    trained_tokens = column.count("tokens that the layers computed in update's forward and backward passes", "tokens")
    mean_numbers = column.numbers("mean of each named number (verify) over the fresh rollouts that have it; null: none")
    compute = column.large("2N (sampled + prefilled + scored) + 6N trained (docs/method.md 4)", "FLOP")
    total_compute = column.large("compute of this arm and seed so far", "FLOP")
    embedded_tokens = column.count(
        "tokens of the responses that `novelty` embedded and of the prefixes that were embedded for "
        "`choose_prefixes.smoothing`, not part of compute; 0 where neither needs an embedding",
        "tokens",
    )
    embedding_compute = column.large(
        "2N times embedded_tokens, not part of compute; null: of a sentence model, whose N is not known here",
        "FLOP",
        nullable=True,
    )
    useful_groups = column.count(
        "groups whose rewards differ and that `update` learns from, continuations included", "groups"
    )
    useful_per_1000_tokens = column.number("useful_groups per 1,000 sampled tokens; null: none sampled", nullable=True)
    useful_per_tflop = column.number("useful_groups per 10^12 FLOP of compute; null: no compute", nullable=True)


class IterationState(dy.Schema):
    """`summarize`: the state of the run that the next iteration reads, in one row."""

    iteration = dy.Int64(primary_key=True, min=0, metadata={"about": "iteration"})
    next_position = column.count("position in the seed's stream after the last problem that was sampled")
