"""How much an experiment samples: rollouts and tokens of an arm, evaluation samples, jobs of the DAG.

Everything is per arm and seed unless it says otherwise. A bound takes every rollout at the response limit and every
group as hard; an expectation takes the assumptions of `Assumptions`. Source: read off the stages and the workflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extra_rl.config.experiment import RunConfig

Sections = Mapping[str, Mapping[str, Any]]

STAGES_OF_AN_ITERATION = 12
"""Jobs: select, generate, 2 verify, 2 score_entropy, choose_prefixes, regenerate, novelty, advantage, update and
summarize."""

STAGES_OF_A_RUN = 4
"""Jobs: prepare, compare, report, and Snakemake's target `all`."""

STAGES_OF_A_START = 2
"""Jobs: warm_start, evaluate_warm_start."""


@dataclass(frozen=True)
class Assumptions:
    """What a configuration cannot know. response, prompt: mean lengths in tokens. hard_share: share of the groups that
    `choose_prefixes` may regenerate."""

    response: float
    prompt: float
    hard_share: float


@dataclass(frozen=True)
class Rollouts:
    """What one iteration of an arm samples, expected or at most.

    fresh, regenerated: rollouts. hard: groups that may be sampled on for; served: those that are. response: tokens of a
    rollout; prefix, continuation: of a regenerated one, taken over and sampled. tokens: sampled ones in all.
    """

    fresh: int
    hard: float
    served: float
    regenerated: float
    response: float
    prefix: float
    continuation: float

    @property
    def tokens(self) -> float:
        return self.fresh * self.response + self.regenerated * self.continuation

    @property
    def response_tokens(self) -> float:
        """Prefixes included: what the tables hold."""
        return self.tokens + self.regenerated * min(self.prefix, self.response - self.continuation)


def longest_prompt(sections: Sections) -> int:
    """Prompts beyond it are dropped by `prepare`: the context less the response."""
    prepare = sections["prepare"]
    return int(prepare["model"]["context_tokens"]) - int(prepare["sampling"]["max_response_tokens"])


def longest_response(sections: Sections) -> int:
    return int(sections["generate"]["sampling"]["max_response_tokens"])


def at_most(sections: Sections) -> Rollouts:
    """The bound: every response at the limit (a prefix counts against it, and may be empty), every group hard."""
    limit = float(longest_response(sections))
    return _rollouts(sections, 1.0, limit, prefix=_cuts(sections)[1] * limit, continuation=limit)


def expected(sections: Sections, assumed: Assumptions) -> Rollouts:
    """At the assumed lengths; prefixes end in the middle of the range in which responses are cut."""
    cut = sum(_cuts(sections)) / 2
    response = assumed.response
    return _rollouts(sections, assumed.hard_share, response, prefix=cut * response, continuation=(1 - cut) * response)


def _cuts(sections: Sections) -> tuple[float, float]:
    """Earliest and latest cut of a response, as shares of it; none for a fresh resample."""
    prefixes = sections["choose_prefixes"]
    return (0.0, 0.0) if prefixes["cut"] == "none" else (prefixes["first_cut"], prefixes["last_cut"])


def _rollouts(
    sections: Sections, hard_share: float, response: float, *, prefix: float, continuation: float
) -> Rollouts:
    prefixes = sections["choose_prefixes"]
    groups = fresh_groups(sections, hard_share)
    hard = hard_share * groups
    served = hard if prefixes["groups"] == "all_hard" else min(prefixes["groups"], hard)
    return Rollouts(
        fresh=groups * sections["generate"]["group_size"],
        hard=hard,
        served=served,
        regenerated=served * prefixes["prefixes_per_problem"] * prefixes["continuations_per_prefix"],
        response=response,
        prefix=prefix,
        continuation=continuation,
    )


def fresh_groups(sections: Sections, hard_share: float) -> int:
    """Groups that `generate` samples, rounded up: the prompts, and with rounds again as many as are not mixed, of which
    the hard ones are known; at most `rounds` times the prompts."""
    prompts: int = sections["select"]["prompts"]
    rounds: int = sections["generate"]["rounds"]
    return math.ceil(prompts * sum(hard_share**number for number in range(rounds)) - 1e-9)


def sampled_tokens(sections: Sections, active: int, regenerating: int, rollouts: Rollouts) -> float:
    """Of so many iterations with fresh rollouts, and with regenerated ones; a budget ends the sampling with the
    iteration that reaches it."""
    total = active * rollouts.fresh * rollouts.response + regenerating * rollouts.regenerated * rollouts.continuation
    budget = sections["select"]["token_budget"]
    return total if budget is None else min(total, budget + rollouts.tokens)


