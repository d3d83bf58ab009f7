"""The comparison of an experiment from its evidence: the objects that the stage `compare` makes from evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from extra_research.evidence import RUN, Evidence, listed
from extra_rl.comparison.differences import all_pairs, difference_rows, with_p
from extra_rl.comparison.evaluated import Evaluated, by_regime, seed_rows, start_of
from extra_rl.comparison.figures import policy_of, scores_from
from extra_rl.config.arms import Cell, cells_of, merge, regimes_of
from extra_rl.config.comparisons import WARM_START, Pair, named_pairs, refuse_unknown
from extra_rl.config.files import read_yaml
from extra_rl.config.mistakes import Mistakes, validated
from extra_rl.config.run import RunConfig
from extra_rl.config.section import parse_config
from extra_rl.errors import ConfigError, InputError
from extra_rl.report.spent import Spent, relative
from extra_rl.results import run_name
from extra_rl.run.records import SECONDS, kind_of_seconds
from extra_rl.tables import contracts
from stages.load import load


@dataclass(frozen=True)
class Plan:
    """What a configuration plans.

    cells: folder -> arm and regime. regimes: name -> value; empty: none. start_of: seed -> its warm start. pairs: the
    named comparisons. budgets: folder -> tokens and FLOP of which one has to be spent; None: no such budget.
    """

    name: str
    cells: Mapping[str, Cell]
    regimes: Mapping[str, float]
    start_of: Mapping[int, int]
    ks: Sequence[int]
    resamples: int
    pairs: Sequence[Pair]
    budgets: Mapping[str, tuple[int | None, float | None]]

    @property
    def arms(self) -> list[str]:
        """Return the arms in their order; the first is the base."""
        return list(dict.fromkeys(cell.arm for cell in self.cells.values()))


@dataclass(frozen=True)
class Compared:
    """A comparison.

    runs: EvidenceRuns of the plan, with arm and regime. seeds: contracts.SeedFigures. differences: rows of
    contracts.Differences: the named pairs, and every arm against the base. spent: runs as the report counts them.
    other_machines: folder and seed of runs on another machine than the base arm's of the same regime and seed.
    left_out: names of runs that the plan does not have.
    """

    plan: Plan
    runs: pl.DataFrame
    seeds: pl.DataFrame
    differences: Sequence[Mapping[str, Any]]
    spent: Spent
    other_machines: pl.DataFrame
    left_out: str


def plan_of(config: Path) -> Plan:
    """Return what a configuration plans. Sections of stages other than `compare` and `select` are not checked.

    So the evidence of an experiment can be read after keys of other stages have changed. Raises ConfigError, which
    lists the mistakes.
    """
    raw, mistakes = read_yaml(config), Mistakes()
    run, found = validated(RunConfig, {key: raw[key] for key in RunConfig.model_fields if key in raw})
    for mistake in found:
        mistakes.add(".".join(mistake.path), mistake.reason)
    regimes = regimes_of(mistakes.mapping(raw.get("regimes"), "regimes"), mistakes)
    cells = cells_of(mistakes.mapping(raw.get("arms"), "arms"), regimes, mistakes)
    select = mistakes.mapping(raw.get("select"), "select")
    mistakes.refuse()
    assert run is not None  # a mistake otherwise
    section = parse_config(load("compare").Config, raw.get("compare") or {}, "compare")
    refuse_unknown(section.comparisons, [cell.arm for cell in cells.values()])
    merged = {folder: merge(select, cell.diff.get("select") or {}) for folder, cell in cells.items()}
    selects = {folder: parse_config(load("select").Config, of, "select") for folder, of in merged.items()}
    return Plan(
        name=run.name,
        cells=cells,
        regimes={name: regime.value for name, regime in regimes.items()},
        start_of=start_of(run.every_seed, run.warm_starts),
        ks=section.ks,
        resamples=section.resamples,
        pairs=named_pairs(section.comparisons),
        budgets={folder: (of.token_budget, of.compute_budget) for folder, of in selects.items()},
    )


def compare(plan: Plan, evidence: Evidence) -> Compared:
    """Return the comparison of the plan's runs; those that are missing are left out.

    Raises InputError where the evidence has no run of the plan, ConfigError for runs of another experiment and for one
    that spent no budget.
    """
    planned = (pl.col("folder").is_in(list(plan.cells)) & pl.col("seed").is_in(list(plan.start_of))) | (
        pl.col("seed") < 0
    )
    left_out = evidence.keys().filter(~planned)
    runs = with_place(evidence.runs.filter(planned), plan)
    if runs.is_empty():
        raise InputError(f"the evidence has no run of {plan.name}: it has {listed(evidence.keys())}.")
    refuse_other_experiments(runs, plan)
    refuse_unspent(runs, plan)
    regimes = evaluated(plan, evidence.counts.filter(planned))
    arms = [arm for arm in plan.arms if arm in set(runs["arm"])]
    against_base = [pair for pair in all_pairs([], plan.arms) if pair.base != WARM_START and pair.arm in arms]
    named = {(pair.arm, pair.base) for pair in plan.pairs}
    pairs = [*plan.pairs, *(pair for pair in against_base if (pair.arm, pair.base) not in named)]
    differences = with_p([row for regime in regimes for row in difference_rows(regime, pairs, plan.ks, plan.resamples)])
    spent, other = spent_of(runs, plan.arms[0])
    return Compared(
        plan=plan,
        runs=runs,
        seeds=pl.DataFrame(
            [row for regime in regimes for row in seed_rows(regime, plan.ks)],
            schema=contracts.SeedFigures.create_empty().schema,
            strict=False,
        ),
        differences=differences,
        spent=spent,
        other_machines=other,
        left_out=listed(left_out) if len(left_out) else "",
    )


def with_place(runs: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    """Return the runs with arm and regime: by the number of the regime, then in the order of the arms, then by seed."""
    order = sorted(plan.cells.items(), key=lambda item: plan.regimes.get(item[1].regime, 0.0))
    places = pl.DataFrame(
        [(folder, cell.arm, cell.regime, place) for place, (folder, cell) in enumerate(order)],
        schema={"folder": pl.String, "arm": pl.String, "regime": pl.String, "place": pl.Int64},
        orient="row",
    )
    placed = runs.join(places, on="folder", how="inner")
    return placed.sort("place", "seed").drop("place")


def evaluated(plan: Plan, counts: pl.DataFrame) -> list[Evaluated]:
    """Return the evaluated policies of each regime. counts: EvidenceCounts of the plan's runs and warm starts."""
    policies = {}
    for (folder, seed), part in counts.group_by(RUN, maintain_order=True):
        label = str(folder) if int(str(seed)) < 0 else run_name(str(folder), int(str(seed)))
        policies[policy_of(label, plan.regimes)] = scores_from(part, plan.ks)
    order = {folder: place for place, folder in enumerate(plan.cells)}
    ordered = dict(sorted(policies.items(), key=lambda item: (order.get(item[0].folder, -1), item[0].seed)))
    return by_regime(ordered, plan.regimes, plan.start_of)


