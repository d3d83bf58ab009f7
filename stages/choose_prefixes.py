"""Cuts prefixes from the incorrect rollouts of hard groups, scores them, and chooses those that are continued.

With `replay.rows` it also stores trajectories and chooses prefixes of them, whose continuations form separate groups.

READS   generate, verify_generate, score_entropy_generate (not with `scores_from: sampler`), policy (its tokenizer),
        initial (embedder for smoothing), previous_choose_prefixes_pool (waiting groups and remembered prefixes); for
        replays previous_choose_prefixes_bank, previous_regenerate with its verdicts, train (worked solutions); for
        `rank: calibrated` previous_choose_prefixes_branches; for `action: cheapest` previous_choose_prefixes_groups
WRITES  choose_prefixes (every candidate with score, rank and choice); for the next iteration choose_prefixes_pool,
        choose_prefixes_bank, choose_prefixes_branches and choose_prefixes_groups
SOURCE  docs/method.md 3: cut, rank, smoothing, numbers and timing are independent options; presets combine them
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from extra_rl.algorithms import prefixes
from extra_rl.algorithms.logistic import Fit
from extra_rl.config.section import Section, StageConfig
from extra_rl.config.sections import ComputeConfig, TaskConfig
from extra_rl.errors import ConfigError
from extra_rl.regeneration.actions import Market, best_first, counted, fresh_groups, with_decisions
from extra_rl.regeneration.bank import bank_frame, joined_by, read_bank, served, with_results
from extra_rl.regeneration.branches import fit_of, with_chosen, with_estimates, with_outcomes
from extra_rl.regeneration.candidates import Candidate, candidates_of, pool_frame, prefix_frame, remembered, with_rank
from extra_rl.regeneration.continued import continuations, outcomes_by, outcomes_of_stored
from extra_rl.regeneration.entries import Found, demonstrations, fresh_trajectories, rescues, solver_of, to_store
from extra_rl.regeneration.settings import CalibrationConfig, ReplayConfig
from extra_rl.regeneration.smoothing import Smoothing, smoothed
from extra_rl.run.stage import Context, Inputs, PolicyDirectory, Stage
from extra_rl.seeding import generator
from extra_rl.tables import contracts
from extra_rl.tables.iteration import rollouts_of
from extra_rl.user_code import require_source


class Config(StageConfig):
    """Which groups are hard, where their rollouts are cut, which prefixes are continued, and when."""

    task: TaskConfig = Field(description="shared section `task`: its `boundary` ends a step")
    compute: ComputeConfig = Field(description="shared section `compute`")
    groups: Literal["all_hard"] | Annotated[int, Field(ge=0)] = Field(
        0, description="hard groups continued per iteration, the others wait; `all_hard`: no limit; 0: off"
    )
    warmup_iterations: int = Field(0, ge=0, description="no group is continued or queued in the first N iterations")
    max_pass_rate: float = Field(0.0, ge=0, lt=1, description="a group is hard if at most this share of it is correct")
    min_pass_rate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="and at least this share; above 0 with `rank: calibrated_half`: prefixes of rare failures",
    )
    cut: prefixes.CutRule = Field(
        "before_peak_entropy", description="where a rollout is cut; `none`: not at all, it is sampled afresh (control)"
    )
    rank: prefixes.RankRule = Field(
        "low_mean_entropy",
        description="order of the prefixes, and whether entropy or surprisal scores them; `calibrated`: most estimated "
        "successes per token first; `calibrated_half`: estimate nearest to 1/2 first",
    )
    scores_from: Literal["policy", "sampler"] = Field(
        "policy",
        description="source of the logprobs for the surprisal. `policy`: score_entropy; `sampler`: generate, which "
        "stores them with the tokens, so that the choice needs no scoring pass (and has no entropies)",
    )
    smoothing: Smoothing = Field(
        "none",
        description="smooth scores over similar prefixes, by embeddings of the initial policy or of MiniLM",
    )
    smoothing_tau: float = Field(0.1, gt=0, description="temperature of the smoothing weights")
    prefixes_per_problem: int = Field(4, ge=1, description="distinct prefixes chosen per hard group")
    continuations_per_prefix: int = Field(2, ge=1, description="continuations of each prefix")
    when: Literal["same_iteration", "next_iteration"] = Field(
        "next_iteration",
        description="continue in a second sampling call now, or in one batch with the next iteration's prompts",
    )
    first_cut: float = Field(0.2, ge=0, le=1, description="earliest cut, as a share of the response")
    last_cut: float = Field(0.8, ge=0, le=1, description="latest cut, as a share of the response")
    min_tokens: int = Field(6, ge=1, description="minimum distance between cuts of one response, in tokens")
    max_cuts: int = Field(15, ge=1, description="maximum candidates per problem, spread evenly over its rollouts")
    remember: int = Field(0, ge=0, description="prefixes kept per problem for later iterations")
    max_age: int = Field(8, ge=1, description="iterations after which a remembered prefix or waiting group is dropped")
    calibration: CalibrationConfig = Field(CalibrationConfig(), description="fit of past branches")
    replay: ReplayConfig = Field(ReplayConfig(), description="replay of stored trajectories")

    # Left out where they are at their defaults, so that the jobs of runs without them stay as they are.
    action: Literal["branch", "cheapest"] = Field(
        "branch",
        exclude_if=lambda value: value == "branch",
        description="for a hard group: `branch`: continue prefixes; `cheapest`: whichever has most expected useful "
        "groups per token of prefixes, as many new rollouts, or fresh problems later (needs `rank: calibrated`)",
    )
    price_iterations: int = Field(
        8,
        ge=1,
        exclude_if=lambda value: value == 8,
        description="with `action: cheapest`: latest iterations whose fresh groups set the price and the prior",
    )

    @model_validator(mode="after")
    def ranges_are_ordered(self) -> Self:
        if self.first_cut > self.last_cut:
            raise ValueError(f"first_cut {self.first_cut} must not exceed last_cut {self.last_cut}")
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError(f"min_pass_rate {self.min_pass_rate} must not exceed max_pass_rate {self.max_pass_rate}")
        return self

    @model_validator(mode="after")
    def estimates_fit_the_choice(self) -> Self:
        if self.rank in prefixes.BY_FIT and (self.cut == "none" or self.smoothing != "none"):
            raise ValueError(f"rank: {self.rank} estimates each prefix by itself: it needs a cut, and smoothing: none")
        if self.action == "cheapest" and (self.rank != "calibrated" or self.min_pass_rate > 0):
            raise ValueError(
                "action: cheapest compares estimates of prefixes of unsolved problems: it needs rank: calibrated, not "
                f"{self.rank}, and min_pass_rate: 0"
            )
        return self

    @model_validator(mode="after")
    def a_sampler_returns_no_entropies(self) -> Self:
        if self.scores_from == "policy" or self.groups == 0:
            return self
        by_entropy = self.cut != "none" and self.rank in prefixes.BY_ENTROPY
        refused = [f"cut: {self.cut}"] if self.cut == "before_peak_entropy" else []
        refused += [f"rank: {self.rank}"] if by_entropy else []
        if refused:
            raise ValueError(
                f"scores_from: sampler gives no entropies, which {' and '.join(refused)} needs. Use rank: "
                "low_mean_surprisal, calibrated or random, and a cut that uses no entropy (before_peak_surprisal, "
                "every_boundary, random, none), or scores_from: policy"
            )
        return self


class Derived(Section):
    """Values that follow from other sections, with `replay.source: demonstrations` and `action: cheapest`."""

    stop: str | None = Field(None, description="first of sampling.stop, which ends a worked solution")
    task_source: str = Field("", description="digest of the source text of a user's task")
    joined_group: bool = Field(False, description="whether advantage.group is `joined`")


STAGE = Stage(
    name="choose_prefixes",
    version=4,
    reads={
        "generate": contracts.Rollouts,
        "verify_generate": contracts.Verdicts,
        "score_entropy_generate?": contracts.TokenScores,
        "policy": PolicyDirectory,
        "initial": PolicyDirectory,
        "previous_choose_prefixes_pool?": contracts.PrefixPool,
        "previous_choose_prefixes_bank?": contracts.ReplayBank,
        "previous_choose_prefixes_branches?": contracts.PrefixBranches,
        "previous_choose_prefixes_groups?": contracts.FreshGroups,
        "previous_regenerate?": contracts.Rollouts,
        "previous_verify_regenerate?": contracts.Verdicts,
        "train?": contracts.Problems,
    },
    writes={
        "choose_prefixes": contracts.Prefixes,
        "choose_prefixes_pool": contracts.PrefixPool,
        "choose_prefixes_bank": contracts.ReplayBank,
        "choose_prefixes_branches": contracts.PrefixBranches,
        "choose_prefixes_groups": contracts.FreshGroups,
    },
    derived=Derived,
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """The candidates of this iteration's hard groups and of those that waited, with the chosen ones marked; replays."""
    iteration = context.job.iteration
    pool = inputs["previous_choose_prefixes_pool"].filter(pl.col("iteration") >= iteration - config.max_age)
    made: pl.DataFrame = contracts.Prefixes.create_empty()
    bank, branches = inputs["previous_choose_prefixes_bank"], inputs["previous_choose_prefixes_branches"]
    groups = inputs["previous_choose_prefixes_groups"]
    if not inputs["generate"].is_empty():
        if config.groups != 0 and config.action == "cheapest":
            fresh = rollouts_of(inputs, "generate", scores=("verify",)).filter(pl.col("origin") == "fresh")
            groups = fresh_groups(groups, fresh, pool, iteration=iteration, kept=config.price_iterations)
        if config.groups != 0 and iteration >= config.warmup_iterations:
            made, pool, branches, groups = of_hard_groups(pool, branches, groups, inputs, config, context)
        if config.replay.rows and iteration >= config.warmup_iterations:
            replays, bank = replayed(bank, inputs, config, context)
            made = pl.concat([made, replays])
    return {
        "choose_prefixes": made,
        "choose_prefixes_pool": pool,
        "choose_prefixes_bank": bank,
        "choose_prefixes_branches": branches,
        "choose_prefixes_groups": groups,
    }


