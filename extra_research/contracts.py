"""Contracts of the tables of the studies: `extra counterfactual`, `prefix-signal`, `gradient-noise` and `evidence`."""

from __future__ import annotations

import dataframely as dy
import polars as pl

from extra_rl.tables import column


class CounterfactualAdvantages(dy.Schema):
    """`extra counterfactual`: a rollout's advantage under other settings (docs/counterfactuals.md)."""

    variant = column.key("what was changed, KEY=VALUE; `as_it_was`: nothing")
    rollout_id = column.key("rollout")
    normalised = column.number("reward, normalised over the group")
    bonus = column.number("novelty bonus: weight, centring and scale applied")
    advantage = column.number("normalised + bonus; 0 where a negative one of a continuation was removed")


class CounterfactualVariants(dy.Schema):
    """`extra counterfactual`: a summary of one variant of the advantages, compared with the run."""

    variant = column.key("what was changed, KEY=VALUE; `as_it_was`: nothing")
    changes = column.text("the same as JSON, by section")
    rollouts = column.count("rollouts that have an advantage, parents carried over included")
    with_signal = column.count("of these, rollouts whose advantage is not 0")
    bonus_share = column.number("sum T|bonus| / sum T(|normalised| + |bonus|) over rollouts that were not carried over")
    rank_correlation = column.number("Spearman's, with the run's advantages; null: one is constant", nullable=True)
    sign_changed = column.number("share of rollouts whose advantage has another sign (-, 0, +) than in the run")
    groups = column.count("groups that have an advantage in the run or in the variant")
    groups_gained = column.count("groups with a signal in the variant only")
    groups_lost = column.count("groups with a signal in the run only")


class CounterfactualPrefixes(dy.Schema):
    """`extra counterfactual`: a candidate prefix under another rule, with its outcome where the run continued it."""

    rule = column.key("what was changed, KEY=VALUE; `as_it_was`: nothing")
    prefix_id = column.key("{rollout_id}@{prefix_length}; with a group where a remembered prefix is used again")
    group_id = column.text("hard group that it is a candidate for")
    prefix_length = column.count("length of the prefix", "tokens")
    length_share = column.number("share of its parent's response that it keeps; null without a parent", nullable=True)
    score = column.number(
        "mean token entropy (or surprisal, by `rank`) of the prefix; null: a fresh resample", "nats", nullable=True
    )
    rank = column.count("place in the order of choice within its problem, 0 first")
    chosen = column.flag("whether the rule takes it")
    place = column.count("place among those taken of its group, 0 first; null: not taken", nullable=True)
    chosen_in_run = column.flag("whether the run took the same tokens for the same group")
    continuations = column.count("judged continuations; null: none available", nullable=True)
    right = column.count("of these, correct ones", nullable=True)


class CounterfactualRules(dy.Schema):
    """`extra counterfactual`: a summary of one rule of choosing prefixes, compared with the run."""

    rule = column.key("what was changed, KEY=VALUE; `as_it_was`: nothing")
    changes = column.text("the same as JSON")
    groups = column.count("hard groups that have a candidate")
    candidates = column.count("candidates")
    chosen = column.count("prefixes taken")
    share_in_run = column.number("share of a group's taken prefixes that the run also took, mean", nullable=True)
    jaccard = column.number("taken by both / taken by either, mean over groups", nullable=True)
    mean_score = column.number("mean score of those taken", "nats", nullable=True)
    mean_length_share = column.number("mean share of the parent's response that they keep", nullable=True)
    continued = column.count("prefixes taken whose continuations are available")
    rescued = column.count("of these, prefixes with a correct continuation")


class PrefixSignal(dy.Schema):
    """`extra prefix-signal`: whether a score separates good prefixes from others (docs/counterfactuals.md).

    AUC: probability that a good prefix has a lower score than another one; 0.5: the score predicts nothing; null: all
    are good or none is.
    """

    witness = dy.Enum(
        ["sound", "rescued"],
        primary_key=True,
        metadata={"about": "evidence that a prefix is good: replay, or a correct continuation"},
    )
    steps = dy.Int64(primary_key=True, min=0, metadata={"about": "steps before the cut; 0: any number (rescued)"})
    prefixes = column.count("prefixes")
    good = column.count("of these, good ones")
    mean_entropy = column.number("AUC of the mean entropy of the prefix's tokens", nullable=True)
    peak_entropy = column.number("AUC of their highest entropy", nullable=True)
    mean_surprisal = column.number("AUC of the mean of -ln p(token)", nullable=True)
    peak_surprisal = column.number("AUC of the highest -ln p(token)", nullable=True)
    mean_excess = column.number("AUC of the mean of surprisal minus entropy", nullable=True)


