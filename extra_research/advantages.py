"""Advantages of a finished iteration under other settings, and how they differ from the run's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from extra_research import contracts
from extra_research.finished import FinishedStage
from extra_research.variants import AS_IT_WAS, WITH_A_RANDOM_CONTROL, Variant, random_params
from extra_rl.algorithms.advantage import bonus_share
from extra_rl.novelty import MEASURES
from extra_rl.run.stage import Inputs
from extra_rl.tables.iteration import all_rollouts
from extra_rl.tables.pool import pool_of, stored_embeddings
from extra_rl.tables.signal import is_replay

WITHOUT_REPLAY = "without replay"
"""The variant of `tables_with_and_without` that equals the run wherever nothing was replayed."""


class Advantages(NamedTuple):
    """long: one row a variant and rollout. variants: one row a variant, in the order given."""

    long: pl.DataFrame
    variants: pl.DataFrame


def advantages_under(variants: Iterable[Variant], advantage: FinishedStage, novelty: FinishedStage) -> Advantages:
    """Run the stage `advantage` again for each variant, with the novelty of the variant's measure.

    Raises InputError where the run's own settings do not reproduce the run's own tables.
    """
    advantage.require_reproduced("advantage", advantage.rerun()["advantage"])
    own = novelty.outputs["novelty"].select("rollout_id", "novelty")
    remeasured = novelty_of(novelty, {})["novelty"]
    novelty.require_reproduced("novelty", novelty.outputs["novelty"].with_columns(remeasured))
    was = advantage.outputs["advantage"]
    rollouts = known_rollouts(advantage)
    measured: dict[str, pl.DataFrame] = {repr({}): own}
    long, summary = [], []
    for variant in variants:
        key = repr(dict(variant.novelty))
        if key not in measured:
            measured[key] = novelty_of(novelty, variant.novelty)
        made = advantage.rerun(variant.advantage, advantage.with_table("novelty", measured[key]))["advantage"]
        columns = ("rollout_id", "normalised", "bonus", "advantage")
        long.append(made.select(pl.lit(variant.name).alias("variant"), *columns))
        summary.append({"variant": variant.name, "changes": changes_of(variant), **compared(made, was, rollouts)})
    schema = contracts.CounterfactualVariants.create_empty().schema
    return Advantages(
        contracts.CounterfactualAdvantages.cast(pl.concat(long)), pl.DataFrame(summary, schema=schema, strict=False)
    )


def known_rollouts(advantage: FinishedStage) -> pl.DataFrame:
    """Return (rollout_id, group_id, length) of all rollouts that an advantage can belong to."""
    tables = [advantage.inputs[role] for role in ("generate", "regenerate", "previous_generate")]
    return pl.concat([t.select("rollout_id", "group_id", length=pl.col("response_tokens").list.len()) for t in tables])


def compared(made: pl.DataFrame, was: pl.DataFrame, rollouts: pl.DataFrame) -> dict[str, Any]:
    """Return a variant's row: counts, bonus share as in `summarize`, and the comparison with the run.

    A rollout that is missing from one of the two tables has advantage 0 there. A group has a signal when one of its
    rollouts has an advantage other than 0; groups are those of the prompts, whatever was normalised together.
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
    """Return Spearman's correlation, ties at their mean rank. None where one of the two is constant."""
    if first.n_unique() < 2 or second.n_unique() < 2:
        return None
    pair = pl.DataFrame({"first": first, "second": second})
    return float(pair.select(pl.corr("first", "second", method="spearman")).item())


def changes_of(variant: Variant) -> str:
    """Return JSON of what a variant changes, by section."""
    return json.dumps({"novelty": dict(variant.novelty), "advantage": dict(variant.advantage)}, sort_keys=True)


def tables_with_and_without(advantage: FinishedStage, novelty: FinishedStage) -> dict[str, pl.DataFrame]:
    """Return variant -> `advantage` table: as it was, without one or more of the mechanisms, and with a random bonus.

    Without: weight 0; no regenerated rollouts; neither of the two; no replays, but continuations of new prefixes. The
    random bonus permutes the run's own values among correct rollouts; it is left out where the run stored no
    embeddings or had no bonus. Raises InputError where the run's own settings do not reproduce its table.
    """
    own = advantage.rerun()["advantage"]
    advantage.require_reproduced("advantage", own)
    fresh = with_rollouts(advantage, pl.col("origin") == "fresh")
    tables = {
        AS_IT_WAS: own,
        "without novelty": advantage.rerun({"weight": 0.0})["advantage"],
        "without regenerated": advantage.rerun({}, fresh)["advantage"],
        "without both": advantage.rerun({"weight": 0.0}, fresh)["advantage"],
        WITHOUT_REPLAY: advantage.rerun({}, with_rollouts(advantage, ~is_replay()))["advantage"],
    }
    embedder = novelty.config().embedder() if novelty.config().measure in WITH_A_RANDOM_CONTROL else ""
    if embedder and novelty.outputs["novelty"]["embedding"].is_not_null().any() and advantage.config().weight:
        params = random_params(novelty.config().params, embedder)
        drawn = novelty_of(novelty, {"measure": "random", "params": params})
        tables["random bonus"] = advantage.rerun({}, advantage.with_table("novelty", drawn))["advantage"]
    return tables


def with_rollouts(advantage: FinishedStage, kept: pl.Expr) -> Inputs:
    """Return the stage's inputs as if the other rollouts had not been sampled.

    Parents complete a group only if their continuations are kept.
    """
    inputs = advantage.inputs
    for role in ("generate", "regenerate"):
        inputs = Inputs({**inputs.tables, role: inputs[role].filter(kept)}, inputs.paths, inputs.contracts)
    return inputs


def has_replays(advantage: FinishedStage) -> bool:
    """Return whether stored trajectories were replayed in this iteration."""
    return any(advantage.inputs[role].select(is_replay().any()).item() for role in ("generate", "regenerate"))


def novelty_of(novelty: FinishedStage, changes: Mapping[str, Any]) -> pl.DataFrame:
    """Return (rollout_id, novelty) of every rollout under a changed section of the stage `novelty`.

    No model is loaded: embeddings are those that the run stored; ContractError where the measure needs them and they
    are missing. Only the stage's measure, params and tail can change: the memory is that of the run.
    """
    config = novelty.config(changes)
    rows = all_rollouts(novelty.inputs)
    if rows.is_empty():
        return rows.select("rollout_id", novelty=pl.lit(0.0, pl.Float32))
    stored = novelty.outputs["novelty"].select("rollout_id", "embedding")
    rows = rows.join(stored, on="rollout_id", how="left", maintain_order="left")
    measure = MEASURES[config.measure]
    memory = novelty.inputs["previous_novelty_memory"]
    pool, _ = pool_of(rows, memory, config.tail_tokens, stored_embeddings(rows))
    result = measure.measure(pool, measure.Params.model_validate(config.params), novelty.seed())
    return pl.DataFrame({"rollout_id": rows["rollout_id"], "novelty": result.novelty_N.astype(np.float32)})
