"""Compares the arms: pass@k per benchmark, differences over seeds, tables and a machine-readable summary.

READS   evaluate:* (warm starts and the final policy of every arm and seed), summarize:* (the last of each)
WRITES  compare (one row per policy, seed, benchmark, k), compare_seeds (with the warm start of each seed),
        compare_differences (arm - base over seeds: intervals, p), summary (summary.json: means in percent, tokens,
        seconds, the named comparisons)
SOURCE  docs/method.md 6: unbiased pass@k, averaged over problems, then over benchmarks; docs/statistics.md
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import dataframely as dy
import polars as pl
from pydantic import Field, field_validator

from extra_rl.comparison.differences import all_pairs, difference_rows, with_p
from extra_rl.comparison.evaluated import MEAN, by_regime, seed_rows, start_of
from extra_rl.comparison.figures import Policy, policy_of, rows, scores_of
from extra_rl.comparison.lines import figure_lines, named_lines
from extra_rl.comparison.spending import Spent
from extra_rl.comparison.spending_lines import spent_lines
from extra_rl.comparison.summary import summarise
from extra_rl.config.comparisons import WARM_START, named_pairs, refuse_unknown
from extra_rl.config.section import Section, StageConfig
from extra_rl.errors import ConfigError
from extra_rl.run.stage import Context, Inputs, JsonFile, Stage
from extra_rl.tables import contracts
from extra_rl.tables.files import write_whole


class Config(StageConfig):
    """The k of pass@k, and the differences that are named before the run."""

    ks: list[Annotated[int, Field(ge=1)]] = Field([1, 16], min_length=1, description="values of k for pass@k")
    resamples: int = Field(2000, ge=100, le=1_000_000, description="bootstrap resamples")
    comparisons: list[str] = Field(
        [],
        description="differences that are tested, such as `extra - grpo`: named before the run, and Holm-corrected "
        "(docs/statistics.md); other arms are compared with the first one without a correction",
    )

    @field_validator("ks")
    @classmethod
    def each_k_once(cls, ks: list[int]) -> list[int]:
        if twice := sorted({k for k in ks if ks.count(k) > 1}):
            raise ValueError(f"{twice[0]} is given twice")
        return ks

    @field_validator("comparisons")
    @classmethod
    def name_two_arms(cls, comparisons: list[str]) -> list[str]:
        named_pairs(comparisons)
        return comparisons


class Derived(Section):
    """Values that follow from the run and from the arms' sections."""

    token_budgets: dict[str, int | None] = Field(
        {}, description="folder of an arm -> sampled tokens that it has to reach (select.token_budget)"
    )
    compute_budgets: dict[str, float | None] = Field(
        {}, description="folder of an arm -> FLOP that it has to reach (select.compute_budget)"
    )
    warm_starts: list[int] = Field([0], min_length=1, description="initial policies (warm_starts)")
    seeds: list[int] = Field([], description="experiment seeds, in the order in which warm starts are assigned (seeds)")
    regimes: dict[str, float] = Field({}, description="regime -> its number (regimes)")


STAGE = Stage(
    name="compare",
    version=5,
    reads={"evaluate*": contracts.JudgedSamples, "summarize*": contracts.IterationSummary},
    writes={
        "compare": contracts.Comparison,
        "compare_seeds": contracts.SeedFigures,
        "compare_differences": contracts.Differences,
        "summary": JsonFile,
    },
    derived=Derived,
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Return the comparison; also write summary.json, and print the table."""
    derived: Derived = context.derived
    spent = {
        label: Spent(*table.select("total_sampled_tokens", "total_compute").row(0))
        for label, table in inputs.labelled("summarize").items()
    }
    refuse_unspent(spent, inputs, derived)
    evaluated = {
        policy_of(label, derived.regimes): scores_of(samples, config.ks)
        for label, samples in inputs.labelled("evaluate").items()
    }
    arms = list(dict.fromkeys(policy.arm for policy in evaluated if policy.arm != WARM_START))
    refuse_unknown(config.comparisons, arms)
    seeds = seeds_of(evaluated, derived.seeds)
    regimes = by_regime(evaluated, derived.regimes, start_of(seeds, derived.warm_starts))
    pairs = all_pairs(named_pairs(config.comparisons), arms)

    made = [row for policy, scores in evaluated.items() for row in rows(policy, scores, config.ks, config.resamples)]
    table = contracts.Comparison.cast(pl.DataFrame(made))
    differences = with_p(
        [row for regime in regimes for row in difference_rows(regime, pairs, config.ks, config.resamples)]
    )
    named = [row for row in differences if row["named"] and row["benchmark"] == MEAN]
    root = context.outputs["summary"].parent
    summary = summarise(table, list(evaluated), named, spent, root)
    text = json.dumps(summary, indent=1) + "\n"
    write_whole(context.outputs["summary"], lambda tmp: tmp.write_text(text))
    for line in [*figure_lines(table, config.ks), *spent_lines(summary), *named_lines(named)]:
        context.console.say(line)
    return {
        "compare": table,
        "compare_seeds": _table(contracts.SeedFigures, [row for r in regimes for row in seed_rows(r, config.ks)]),
        "compare_differences": _table(contracts.Differences, differences),
    }


def seeds_of(evaluated: Iterable[Policy], given: Sequence[int]) -> Sequence[int]:
    """Experiment seeds in the order in which warm starts are assigned; ConfigError for another evaluated seed."""
    found = sorted({policy.seed for policy in evaluated if policy.arm != WARM_START})
    if given and not set(found) <= set(given):
        raise ConfigError(f"seeds: {given} does not contain every seed of the evaluations, {found}.")
    return given or found


def _table(contract: type[dy.Schema], made: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(made, schema=contract.create_empty().schema, strict=False)


def refuse_unspent(spent: Mapping[str, Spent], inputs: Inputs, derived: Derived) -> None:
    """Raise ConfigError when an arm ran out of iterations before it spent either of its budgets."""
    for label, (tokens, compute) in spent.items():
        folder = label.partition("/s")[0]
        budget = derived.token_budgets.get(folder)
        flop = derived.compute_budgets.get(folder)
        reached = [budget is not None and tokens >= budget, flop is not None and compute >= flop]
        if (budget is None and flop is None) or any(reached):
            continue
        missing = [] if budget is None else [f"sampled {tokens:,} of {budget:,} tokens"]
        missing += [] if flop is None else [f"computed {compute:.4g} of {flop:.4g} FLOP"]
        done = inputs.tables[f"summarize:{label}"]["iteration"].item() + 1
        raise ConfigError(
            f"{label} {' and '.join(missing)} in {done} iterations, so arms cannot be compared. "
            "Raise `iterations` and run again: what is there is kept. For a short run lower the budget in `select`."
        )