def refuse_other_experiments(runs: pl.DataFrame, plan: Plan) -> None:
    """Raise ConfigError for runs of another experiment, whose arms and seeds may well have the same names."""
    if names := sorted(set(runs["experiment"].drop_nulls()) - {plan.name}):
        raise ConfigError(
            f"the evidence is of {', '.join(names)}, and the configuration is of {plan.name}. Name the configuration "
            "that the runs were made with."
        )


def refuse_unspent(runs: pl.DataFrame, plan: Plan) -> None:
    """Raise ConfigError where a run ended before it spent either of its budgets, so that it cannot be compared."""
    for folder, seed, tokens, compute in runs.select(*RUN, "sampled_tokens", "compute").iter_rows():
        budget, flop = plan.budgets[folder]
        if (budget is None and flop is None) or (budget and tokens >= budget) or (flop and compute >= flop):
            continue
        parts = [] if budget is None else [f"sampled {tokens:,} of {budget:,} tokens"]
        parts += [] if flop is None else [f"computed {compute:.4g} of {flop:.4g} FLOP"]
        raise ConfigError(f"{run_name(folder, seed)} {' and '.join(parts)}, so it cannot be compared.")


def spent_of(runs: pl.DataFrame, base: str) -> tuple[Spent, pl.DataFrame]:
    """Return what the runs spent, and the runs on another machine than the base arm's of the same regime and seed.

    The seconds of the latter cannot be compared with the base arm's. A machine without a name counts as the same.
    runs: as `with_place` returns them.
    """
    key = kind_of_seconds({"device_seconds": seconds} for seconds in runs["device_s"])
    seconds = "device_s" if key == "device_seconds" else "cpu_s"
    rows = runs.select(
        *("folder", "arm", "regime", "seed", "machine"),
        tokens="sampled_tokens",
        compute="compute",
        seconds=pl.when(pl.col(seconds) > 0).then(pl.col(seconds)),
        useful="useful_groups",
        rescued="rescued_groups",
    )
    of_base = rows.filter(arm=base).select("regime", "seed", base_machine="machine")
    other = rows.join(of_base, on=["regime", "seed"]).filter(pl.col("machine") != pl.col("base_machine"))
    return Spent(rows, SECONDS[key]), other.select(RUN)


def ratios_of(found: Compared) -> pl.DataFrame:
    """Return `report.spent.relative` to the base arm, without seconds of pairs on different machines."""
    elsewhere = found.other_machines.with_columns(elsewhere=pl.lit(True))
    rows = found.spent.rows.join(elsewhere, on=RUN, how="left", maintain_order="left")
    same = rows.with_columns(seconds=pl.when(pl.col("elsewhere").is_null()).then(pl.col("seconds")))
    return relative(Spent(same.drop("elsewhere"), found.spent.seconds), found.plan.arms[0])
