"""Selects the problems of an iteration from the seed's stream of problems.

READS   train, previous_summarize (tokens and compute spent), previous_summarize_state (position in the stream)
WRITES  select: one group per problem, with its position in the stream; with `generate.rounds`, also spare groups
SOURCE  equal budgets (docs/method.md): all arms of a seed read the same stream, to different depths. Once the sampled
        tokens or the compute reach their budget, an iteration is empty. `stop_without_signal` ends a run here, before
        anything of the iteration is computed.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from pydantic import Field

from extra_rl.algorithms.stream import problem_stream
from extra_rl.config.section import LevelWeights, Section, StageConfig
from extra_rl.errors import ConfigError
from extra_rl.run.guards import refuse_without_signal
from extra_rl.run.stage import Context, Inputs, Stage
from extra_rl.tables import contracts


class Config(StageConfig):
    """Prompts per iteration, their levels, and the budgets of a run."""

    prompts: int = Field(24, ge=1, description="prompts per iteration")
    level_weights: LevelWeights = Field(
        {}, description="relative frequency of each level (column benchmark of train); empty: all problems equally"
    )
    token_budget: int | None = Field(None, ge=1, description="sampled tokens of a run; null: no limit")
    compute_budget: float | None = Field(
        None,
        gt=0,
        description="analytic compute of a run in FLOP (docs/method.md 4), for example 2.0e+15; null: no limit. Once "
        "either budget is spent, iterations are empty",
    )


class Derived(Section):
    """Values that follow from other sections."""

    rounds: int = Field(1, ge=1, description="generate.rounds: problems for all rounds of an iteration are selected")
    continued: bool = Field(False, description="whether a schedule has changed how many problems an iteration takes")


STAGE = Stage(
    name="select",
    version=1,
    reads={
        "train": contracts.Problems,
        "previous_summarize?": contracts.IterationSummary,
        "previous_summarize_state?": contracts.IterationState,
    },
    writes={"select": contracts.Selection},
    derived=Derived,
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """The next problems of the stream, `prompts` for each round; none once a budget is spent."""
    if budget_spent(inputs["previous_summarize"], config):
        return {"select": contracts.Selection.create_empty()}
    refuse_without_signal(inputs.paths.get("previous_summarize"), context)
    train = inputs["train"]
    if train.is_empty():
        raise ConfigError("there are no training problems: list some in task.train (`snakemake evaluate` needs none).")
    unknown = set(config.level_weights) - set(train["benchmark"])
    if unknown:
        raise ConfigError(
            f"select.level_weights: train has no problem of {', '.join(sorted(unknown))}. Remove or correct it."
        )
    rounds = context.derived.rounds
    known = rounds == 1 and not context.derived.continued
    start = context.job.iteration * config.prompts if known else next_position(inputs)
    count = config.prompts * rounds
    rows = problem_stream(
        train["benchmark"].to_list(),
        config.level_weights,
        start,
        count,
        context.run_seed("stream"),
    )
    return {
        "select": contracts.Selection.cast(
            pl.DataFrame(
                {
                    "group_id": [f"{context.job.place}/{group}" for group in range(count)],
                    "problem_id": train["problem_id"][rows],
                    "position": range(start, start + count),
                }
            )
        )
    }


def budget_spent(previous: pl.DataFrame, config: Config) -> bool:
    """Whether either budget is spent. previous: IterationSummary of the previous iteration; no row before the first."""
    for tokens, compute in previous.select("total_sampled_tokens", "total_compute").iter_rows():
        if config.token_budget is not None and tokens >= config.token_budget:
            return True
        if config.compute_budget is not None and compute >= config.compute_budget:
            return True
    return False


def next_position(inputs: Inputs) -> int:
    """The position after the last problem that the previous iterations sampled, as their state records it."""
    state = inputs["previous_summarize_state"]
    return 0 if state.is_empty() else int(state["next_position"].item())
