"""Novelty of an iteration's rollouts under any measure, from tables and stored embeddings: no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from extra_rl.counterfactual.replay import Finished
from extra_rl.novelty import MEASURES, Pool
from extra_rl.tables.iteration import all_rollouts


def novelty_of(novelty: Finished, changes: Mapping[str, Any]) -> pl.DataFrame:
    """(rollout_id, novelty) of every rollout under a changed section of the stage `novelty`, dropped ones 0.

    Embeddings are those that the run stored; ContractError where the measure needs some and there are none. Only the
    stage's measure, params and tail can change: what is remembered is what the run remembered.
    """
    config = novelty.config(changes)
    everything = all_rollouts(novelty.inputs)
    rows = everything.filter(pl.col("finish_reason") != "dropped")
    names = everything.select("rollout_id")
    if rows.is_empty():
        return names.with_columns(novelty=pl.lit(0.0, pl.Float32))
    stored = novelty.made["novelty"].select("rollout_id", "embedding")
    rows = rows.join(stored, on="rollout_id", how="left", maintain_order="left")
    measure = MEASURES[config.measure]
    pool = pool_of(rows, novelty.inputs["previous_novelty_memory"], config.tail_tokens)
    result = measure.measure(pool, measure.Params.model_validate(config.params), novelty.seed())
    found = pl.DataFrame({"rollout_id": rows["rollout_id"], "novelty": result.novelty_N.astype(np.float32)})
    return names.join(found, on="rollout_id", how="left", maintain_order="left").with_columns(
        pl.col("novelty").fill_null(0.0)
    )


def pool_of(rows: pl.DataFrame, memory: pl.DataFrame, tail_tokens: int) -> Pool:
    """Rollouts (with verdicts, scores, stored embeddings) and what is remembered of their problems, as measures see it.

    As the stage `novelty` compares them: by problem, over the responses' last tokens.
    """
    problems = {name: i for i, name in enumerate(rows["problem_id"].unique(maintain_order=True))}
    known = memory.filter(pl.col("problem_id").is_in(list(problems)))
    return Pool(
        rollout_ids_N=rows["rollout_id"].to_list(),
        groups_N=np.array([problems[name] for name in rows["problem_id"]]),
        correct_N=(rows["verdict"] == "right").to_numpy(),
        tokens_N=[np.array(tokens[-tail_tokens:]) for tokens in rows["response_tokens"]],
        logprobs_N=[np.array(values[-tail_tokens:]) for values in rows["policy_logprobs"]],
        embeddings_ND=embeddings(rows),
        memory_groups_M=np.array([problems[name] for name in known["problem_id"]], np.int64),
        memory_tokens_M=[np.array(tokens) for tokens in known["tokens"]],
        memory_embeddings_MD=embeddings(known),
    )


def embeddings(rows: pl.DataFrame) -> np.ndarray | None:
    """Column `embedding` as an array (N, D); None where there are no rows, or one of them has none."""
    column = rows["embedding"]
    return None if column.is_empty() or column.null_count() else np.array(column.to_list(), np.float32)