def active_iterations(sections: Sections, iterations: int, rollouts: Rollouts) -> int:
    """Iterations that sample anything, at these lengths: all of them without a token budget."""
    budget = sections["select"]["token_budget"]
    return iterations if budget is None else min(iterations, math.ceil(budget / rollouts.tokens))


def regenerating_iterations(sections: Sections, run: RunConfig, active: int) -> int:
    """Iterations that sample continuations: those after the warm-up, and one later where prefixes are queued."""
    prefixes = sections["choose_prefixes"]
    first: int = prefixes["warmup_iterations"] + (1 if prefixes["when"] == "next_iteration" else 0)
    return max(0, run.first_iteration + active - max(run.first_iteration, first))


def shards_of(run: RunConfig) -> int:
    """Jobs that share the rollouts of a call, each on devices of its own."""
    return run.generation.shards


def iterations_of(run: RunConfig) -> int:
    return run.iterations - run.first_iteration


def evaluations_of(run: RunConfig) -> int:
    """Evaluations of an arm and seed: the last policy, and every k-th."""
    if not run.evaluate_every:
        return 1
    return 1 + sum((i + 1) % run.evaluate_every == 0 for i in range(run.first_iteration, run.iterations - 1))


def held_out(sections: Sections) -> dict[str, int | None]:
    """benchmark -> problems of the split that `evaluate` reads; None where only the data can tell."""
    prepare, evaluate = sections["prepare"], sections["evaluate"]
    task = prepare["task"]
    if task["name"] == "math":
        if evaluate["split"] == "tuning":
            return {"tuning": prepare.get("tuning_problems", 0)}
        return {name: problems_of(source) for name, source in task["benchmarks"].items()}
    if task["name"] == "reasoning_gym":
        return dict.fromkeys(task["sets"], prepare[f"{evaluate['split']}_per_level"])
    from extra_rl.config.sections import TaskConfig
    from extra_rl.tasks.base import load_task

    return dict.fromkeys(load_task(TaskConfig(**task)).levels, prepare[f"{evaluate['split']}_per_level"])


def training_problems(sections: Sections) -> int | None:
    """Problems to train on, before any is dropped; None where only the data can tell."""
    prepare = sections["prepare"]
    task = prepare["task"]
    if task["name"] == "reasoning_gym":
        held = prepare["tuning_per_level"] + prepare["final_per_level"]
        left = {name: max(0, chosen["size"] - held) for name, chosen in task["sets"].items()}
        return int(sum(min(count, prepare["train_per_level"].get(name, count)) for name, count in left.items()))
    if task["name"] != "math":
        return int(sum(prepare["train_per_level"].values()))
    counts = [problems_of(source) for source in task["train"].values()]
    return None if None in counts else sum(count for count in counts if count is not None)


def problems_of(source: Mapping[str, Any]) -> int | None:
    """Rows of a source: those it is expected to have, else those of its local file, cut to its limit."""
    rows: int | None = source["rows"] or _rows_of_file(source["path"])
    limit: int | None = source["limit"]
    return rows if rows is None or limit is None else min(rows, limit)


def _rows_of_file(path: str | None) -> int | None:
    import polars as pl

    if path is None or not Path(path).is_file():
        return None
    scan = pl.scan_parquet(path) if path.endswith(".parquet") else pl.scan_ndjson(path)
    return int(scan.select(pl.len()).collect().item())


def jobs(run: RunConfig, arms: Mapping[str, Sections]) -> int:
    """Jobs of the whole DAG, with the target `all`, as `snakemake --dry-run` counts them in an empty directory."""
    iterations = iterations_of(run)
    audits = sum(
        2 * iterations for sections in arms.values() if sections.get("audit", {}).get("judge", "none") != "none"
    )
    shards = shards_of(run)
    of_an_iteration = STAGES_OF_AN_ITERATION + (2 * shards if shards > 1 else 0)  # two stages in parts, gathered
    if run.granularity == "iteration":
        of_an_iteration = 1
    per_seed = len(arms) * (of_an_iteration * iterations + evaluations_of(run)) + audits
    return STAGES_OF_A_RUN + STAGES_OF_A_START * len(run.warm_starts) + len(run.seeds) * per_seed