class GradientNoise(dy.Schema):
    """`extra gradient-noise`: noise of the policy gradient over groups (docs/counterfactuals.md)."""

    variant = column.key("which rollouts and which bonus; `as_it_was`: those of the run")
    iterations = column.count("iterations over which the figures are means")
    groups = column.count("groups that the loss counts, in all iterations")
    signal_groups = column.count("of these, groups whose gradient is not 0")
    gradient_norm = column.number("norm of the sum over groups: of the batch's gradient; of several: root mean square")
    mean_squared_norm = column.number("s2: mean of |g_i|^2 over groups")
    squared_norm_of_mean = column.number("m2: |mean of g_i|^2")
    trace = column.number("n / (n - 1) (s2 - m2): trace of the groups' covariance; null: one group", nullable=True)
    squared_mean = column.number("m2 - trace / n: unbiased |mean gradient|^2; may be below 0", nullable=True)
    noise_ratio = column.number("trace / squared_mean; null: squared_mean is not above 0", "groups", nullable=True)
    low = column.number("lower end of its 95 % jackknife interval; null: the sign depends on one group", nullable=True)
    high = column.number("upper end of the same", nullable=True)
    relative = column.number("noise ratio / that of as_it_was", nullable=True)
    relative_low = column.number("lower end of its 95 % jackknife interval, groups left out of both", nullable=True)
    relative_high = column.number("upper end of the same", nullable=True)


class EvidenceCounts(dy.Schema):
    """`extra evidence`: what final policies and warm starts solved (docs/evidence.md), in the order of evaluation."""

    folder = column.key("folder of an arm, or of a warm start: `warm_start` or `warm_start_<number>`")
    seed = dy.Int64(primary_key=True, min=-1, metadata={"about": "experiment seed; -1 for a warm start"})
    benchmark = column.text("benchmark")
    problem_id = column.key("problem")
    n = dy.Int16(min=0, metadata={"about": "judged samples"})
    c = dy.Int16(min=0, metadata={"about": "correct samples"})

    @dy.rule()
    def correct_ones_are_judged(cls) -> pl.Expr:
        return cls.c.col <= cls.n.col


class EvidenceRuns(dy.Schema):
    """`extra evidence`: what an arm and seed spent, and what became of its groups; sums over its iterations."""

    folder = column.key("folder of an arm, `<regime>-<arm>` with regimes")
    seed = dy.Int64(primary_key=True, min=0, metadata={"about": "experiment seed"})
    machine = column.text("machine that it ran on; null: not named", nullable=True)
    experiment = column.text("`name` of the configuration that it ran with; null: not recorded", nullable=True)
    iterations = column.count("iterations that sampled")
    cpu_s = column.large("CPU-seconds of training stages in these iterations", "s")
    idle_cpu_s = column.large(
        "CPU-seconds of training stages in iterations that sampled nothing, as after the budget; null: not recorded",
        "s",
        nullable=True,
    )
    device_s = column.large(
        "device-seconds of training stages in iterations that sampled; null: not recorded", "s", nullable=True
    )
    sampled_tokens = column.count("tokens sampled", "tokens")
    prefilled_tokens = column.count("tokens of prompts with their prefixes that the sampler computed", "tokens")
    scored_tokens = column.count("tokens that the layers computed in score_entropy", "tokens")
    trained_tokens = column.count("tokens that the layers computed in update", "tokens")
    compute = column.large("2N (sampled + prefilled + scored) + 6N trained (docs/method.md 4)", "FLOP")
    embedding_compute = column.large("of embeddings, not part of compute; null: not known", "FLOP", nullable=True)
    useful_groups = column.count("groups whose rewards differ and that `update` learns from", "groups")
    groups = column.count("fresh groups")
    mixed = column.count("fresh groups with correct and incorrect rollouts")
    all_incorrect = column.count("fresh groups without a correct rollout")
    all_correct = column.count("fresh groups without an incorrect rollout")
    regenerated_groups = column.count("continued groups")
    rescued_groups = column.count("of these, groups with at least one correct continuation")
    replayed_groups = column.count("groups of replays")
    replayed_mixed = column.count("of these, groups with correct and incorrect replays")
    steps = column.count("optimizer steps")
