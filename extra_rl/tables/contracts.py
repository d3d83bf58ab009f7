"""Every Parquet contract of the pipeline, on one page.

A class is a table: its key, its columns with type, unit and one sentence, and its cross-row rules. A stage writes
its key and only the columns that it owns; `extra_rl.tables.scan_iteration` joins them for a reader. Nulls are
refused wherever a column does not say `nullable=True`, and lists of floats never hold NaN or infinity.
"""

from __future__ import annotations

import dataframely as dy
import polars as pl

from extra_rl.rewards.verdict import Verdict
from extra_rl.tables import column

ORIGINS = ["fresh", "regenerated"]
ENDS = ["stop", "length"]
FINISH_REASONS = [*ENDS, "dropped"]
JUDGED = [v.value for v in Verdict if v is not Verdict.DROPPED]
SPLITS = ["train", "tuning", "final"]
DROP_RULES = ["overlap", "duplicate", "contradictory", "unverifiable", "too_long"]
WHEN = ["same_iteration", "next_iteration"]
GROUP_TYPES = ["all_wrong", "mixed", "all_right", "excluded"]
CUT_REASONS = ["boundary", "before_peak", "random", "fixed_stride", "fresh"]
EVALUATION_METRICS = ["pass_at_k", "maj_at_k", "mean_length", "truncated", "no_answer"]
TRAINED = ["trained", "no_signal", "unrescued", "excluded"]


class Problems(dy.Schema):
    """`prepare`: one verifiable problem a row; the prompt exactly as the model will read it."""

    problem_id = column.key("stable name of the problem")
    benchmark = column.text("level or data set that it belongs to; the unit of evaluation")
    split = column.one_of(SPLITS, "train, or held out for tuning, or held out for the final figure")
    canonical = column.text("equal for problems that are the same problem; splits are disjoint by it")
    prompt = column.text("prompt text, template applied")
    prompt_tokens = column.tokens("the prompt as the policy reads it")
    answer = column.text("gold answer")
    relative_tolerance = column.error("error allowed in a number, relative to the gold; 0: none")
    absolute_tolerance = column.error("error allowed in a number; 0: none")

    @dy.rule()
    def prompt_is_not_empty(cls) -> pl.Expr:
        return cls.prompt_tokens.col.list.len() > 0


class DroppedProblems(dy.Schema):
    """`prepare`: what was left out, and why."""

    problem_id = column.key("stable name of the problem")
    benchmark = column.text("level or data set that it belongs to")
    split = column.one_of(SPLITS, "the split that it would have belonged to")
    rule = column.one_of(DROP_RULES, "what decided")
    reason = column.text("why it was dropped")
    other_problem_id = column.text(
        "benchmark problem that it overlaps, training problem that it repeats", nullable=True
    )
    share = column.number("share of the benchmark problem's 8-grams that it holds", nullable=True, min=0.0, max=1.0)
    prompt_length = column.count("length of its prompt, where that was the reason", "tokens", nullable=True)
    problem = column.text("its text")
    answer = column.text("its gold answer")


class Sources(dy.Schema):
    """`prepare`: where the problems of a real task came from; one row a source."""

    name = dy.String(primary_key=True, metadata={"about": "training set or benchmark"})
    split = column.one_of(SPLITS, "what its problems are for")
    path = column.text("local file", nullable=True)
    dataset = column.text("data set on the hub, or a local directory of its form", nullable=True)
    subset = column.text("configuration of the data set", nullable=True)
    revision = column.text("revision asked for; null: the newest", nullable=True)
    commit = column.text("commit that the revision stood for; null: not from the hub, or offline", nullable=True)
    rows = column.count("rows that it has")
    expected_rows = column.count("rows that it should have; null: any number", nullable=True)
    taken = column.count("rows that were taken (`limit`)")
    digest = column.text("SHA-256 over id, text and gold of the rows that were taken")


class WarmStartSteps(dy.Schema):
    """`warm_start`: the supervised loss as it fell."""

    step = dy.Int64(primary_key=True, min=0, metadata={"about": "optimizer step"})
    loss = column.number("cross-entropy of the demonstrations' tokens", "nats per token")
    learning_rate = column.number("learning rate of this step")


class Selection(dy.Schema):
    """`select`: the problems of one iteration, in the order of the seed's stream; with rounds, spare ones behind."""

    group_id = column.key("group that the rollouts of this prompt form")
    problem_id = column.text("problem")
    position = column.count("place in the seed's stream of problems; equal for every arm of a seed")


