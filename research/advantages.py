"""What every rollout's advantage would have been under other settings, and how that differs from what it was."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from extra_rl.algorithms.advantage import bonus_share
from extra_rl.tables import contracts
from research.measures import novelty_of
from research.replay import Finished, refuse_other_code
from research.variants import Variant


class Advantages(NamedTuple):
    """long: one row a variant and rollout. variants: one row a variant, in the order given."""

    long: pl.DataFrame
    variants: pl.DataFrame


def advantages_under(variants: Iterable[Variant], advantage: Finished, novelty: Finished) -> Advantages:
    """The stage `advantage` run again for each variant, with the novelty that the variant's measure gives.

    Raises InputError where the run's own settings do not reproduce the run's own tables.
    """
    refuse_other_code(advantage, "advantage", advantage.again()["advantage"])
    own = novelty.made["novelty"].select("rollout_id", "novelty")
    if not novelty_of(novelty, {}).equals(own):
        refuse_other_code(novelty, "novelty", novelty.made["novelty"].with_columns(novelty_of(novelty, {})["novelty"]))
    was = advantage.made["advantage"]
    rollouts = rollouts_at_hand(advantage)
    measured: dict[str, pl.DataFrame] = {repr({}): own}
    long, summary = [], []
    for variant in variants:
        key = repr(dict(variant.novelty))
        if key not in measured:
            measured[key] = novelty_of(novelty, variant.novelty)
        made = advantage.again(variant.advantage, advantage.with_table("novelty", measured[key]))["advantage"]
        columns = ("rollout_id", "normalised", "bonus", "advantage")
        long.append(made.select(pl.lit(variant.name).alias("variant"), *columns))
        summary.append({"variant": variant.name, "changes": changes_of(variant), **compared(made, was, rollouts)})
    schema = contracts.CounterfactualVariants.create_empty().schema
    return Advantages(
        contracts.CounterfactualAdvantages.cast(pl.concat(long)), pl.DataFrame(summary, schema=schema, strict=False)
    )


def rollouts_at_hand(advantage: Finished) -> pl.DataFrame:
    """(rollout_id, group_id, length) of all rollouts that an advantage can belong to."""
    tables = [advantage.inputs[role] for role in ("generate", "regenerate", "previous_generate")]
    return pl.concat([t.select("rollout_id", "group_id", length=pl.col("response_tokens").list.len()) for t in tables])


def compared(made: pl.DataFrame, was: pl.DataFrame, rollouts: pl.DataFrame) -> dict[str, Any]:
    """A variant's row: counts, bonus share as `summarize` takes it, and the comparison with the run.

    A rollout that only one of the two holds has advantage 0 in the other: it does not push there. A group has a signal
    when one of its rollouts has an advantage; groups are those of the prompts, whatever was normalised together.
    """
    pairs = (
        was.select("rollout_id", was="advantage")
        .join(made.select("rollout_id", now="advantage"), on="rollout_id", how="full", coalesce=True)
        .fill_null(0.0)
        .join(rollouts.select("rollout_id", "group_id"), on="rollout_id", how="left")
    )
    signal = pairs.group_by("group_id").agg((pl.col("was", "now") != 0).any())
    own = made.filter(~pl.col("carried")).join(rollouts, on="rollout_id", how="left", maintain_order="left")
    parts = {name: own[name].to_numpy().astype(np.float64) for name in ("bonus", "normalised")}
    return {
        "rollouts": len(made),
        "with_signal": int((made["advantage"] != 0).sum()),
        "bonus_share": bonus_share(parts["bonus"], parts["normalised"], own["length"].to_numpy().astype(np.int64)),
        "rank_correlation": rank_correlation(pairs["was"], pairs["now"]),
        "sign_changed": float((pairs["was"].sign() != pairs["now"].sign()).mean() or 0.0),  # type: ignore[arg-type]
        "groups": len(signal),
        "groups_gained": int((signal["now"] & ~signal["was"]).sum()),
        "groups_lost": int((signal["was"] & ~signal["now"]).sum()),
    }


def rank_correlation(first: pl.Series, second: pl.Series) -> float | None:
    """Spearman's: the correlation of ranks, ties at their mean rank. None where one of the two is constant."""
    if first.n_unique() < 2 or second.n_unique() < 2:
        return None
    pair = pl.DataFrame({"first": first, "second": second})
    return float(pair.select(pl.corr("first", "second", method="spearman")).item())


def changes_of(variant: Variant) -> str:
    """JSON of what it changes, by section."""
    return json.dumps({"novelty": dict(variant.novelty), "advantage": dict(variant.advantage)}, sort_keys=True)
