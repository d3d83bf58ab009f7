"""Novelty of an iteration's rollouts under any measure, from tables and stored embeddings: no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from extra_rl.novelty import MEASURES
from extra_rl.novelty.pool import pool_of, stored_embeddings
from extra_rl.tables.iteration import all_rollouts
from research.replay import Finished


def novelty_of(novelty: Finished, changes: Mapping[str, Any]) -> pl.DataFrame:
    """(rollout_id, novelty) of every rollout under a changed section of the stage `novelty`.

    Embeddings are those that the run stored; ContractError where the measure needs some and there are none. Only the
    stage's measure, params and tail can change: what is remembered is what the run remembered.
    """
    config = novelty.config(changes)
    rows = all_rollouts(novelty.inputs)
    if rows.is_empty():
        return pl.DataFrame(schema={"rollout_id": pl.String, "novelty": pl.Float32})
    stored = novelty.made["novelty"].select("rollout_id", "embedding")
    rows = rows.join(stored, on="rollout_id", how="left", maintain_order="left")
    measure = MEASURES[config.measure]
    memory = novelty.inputs["previous_novelty_memory"]
    pool, _ = pool_of(rows, memory, config.tail_tokens, stored_embeddings(rows))
    result = measure.measure(pool, measure.Params.model_validate(config.params), novelty.seed())
    return pl.DataFrame({"rollout_id": rows["rollout_id"], "novelty": result.novelty_N.astype(np.float32)})