class Rollouts(dy.Schema):
    """`generate` and `regenerate`: token ids in, token ids and logprobs out."""

    rollout_id = column.key("{arm}/s{seed}/i{iteration}/{group}/{n}")
    group_id = column.text("group whose prompt this answers; a regenerated rollout names its parent's group")
    problem_id = column.text("problem")
    origin = column.one_of(ORIGINS, "sampled from the bare prompt, or on from a chosen prefix")
    prefix_id = column.text("row of choose_prefixes that it continues", nullable=True)
    parent_rollout_id = column.text("rollout that the prefix was cut from; null without one", nullable=True)
    prefix_length = column.count("response tokens taken over from the parent", "tokens")
    prompt_tokens = column.tokens("what was sent to the sampler before the prefix")
    response_tokens = column.tokens("prefix and sampled tokens, end-of-sequence included")
    sampler_logprobs = column.per_token("logprob under the distribution that each token was sampled from", "nats")
    sampled_tokens = column.count("tokens that this row cost: response without prefix", "tokens")
    finish_reason = column.one_of(
        FINISH_REASONS, "ended by itself, cut off at the token limit, or dropped as it was (docs/sampling.md)"
    )
    response = column.text("decoded response, special tokens left out")

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
    def a_regenerated_rollout_names_its_prefix(cls) -> pl.Expr:
        return (cls.origin.col != "regenerated") | cls.prefix_id.col.is_not_null()


class RolloutsOfShard(Rollouts):
    """A shard's part of `generate` or `regenerate`; `gather` makes the whole of them."""

    position = column.count("place in the whole table, from 0")


class Verdicts(dy.Schema):
    """`verify`: what became of each rollout when it was judged."""

    rollout_id = column.key("rollout")
    gold = column.text("answer that it was judged against")
    verdict = column.one_of([v.value for v in Verdict], "the judgement")
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
    """`score_entropy`: the policy's own view of every response token, at the sampling temperature."""

    rollout_id = column.key("rollout")
    policy_logprobs = column.per_token("logprob under the policy of this iteration (old_logprob)", "nats")
    entropies = column.per_token("full-vocabulary Shannon entropy before each token", "nats")

    @dy.rule()
    def token_lists_agree(cls) -> pl.Expr:
        return cls.policy_logprobs.col.list.len() == cls.entropies.col.list.len()


class Prefixes(dy.Schema):
    """`choose_prefixes`: every candidate prefix of the hard groups, its score, and whether it was chosen."""

    prefix_id = column.key("{rollout_id}@{prefix_length}; with a group where a remembered prefix serves again")
    group_id = column.text("hard group that it is to help")
    problem_id = column.text("problem")
    parent_rollout_id = column.text("rollout it was cut from; null for a fresh resample", nullable=True)
    iteration = column.count("iteration in which the parent was sampled; in a chain, the fresh rollout it began with")
    prompt_tokens = column.tokens("the problem's prompt")
    prefix_tokens = column.tokens("response tokens that are kept")
    prefix_logprobs = column.per_token("sampler logprobs of the kept tokens", "nats")
    parent_length = column.count("response length of the parent; null without one", "tokens", nullable=True)
    cut_reason = column.one_of(CUT_REASONS, "which rule proposed the cut")
    score = column.number("mean token entropy of the prefix; null for a fresh resample", "nats", nullable=True)
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
    iteration = column.count("iteration in which the parent was sampled; in a chain, the fresh rollout it began with")
    prompt_tokens = column.tokens("the problem's prompt")
    prefix_tokens = column.tokens("response tokens that are kept")
    prefix_logprobs = column.per_token("sampler logprobs of the kept tokens", "nats")
    parent_length = column.count("response length of the parent; null without one", "tokens", nullable=True)
    cut_reason = column.one_of(CUT_REASONS, "which rule proposed the cut")
    score = column.number("mean token entropy of the prefix; null for a fresh resample", "nats", nullable=True)


class Novelty(dy.Schema):
    """`novelty`: how far each rollout lies from its siblings and from what is remembered."""

    rollout_id = column.key("rollout")
    novelty = column.number(
        "raw bonus before weight, centring and scale; 0 if dropped or with nothing to compare to", min=0.0
    )
    nearest_rollout_id = column.text("nearest member of the comparison set", nullable=True)
    embedding = column.per_token("unit-norm embedding of the response; null if the measure has none", "", nullable=True)


class NoveltyMemory(dy.Schema):
    """`novelty`: the last rollouts of each problem, for the comparison sets of later iterations."""

    rollout_id = column.key("rollout")
    problem_id = column.text("problem")
    iteration = column.count("iteration that sampled it")
    tokens = column.tokens("tail of the response")
    embedding = column.per_token("unit-norm embedding; null where the measure has none", "", nullable=True)


