"""The advantages of an iteration with and without each mechanism, on the same rollouts."""

from __future__ import annotations

import polars as pl

from extra_rl.run.stage import Inputs
from research.measures import novelty_of
from research.replay import Finished, refuse_other_code
from research.variants import AS_IT_WAS, random_params


def tables_with_and_without(advantage: Finished, novelty: Finished) -> dict[str, pl.DataFrame]:
    """Variant -> `advantage` table: as it was, weight 0, no regenerated rollouts, neither, and a random bonus.

    The random bonus permutes the run's own values among right rollouts; it is left out where the run stored no
    embeddings or had no bonus. Raises InputError where the run's own settings do not reproduce its table.
    """
    own = advantage.again()["advantage"]
    refuse_other_code(advantage, "advantage", own)
    fresh = without_regenerated(advantage)
    tables = {
        AS_IT_WAS: own,
        "without novelty": advantage.again({"weight": 0.0})["advantage"],
        "without regenerated": advantage.again({}, fresh)["advantage"],
        "without both": advantage.again({"weight": 0.0}, fresh)["advantage"],
    }
    embedder = novelty.config().embedder()
    if embedder and novelty.made["novelty"]["embedding"].is_not_null().any() and advantage.config().weight:
        params = random_params(novelty.config().params, embedder)
        drawn = novelty_of(novelty, {"measure": "random", "params": params})
        tables["random bonus"] = advantage.again({}, advantage.with_table("novelty", drawn))["advantage"]
    return tables


def without_regenerated(advantage: Finished) -> Inputs:
    """The stage's inputs as if nothing had been sampled on from prefixes; parents then complete no group either."""
    inputs = advantage.inputs
    for role in ("generate", "regenerate"):
        only_fresh = inputs[role].filter(pl.col("origin") == "fresh")
        inputs = Inputs({**inputs.tables, role: only_fresh}, inputs.paths, inputs.contracts)
    return inputs
