"""What every arm and seed spent in three currencies, and the useful groups that it found for that.

Tokens, FLOP and groups are counts from tables. Seconds come from the run records (docs/statistics.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from extra_rl.report.curves import PLACE, over_seeds
from extra_rl.report.sources import Sources
from extra_rl.results import RunFolder
from extra_rl.run.records import SECONDS, cost, kind_of_seconds, training_cost

CURRENCIES = ("tokens", "compute", "seconds")
"""Columns of `Spent.rows`: sampled tokens, FLOP, and seconds of the stages that train."""
RATES = {"tokens": 1e3, "compute": 1e12, "seconds": 1.0}
"""Currency -> units of it for which useful groups are counted: 1,000 tokens, 1 TFLOP, 1 second."""
WAYS = tuple(cost(()))
"""Ways of counting seconds: wall, CPU, device."""


@dataclass(frozen=True)
class Spent:
    """What was spent.

    rows: one per arm and seed: PLACE, seed, CURRENCIES, steps (iterations that sampled), useful and rescued (groups),
    and the columns WAYS. Seconds are null where no record is there. seconds: name of the currency.
    """

    rows: pl.DataFrame
    seconds: str

    @property
    def one_second(self) -> str:
        """Return `CPU-second` or `device-second`."""
        return self.seconds.removesuffix("s")


def by_seed(sources: Sources, iterations: pl.DataFrame) -> Spent:
    """Return what every arm and seed spent. iterations: `collect.iterations`."""
    totals = iterations.group_by([*PLACE, "seed"], maintain_order=True).agg(
        tokens=pl.col("sampled_tokens").sum(),
        compute=pl.col("compute").sum(),
        steps=pl.len().cast(pl.Int64),
        useful=pl.col("useful_groups").sum(),
        rescued=pl.col("rescued_groups").sum(),
    )
    costs = [{"folder": folder, "seed": seed, **seconds(sources, folder, seed)} for folder, seed in sources.iterations]
    key = kind_of_seconds(costs)
    schema = {"folder": pl.String, "seed": pl.Int64, **dict.fromkeys(WAYS, pl.Float64)}
    known = pl.DataFrame(costs, schema=schema).with_columns(seconds=pl.when(pl.col(key) > 0).then(pl.col(key)))
    rows = totals.join(known, on=["folder", "seed"], how="left", maintain_order="left")
    return Spent(rows, SECONDS[key])


def seconds(sources: Sources, folder: str, seed: int) -> dict[str, Any]:
    """Return `records.training_cost` of an arm and seed: from summary.json, which is faster, or the run records."""
    known = sources.summary.get("arms", {}).get(folder, {}).get("per_seed", {}).get(str(seed), {})
    if all(way in known for way in WAYS):
        return {way: known[way] for way in WAYS}
    return training_cost(RunFolder.of(sources.results, folder, seed).path)


def relative(spent: Spent, base: str) -> pl.DataFrame:
    """Return spending divided by that of the base arm: PLACE, what (CURRENCIES), mean, low, high, seeds.

    Paired by regime and seed; left out where the base arm was not run, or either is not known.
    """
    of_base = {currency: f"{currency}_of_base" for currency in CURRENCIES}
    bases = spent.rows.filter(arm=base).select("regime", "seed", *CURRENCIES).rename(of_base)
    paired = spent.rows.join(bases, on=["regime", "seed"], how="inner", maintain_order="left")
    ratios = paired.with_columns(_per(pl.col(name), pl.col(other)).alias(name) for name, other in of_base.items())
    return _over_seeds(ratios, CURRENCIES)


def useful_rates(spent: Spent) -> pl.DataFrame:
    """Return groups per unit of cost: PLACE, what (CURRENCIES and `rescued`), mean, low, high, seeds.

    Useful groups per 1,000 sampled tokens, per TFLOP and per second, and rescued groups per 1,000 sampled tokens. An
    arm that spends nothing of a currency, as one that samples nothing, is left out there.
    """
    useful = {name: _per(unit * pl.col("useful"), pl.col(name)) for name, unit in RATES.items()}
    rescued = _per(RATES["tokens"] * pl.col("rescued"), pl.col("tokens"))
    return _over_seeds(spent.rows.with_columns(**useful, rescued=rescued), (*CURRENCIES, "rescued"))


def _per(count: pl.Expr, spent: pl.Expr) -> pl.Expr:
    """Return the quotient; null where nothing was spent, or it is not known."""
    return pl.when(spent > 0).then(count / spent)


def _over_seeds(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    long = rows.unpivot(columns, index=[*PLACE, "seed"], variable_name="what", value_name="figure")
    return over_seeds(long, [*PLACE, "what"], "figure")
