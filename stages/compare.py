"""Compares the arms: pass@k per benchmark with intervals, one table and one machine-readable summary.

READS   evaluate:* (warm start and the final policy of every arm and seed), summarize:* (the last of each)
ADDS    compare (one row per policy, seed, benchmark, k), summary (summary.json: means in percent, tokens, seconds)
SOURCE  docs/method.md 6: unbiased pass@k, averaged over problems, then over benchmarks; bootstrap over problems
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from extra_rl.algorithms.pass_at_k import bootstrap_interval, pass_at_k_each
from extra_rl.errors import ConfigError
from extra_rl.records import cost, records
from extra_rl.seeding import generator
from extra_rl.stage import Context, Inputs, JsonFile, Stage, StageConfig
from extra_rl.tables import contracts
from extra_rl.tables.files import write_whole

WARM_START = "warm_start"


class Config(StageConfig):
    """Which k, and what a finished arm must have spent."""

    ks: list[int] = Field([1, 16], min_length=1, description="the k of pass@k")
    resamples: int = Field(2000, ge=100, description="bootstrap resamples over problems")
    token_budget: int | None = Field(None, description="sampled tokens every arm has to reach (select.token_budget)")


STAGE = Stage(
    name="compare",
    version=1,
    reads={"evaluate*": contracts.EvaluationSamples, "summarize*": contracts.IterationSummary},
    adds={"compare": contracts.Comparison, "summary": JsonFile},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """The comparison; summary.json is written on the way, and the table is printed."""
    spent = {label: table["total_sampled_tokens"].item() for label, table in inputs.labelled("summarize").items()}
    refuse_unspent(spent, inputs, config.token_budget)
    rows = []
    for label, samples in inputs.labelled("evaluate").items():
        policy, _, seed = label.partition("/s")
        rows += figures(samples, policy, int(seed) if seed else -1, config)
    table = contracts.Comparison.cast(pl.DataFrame(rows))
    root = context.outputs["summary"].parent
    summary = json.dumps(summarise(table, spent, root), indent=1) + "\n"
    write_whole(context.outputs["summary"], lambda tmp: tmp.write_text(summary))
    for line in terminal_table(table, config.ks):
        context.console.say(line)
    return {"compare": table}


def refuse_unspent(spent: Mapping[str, int], inputs: Inputs, budget: int | None) -> None:
    """ConfigError when an arm ran out of iterations before it had sampled its tokens."""
    for label, tokens in spent.items():
        if budget is not None and tokens < budget:
            done = inputs.tables[f"summarize:{label}"]["iteration"].item() + 1
            raise ConfigError(
                f"{label} sampled {tokens:,} of {budget:,} tokens in {done} iterations, so arms cannot be compared. "
                "Raise `iterations` and run again: what is there is kept."
            )


def figures(samples: pl.DataFrame, policy: str, seed: int, config: Config) -> list[dict[str, object]]:
    """pass@k of one policy on every benchmark. Samples that could not be judged leave n, and are counted."""
    unjudged = pl.col("verdict").is_in(["gold_unparseable", "error"])
    counts = samples.group_by("benchmark", "problem_id", maintain_order=True).agg(
        n=(~unjudged).sum(), c=(pl.col("verdict") == "right").sum(), excluded=unjudged.sum()
    )
    rows = []
    for (benchmark,), problems in counts.group_by("benchmark", maintain_order=True):
        usable = problems.filter(pl.col("n") >= max(config.ks))
        if usable.is_empty():
            raise ConfigError(
                f"benchmark {benchmark}: no problem has {max(config.ks)} judged samples; lower compare.ks or raise "
                "evaluate.samples."
            )
        for k in config.ks:
            values = 100 * pass_at_k_each(usable["n"].to_numpy(), usable["c"].to_numpy(), k)
            low, high = bootstrap_interval(
                values, generator(0, "compare", str(benchmark), k), resamples=config.resamples
            )
            rows.append(
                {
                    "policy": policy,
                    "seed": seed,
                    "benchmark": benchmark,
                    "k": k,
                    "pass_at_k": values.mean(),
                    "low": low,
                    "high": high,
                    "problems": len(usable),
                    "samples": int(problems["n"].max()),  # type: ignore[arg-type]
                    "excluded": int(problems["excluded"].sum()),
                }
            )
    return rows


def summarise(table: pl.DataFrame, spent: Mapping[str, int], root: Path) -> dict[str, object]:
    """`warm_start` and `arms`: means over benchmarks (and seeds) in percent, per benchmark, per seed, tokens, seconds.

    Seconds are sums over the stages of all seeds, evaluation included; `generated_tokens` is the sum over seeds.
    """
    warm_start = table.filter(policy=WARM_START)
    arms = {name: part for (name,), part in table.group_by("policy", maintain_order=True) if name != WARM_START}
    return {
        WARM_START: _figures(warm_start) | cost(records(root / WARM_START)),
        "arms": {str(arm): _arm(str(arm), part, spent, root) for arm, part in arms.items()},
    }


def _arm(arm: str, table: pl.DataFrame, spent: Mapping[str, int], root: Path) -> dict[str, object]:
    tokens = {label.partition("/s")[2]: count for label, count in spent.items() if label.startswith(f"{arm}/")}
    per_seed = {
        str(seed): _means(table.filter(seed=seed)) | {"generated_tokens": tokens[str(seed)]}
        for seed in table["seed"].unique(maintain_order=True).to_list()
    }
    return {
        **_figures(table),
        "generated_tokens": sum(tokens.values()),
        **cost(records(root / arm, "**/*.run.json")),
        "seeds": [int(seed) for seed in per_seed],
        "per_seed": per_seed,
    }


def _means(table: pl.DataFrame) -> dict[str, float]:
    """`pass@k` -> mean over benchmarks and seeds, in percent."""
    return {
        f"pass@{k}": round(float(np.mean(part["pass_at_k"].to_numpy(), dtype=np.float64)), 4)
        for (k,), part in table.group_by("k", maintain_order=True)
    }


def _figures(table: pl.DataFrame) -> dict[str, object]:
    per_benchmark = {str(name): _means(part) for (name,), part in table.group_by("benchmark", maintain_order=True)}
    return {**_means(table), "benchmarks": per_benchmark}


def terminal_table(table: pl.DataFrame, ks: list[int]) -> list[str]:
    """The comparison as lines: one per policy and k, one column per benchmark, the mean last."""
    benchmarks = table["benchmark"].unique(maintain_order=True).to_list()
    lines = ["", f"{'policy':<16}{'':<10}" + "".join(f"{b:>12}" for b in benchmarks) + f"{'mean':>9}"]
    for policy in table["policy"].unique(maintain_order=True).to_list():
        for k in ks:
            part = table.filter(policy=policy, k=k)
            cells = [float(np.mean(part.filter(benchmark=b)["pass_at_k"].to_numpy())) for b in benchmarks]
            mean = float(np.mean(cells))
            lines.append(f"{policy:<16}{f'pass@{k}':<10}" + "".join(f"{c:>12.1f}" for c in cells) + f"{mean:>9.1f}")
    return lines