class Advantages(dy.Schema):
    """`advantage`: one advantage a rollout, broadcast over its response tokens by `update`, and its parts."""

    rollout_id = column.key("rollout")
    advantage_group = column.text("rows that were normalised together")
    group_type = column.one_of(GROUP_TYPES, "what the rewards of those rows are")
    reward = column.number("verified reward; null: excluded", nullable=True)
    normalised = column.number("reward, normalised over the group")
    bonus = column.number("novelty bonus: weight, centring and scale applied")
    advantage = column.number("normalised + bonus; 0 where a guided negative was taken away")
    carried = column.flag("sampled in the former iteration, here to complete a joined group")
    trained = column.one_of(TRAINED, "whether update learns from it; if not, why")
    loss_start = column.count("response tokens before this one carry no loss", "tokens")

    @dy.rule()
    def parts_add_up(cls) -> pl.Expr:
        total = cls.normalised.col + cls.bonus.col
        return (cls.advantage.col == 0) | ((cls.advantage.col - total).abs() <= 1e-5 * (1 + total.abs()))


class UpdateSteps(dy.Schema):
    """`update`: one optimizer step a row."""

    step = dy.Int64(primary_key=True, min=0, metadata={"about": "optimizer step within the iteration"})
    rows = column.count("rollouts of the mini-batch, those without a signal included")
    signal_rows = column.count("rollouts that a forward and backward pass was spent on")
    loss_tokens = column.count("tokens in the loss's denominator", "tokens")
    loss = column.number("loss that was minimised")
    gradient_norm = column.number("norm of the gradient before clipping")
    learning_rate = column.number("learning rate of this step")
    clipped_low = column.number("share of loss tokens clipped from below")
    clipped_high = column.number("share of loss tokens clipped from above")
    approx_kl = column.number("k3 estimate of KL(old || new) over loss tokens", "nats")
    kl_to_reference = column.number("estimated KL to the initial policy (`update.kl`); null without it", nullable=True)
    entropy = column.number("mean entropy of the loss tokens under the new policy", "nats")
    importance_mean = column.number("mean of pi_old / pi_sampler over sampled loss tokens, before truncation")
    importance_max = column.number("maximum of pi_old / pi_sampler over sampled loss tokens, before truncation")
    padding = column.number("share of padding in the tokens that the layers ran on", nullable=True, min=0, max=1)
    shared = column.number(
        "share of the rollouts' tokens that were not computed: another rollout begins with the same (update.layout)",
        nullable=True,
        min=0,
        max=1,
    )


class IterationSummary(dy.Schema):
    """`summarize`: one iteration in one row."""

    arm = dy.String(primary_key=True, metadata={"about": "arm"})
    seed = dy.Int64(primary_key=True, metadata={"about": "experiment seed"})
    iteration = dy.Int64(primary_key=True, min=0, metadata={"about": "iteration"})
    rollouts = column.count("rollouts sampled, fresh and regenerated")
    groups = column.count("fresh groups")
    all_wrong = column.count("fresh groups with no right rollout")
    mixed = column.count("fresh groups with both")
    all_right = column.count("fresh groups with no wrong rollout")
    pass_rate = column.number("share of right among judged fresh rollouts; null without any", nullable=True)
    mean_reward = column.number("mean reward of judged fresh rollouts; null without any", nullable=True)
    excluded = column.count("rollouts left out of the statistics: their verdict has no reward (verify.rewards)")
    verdict_right = column.count("rollouts judged right")
    verdict_wrong = column.count("rollouts judged wrong")
    verdict_no_answer = column.count("rollouts without anything that could be an answer")
    verdict_truncated = column.count("rollouts cut off before an answer")
    verdict_gold_unparseable = column.count("rollouts whose gold cannot be judged against")
    verdict_timeout = column.count("rollouts whose judgement exceeded its time or memory")
    verdict_error = column.count("rollouts at which the verifier failed")
    verdict_dropped = column.count("rollouts that were dropped before they ended (docs/sampling.md)")
    mean_entropy = column.number("mean token entropy of fresh rollouts", "nats", nullable=True)
    mean_length = column.number("mean response length of fresh rollouts that were not dropped", "tokens", nullable=True)
    truncated = column.count("rollouts cut off at the token limit")
    prefixes_chosen = column.count("prefixes chosen in this iteration")
    regenerated_rollouts = column.count("regenerated rollouts sampled in this iteration")
    regenerated_groups = column.count("groups that they were sampled for")
    rescued_groups = column.count("of these, groups with at least one right regenerated rollout")
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


