"""Upper bounds of an experiment: rollouts, tokens and FLOP of an arm, evaluation samples, jobs of the DAG.

All are per arm and seed unless stated otherwise. Counts of problems, evaluations and jobs are exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extra_rl.config.run import RunConfig
from extra_rl.config.sections import TaskConfig
from extra_rl.problems.files import read_files
from extra_rl.run.compute import compute
from extra_rl.tasks.load import levels_and_words

Sections = Mapping[str, Mapping[str, Any]]

STAGES_OF_AN_ITERATION = 12
"""Jobs: select, generate, 2 verify, 2 score_entropy, choose_prefixes, regenerate, novelty, advantage, update and
summarize."""

STAGES_OF_A_RUN = 4
"""Jobs: prepare, compare, report, and Snakemake's target `all`."""

STAGES_OF_A_START = 2
"""Jobs: warm_start, evaluate_warm_start."""


@dataclass(frozen=True)
class Rollouts:
    """Upper bounds of one iteration of an arm.

    groups: new groups. fresh: their rollouts. sampled_fresh: of these, sampled ones (0 with `generate.source:
    demonstrations`). continued: continued groups. contexts: distinct prefixes, of these and of replayed trajectories.
    regenerated: continuations of all of them.
    response: tokens of a response, its prefix included. prefix: of these, tokens copied from the parent.
    """

    groups: int
    fresh: int
    sampled_fresh: int
    continued: int
    contexts: int
    regenerated: int
    response: float
    prefix: float

    @property
    def rows(self) -> int:
        """Return the rollouts of an iteration."""
        return self.fresh + self.regenerated

    @property
    def sampled_tokens(self) -> float:
        """Return the upper bound: a prefix is part of the response limit and may be empty."""
        return (self.sampled_fresh + self.regenerated) * self.response

    @property
    def response_tokens(self) -> float:
        """Return the tokens in the tables, prefixes included."""
        return self.rows * self.response


def longest_prompt(sections: Sections) -> int:
    """Return the context minus the response; `prepare` drops longer prompts."""
    prepare = sections["prepare"]
    return int(prepare["model"]["context_tokens"]) - longest_response(sections)


def longest_response(sections: Sections) -> int:
    """Return the limit of a training response in tokens."""
    return int(sections["generate"]["sampling"]["max_response_tokens"])


def at_most(sections: Sections) -> Rollouts:
    """Return the bound: every round sampled in full, every group hard, every response at the limit."""
    generate, prefixes = sections["generate"], sections["choose_prefixes"]
    same = generate.get("rounds_on") == "same_problem"
    groups = sections["select"]["prompts"] * (1 if same else generate["rounds"])
    continued = groups if prefixes["groups"] == "all_hard" else min(prefixes["groups"], groups)
    contexts = continued * prefixes["prefixes_per_problem"]
    replay = prefixes["replay"]
    lengths = [prefixes["last_cut"]] if prefixes["cut"] != "none" and (continued or not replay["rows"]) else []
    lengths += [replay["last_cut"]] if replay["rows"] and replay["cut"] != "prompt" else []
    fresh = groups * generate["group_size"] * (generate["rounds"] if same else 1)
    limit = float(longest_response(sections))
    return Rollouts(
        groups=groups,
        fresh=fresh,
        sampled_fresh=0 if generate["source"] == "demonstrations" else fresh,
        continued=continued,
        contexts=contexts + replay["rows"],
        regenerated=contexts * prefixes["continuations_per_prefix"] + replay["rows"] * replay["continuations"],
        response=limit,
        prefix=max(lengths, default=0.0) * limit,
    )


def flop_at_most(sections: Sections, weights: int) -> float:
    """Return the FLOP of one iteration by `extra_rl.run.compute`, with every row at full length.

    Nothing is shared between rows, and padding is included.
    """
    rollouts, prompt, limit = at_most(sections), longest_prompt(sections), longest_response(sections)
    whole = rollouts.rows * (prompt + limit)
    fresh_contexts = rollouts.groups if rollouts.sampled_fresh else 0
    return compute(
        weights,
        sampled=(rollouts.sampled_fresh + rollouts.regenerated) * limit,
        prefilled=fresh_contexts * prompt + rollouts.contexts * (prompt + math.ceil(rollouts.prefix)),
        scored=whole,
        trained=sections["update"]["epochs"] * whole,
    )