def of_hard_groups(
    pool: pl.DataFrame, branches: pl.DataFrame, results: pl.DataFrame, inputs: Inputs, config: Config, context: Context
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The candidates of hard groups with the chosen ones marked, the pool, the branches and the results of groups.

    pool, branches: those of the previous iteration. results: of fresh groups, this iteration's included.
    """
    fitted, iteration = config.rank in prefixes.BY_FIT, context.job.iteration
    if fitted:
        branches = with_outcomes(branches, outcomes_by(continuations(inputs), "prefix_id"))
    model = fit_of(branches, config.calibration) if fitted else None
    fresh = with_token_scores(inputs, config).filter(pl.col("origin") == "fresh")
    new = find_candidates(fresh, config, inputs, context)
    waiting = remembered(pool.filter("waiting"))
    groups = waiting | new  # the groups that waited longest come first
    limit = len(groups) if config.groups == "all_hard" else config.groups
    memory = remembered(pool.filter(~pl.col("waiting")), by="problem_id")

    def ranked(group: str) -> list[Candidate]:
        own = [c for c in groups[group] if (c.parent_rollout_id is None) == (config.cut == "none")]
        earlier = [] if config.cut == "none" else memory.get(groups[group][0].problem_id, [])
        return choose(own + [c.for_group(group) for c in earlier], group, model, config, inputs, context)

    if config.action == "cheapest":
        since = iteration - config.price_iterations + 1
        market = Market.of(results, since, config.prefixes_per_problem, config.continuations_per_prefix)
        joined = new if context.derived.joined_group else {}  # a group that waited has no parents to join
        decisions = best_first(market.decide_all(groups, ranked, fitted=model is not None, joined=joined), limit)
        results = with_decisions(results, decisions, market.price, iteration)
        context.console.note(f"{context.job.title}: {counted(decisions, market.price)}")
        rows = [row for one in decisions.values() if not one.waits for row in one.rows]
        postponed = [group for group, one in decisions.items() if one.waits]
    else:
        rows = [row for group in list(groups)[:limit] for row in ranked(group)]
        postponed = list(groups)[limit:]
    queue = [c for group in postponed for c in groups[group]]
    considered = [c for group in groups if group not in postponed for c in groups[group]]
    if fitted:
        chosen = [row for row in rows if row.copies and row.prefix_tokens]
        branches = with_chosen(branches, chosen, config.calibration.remember, iteration)
    return (
        prefix_frame(rows, config.continuations_per_prefix, config.when),
        pool_frame(queue, memory, [c for c in considered if c.parent_rollout_id is not None], config.remember),
        branches,
        results,
    )


def replayed(
    previous: pl.DataFrame, inputs: Inputs, config: Config, context: Context
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The prefixes of stored trajectories that are continued, and the bank. previous: the bank before."""
    replay, iteration = config.replay, context.job.iteration
    judged = continuations(inputs)
    bank = with_results(read_bank(previous), outcomes_of_stored(judged), replay, iteration)
    rollouts = rollouts_of(inputs, "generate", scores=("verify",))
    fresh = rollouts.filter(pl.col("origin") == "fresh")
    found: list[Found] = []
    if replay.source == "own" and replay.rescued:
        found += rescues(judged, outcomes_by(judged, "prefix_id"))
    found += fresh_trajectories(fresh, replay)
    if replay.source == "demonstrations":
        hard = failed_of_hard_groups(fresh, config.max_pass_rate)
        found += worked_solutions(hard, inputs, config, context) if len(hard) else []
    known = {one.problem_id for one in bank}
    new = to_store(
        [one for one in found if one.row["problem_id"] not in known],
        replay,
        tokenizer_file=inputs.policy(),
        boundary=config.task.boundary,
        min_tokens=config.min_tokens,
        iteration=iteration,
    )
    chosen, bank = served(
        joined_by(bank, new), replay, place=context.job.place, iteration=iteration, seed=context.seed("partner")
    )
    return prefix_frame(chosen, replay.continuations, config.when), bank_frame(bank)


def worked_solutions(hard: pl.DataFrame, inputs: Inputs, config: Config, context: Context) -> list[Found]:
    """A worked solution for each hard group. hard: rollouts of hard groups."""
    if "train" not in inputs.tables:
        raise ConfigError(
            "choose_prefixes.replay.source: demonstrations reads the problems: pass their file as `train`."
        )
    require_source(config.task.name, context.derived.task_source)
    seed, stop = context.seed("demonstration"), context.derived.stop
    return demonstrations(hard, solver_of(inputs["train"], config.task, stop, inputs.policy(), seed))


def with_token_scores(inputs: Inputs, config: Config) -> pl.DataFrame:
    """The rollouts of `generate` with their verdicts, and with the policy's token scores unless `scores_from: sampler`.

    Raises ConfigError where the table of scores is needed and no path of it was passed.
    """
    if config.scores_from == "sampler":
        return rollouts_of(inputs, "generate", scores=("verify",))
    if "score_entropy_generate" not in inputs.tables:
        raise ConfigError("choose_prefixes reads score_entropy_generate unless scores_from: sampler; name its path.")
    return rollouts_of(inputs, "generate")


def find_candidates(
    rollouts: pl.DataFrame, config: Config, inputs: Inputs, context: Context
) -> dict[str, list[Candidate]]:
    """The candidates of every hard group that has any, by group_id, in the order of the groups."""
    return candidates_of(
        failed_of_hard_groups(rollouts, config.max_pass_rate, config.min_pass_rate),
        tokenizer_file=inputs.policy(),
        boundary=config.task.boundary,
        cut=config.cut,
        rank=config.rank,
        scores_from=config.scores_from,
        first=config.first_cut,
        last=config.last_cut,
        min_tokens=config.min_tokens,
        max_cuts=config.max_cuts,
        iteration=context.job.iteration,
        seed=context.seed("cut"),
        resample=config.action == "cheapest",
    )


def failed_of_hard_groups(rollouts: pl.DataFrame, max_pass_rate: float, min_pass_rate: float = 0.0) -> pl.DataFrame:
    """The judged incorrect rollouts of the groups whose share of correct ones among the judged is between these."""
    judged = pl.col("reward").is_not_null()
    pass_rate = (pl.col("verdict") == "right").sum() / judged.sum()
    is_hard = pass_rate.is_between(min_pass_rate, max_pass_rate).over("group_id")
    hard = rollouts.filter(is_hard & judged.any().over("group_id"))
    return hard.filter(pl.col("verdict") != "right", judged)


def choose(
    candidates: list[Candidate], group: str, model: Fit | None, config: Config, inputs: Inputs, context: Context
) -> list[Candidate]:
    """The candidates of one group with rank and choice. model: the fit of past branches, if there is one."""
    rng = generator(context.seed("rank"), group)
    if config.cut == "none":
        return with_rank(candidates, [0], [0], repeat=config.prefixes_per_problem)
    scores = np.array([c.score for c in candidates])
    if config.rank in prefixes.BY_FIT:
        candidates, scores = with_estimates(candidates, model, config.rank)
    settings = (config.smoothing, config.smoothing_tau, inputs.policy("initial"), config.compute)
    candidates, scores = smoothed(candidates, scores, *settings)
    order = prefixes.rank_order(scores, config.rank, rng).tolist()
    chosen = prefixes.choose_distinct(order, [c.prefix_tokens for c in candidates], config.prefixes_per_problem)
    return with_rank(candidates, order, chosen)