class IterationState(dy.Schema):
    """`summarize`: what the next iteration must know of the run so far, in one row.

    recent: of this iteration and those before, each older one weighing 3/4 of the next (`extra_rl.algorithms.budget`).
    """

    iteration = dy.Int64(primary_key=True, min=0, metadata={"about": "iteration"})
    next_position = column.count("place in the seed's stream of problems behind the last one that was sampled")
    recent_useful = column.number("recent fresh groups with right and wrong rollouts", "groups", min=0.0)
    recent_fresh_tokens = column.number("recent tokens sampled for fresh rollouts", "tokens", min=0.0)
    recent_rescued = column.number("recent groups with a right regenerated rollout", "groups", min=0.0)
    recent_guided_tokens = column.number("recent tokens sampled for regenerated rollouts", "tokens", min=0.0)


class ResponseLengths(dy.Schema):
    """`summarize`: how long a problem's responses were, for `sampling.order: longest_first`; else no rows."""

    problem_id = column.key("problem")
    iteration = column.count("the last iteration that sampled it")
    length = column.number("mean response length of its fresh rollouts; a dropped one counts as the limit", "tokens")


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


class CounterfactualAdvantages(dy.Schema):
    """`extra counterfactual`: a rollout's advantage under other settings (docs/counterfactuals.md)."""

    variant = column.key("what was changed, KEY=VALUE; `as_it_was`: nothing")
    rollout_id = column.key("rollout")
    normalised = column.number("reward, normalised over the group")
    bonus = column.number("novelty bonus: weight, centring and scale applied")
    advantage = column.number("normalised + bonus; 0 where a guided negative was taken away")


class CounterfactualVariants(dy.Schema):
    """`extra counterfactual`: one such variant of the advantages, beside the run's own."""

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
    """`extra counterfactual`: a candidate prefix under another rule, and what became of it where the run took it."""

    rule = column.key("what was changed, KEY=VALUE; `as_it_was`: nothing")
    prefix_id = column.key("{rollout_id}@{prefix_length}; with a group where a remembered prefix serves again")
    group_id = column.text("hard group that it is to help")
    prefix_length = column.count("length of the prefix", "tokens")
    length_share = column.number("share of its parent's response that it keeps; null without a parent", nullable=True)
    score = column.number("mean token entropy of the prefix; null for a fresh resample", "nats", nullable=True)
    rank = column.count("place in the order of choice within its problem, 0 first")
    chosen = column.flag("whether the rule takes it")
    place = column.count("place among those taken of its group, 0 first; null: not taken", nullable=True)
    chosen_in_run = column.flag("whether the run took the same tokens for the same group")
    continuations = column.count("continuations of it that were judged; null: none at hand", nullable=True)
    right = column.count("of these, right ones", nullable=True)


class CounterfactualRules(dy.Schema):
    """`extra counterfactual`: one rule of choosing prefixes, beside the run's own."""

    rule = column.key("what was changed, KEY=VALUE; `as_it_was`: nothing")
    changes = column.text("the same as JSON")
    groups = column.count("hard groups that have a candidate")
    candidates = column.count("candidates")
    chosen = column.count("prefixes taken")
    share_in_run = column.number("share of a group's taken prefixes that the run took too, mean", nullable=True)
    jaccard = column.number("taken by both / taken by either, mean over groups", nullable=True)
    mean_score = column.number("mean score of those taken", "nats", nullable=True)
    mean_length_share = column.number("mean share of the parent's response that they keep", nullable=True)
    continued = column.count("prefixes taken whose continuations are at hand")
    rescued = column.count("of these, prefixes with a right continuation")


class GradientNoise(dy.Schema):
    """`extra gradient-noise`: noise of the policy gradient over groups (docs/counterfactuals.md)."""

    variant = column.key("which rollouts and which bonus; `as_it_was`: those of the run")
    iterations = column.count("iterations that the figures below are means over")
    groups = column.count("groups that the loss counts, in all iterations")
    signal_groups = column.count("of these, groups whose gradient is not 0")
    gradient_norm = column.number("norm of the sum over groups: of the batch's gradient; of several: root mean square")
    mean_squared_norm = column.number("s2: mean of |g_i|^2 over groups")
    squared_norm_of_mean = column.number("m2: |mean of g_i|^2")
    trace = column.number("n / (n - 1) (s2 - m2): trace of the groups' covariance; null: one group", nullable=True)
    squared_mean = column.number("m2 - trace / n: |mean gradient|^2 without bias; may be below 0", nullable=True)
    noise_ratio = column.number("trace / squared_mean; null: squared_mean is not above 0", "groups", nullable=True)
    low = column.number("lower end of its 95 % jackknife interval; null: a group decides the sign", nullable=True)
    high = column.number("upper end of the same", nullable=True)
    relative = column.number("noise ratio / that of as_it_was", nullable=True)
    relative_low = column.number("lower end of its 95 % jackknife interval, groups left out of both", nullable=True)
    relative_high = column.number("upper end of the same", nullable=True)


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