def tokens_of_run(sections: Sections, run: RunConfig, length: float) -> tuple[float, float]:
    """Return (sampled tokens, tokens in the tables) of an arm and seed if every response has `length`.

    Tokens of demonstrations are in the tables but not sampled.
    """
    rollouts, iterations = at_most(sections), iterations_of(run)
    again = regenerating_iterations(sections, run) * rollouts.regenerated
    sampled = (iterations * rollouts.sampled_fresh + again) * length
    iteration = (rollouts.sampled_fresh + rollouts.regenerated) * length
    bound = with_budget(sampled, iteration, sections["select"]["token_budget"])
    held = (iterations * rollouts.fresh + again) * length
    return bound, held * (bound / sampled if sampled else 1.0)


def with_budget(total: float, iteration: float, budget: float | None) -> float:
    """Return a run's total; a budget ends the sampling with the iteration that reaches it."""
    return total if budget is None else min(total, budget + iteration)


def regenerating_iterations(sections: Sections, run: RunConfig) -> int:
    """Return the iterations with continuations: those after the warm-up, one later where prefixes are queued."""
    prefixes = sections["choose_prefixes"]
    first: int = prefixes["warmup_iterations"] + (1 if prefixes["when"] == "next_iteration" else 0)
    return max(0, run.iterations - max(run.first_iteration, first))


def iterations_of(run: RunConfig) -> int:
    """Return the number of iterations that a run computes."""
    return run.iterations - run.first_iteration


def evaluations_of(run: RunConfig) -> int:
    """Return the evaluations of an arm and seed: the last policy, and every k-th."""
    if not run.evaluate_every:
        return 1
    return 1 + sum((i + 1) % run.evaluate_every == 0 for i in range(run.first_iteration, run.iterations - 1))


def held_out(sections: Sections) -> dict[str, int | None]:
    """Return benchmark -> problems of the split of `evaluate`; None where it is known only from the data."""
    prepare, evaluate = sections["prepare"], sections["evaluate"]
    task = prepare["task"]
    if task["name"] == "math":
        if evaluate["split"] == "tuning":
            return {"tuning": prepare.get("tuning_problems", 0)}
        return {name: problems_of(source) for name, source in task["benchmarks"].items()}
    if task["name"] == "reasoning_gym":
        return dict.fromkeys(task["sets"], prepare[f"{evaluate['split']}_per_level"])
    return dict.fromkeys(levels_and_words(TaskConfig(**task))[0], prepare[f"{evaluate['split']}_per_level"])


def training_problems(sections: Sections) -> int | None:
    """Return the training problems before any is dropped; None where it is known only from the data."""
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
    """Return the rows of a source, as configured or of its local file, up to its limit."""
    rows: int | None = source["rows"] or _rows_of_file(source["path"])
    limit: int | None = source["limit"]
    return rows if rows is None or limit is None else min(rows, limit)


def _rows_of_file(path: str | None) -> int | None:
    import polars as pl

    if path is None or not Path(path).exists():
        return None
    if path.endswith(".parquet"):
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    return len(read_files(path).rows)


def jobs(run: RunConfig, arms: Mapping[str, Sections]) -> int:
    """Return the jobs of the whole DAG, with the target `all`, as `snakemake --dry-run` counts them."""
    iterations = iterations_of(run)
    audits = sum(
        2 * iterations for sections in arms.values() if sections.get("audit", {}).get("judge", "none") != "none"
    )
    shards = run.generation.shards
    of_an_iteration = STAGES_OF_AN_ITERATION + (2 * shards if shards > 1 else 0)  # two stages in parts, gathered
    if run.by_iteration:
        of_an_iteration = 1
    per_seed = len(arms) * (of_an_iteration * iterations + evaluations_of(run)) + audits
    if run.one_process:
        per_seed = len(arms)
    return STAGES_OF_A_RUN + STAGES_OF_A_START * len(run.starts) + len(run.seeds) * per_seed
