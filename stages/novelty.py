"""Measures how novel each rollout is among its siblings and the remembered rollouts of earlier iterations.

READS   generate, regenerate, their verdicts and token scores, initial (the embedder), previous_novelty_memory
WRITES  novelty (raw bonus, nearest neighbour, unit embedding), novelty_memory (the last rollouts of each problem)
SOURCE  novelty reward (docs/method.md 2). Weight, centring, scale and placement belong to `advantage`, so a change of
        weight computes no embeddings again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from extra_rl.config.mistakes import nearest
from extra_rl.config.section import StageConfig, mistakes
from extra_rl.config.sections import ComputeConfig
from extra_rl.devices.acquire import acquire
from extra_rl.novelty import MEASURES, embedder_of
from extra_rl.run.stage import Context, Inputs, PolicyDirectory, Stage
from extra_rl.tables import contracts
from extra_rl.tables.iteration import all_rollouts
from extra_rl.tables.pool import pool_of


class Config(StageConfig):
    """The novelty measure, the part of a response that it compares, and how many rollouts are remembered."""

    compute: ComputeConfig = Field(description="shared section `compute`")
    measure: str = Field("zero", description=f"one of {', '.join(MEASURES)}")
    params: dict[str, Any] = Field({}, description="settings of the measure, for example pool, aggregate")
    sentence_model: str = Field("all-MiniLM-L6-v2", description="for `sentence`: name on the hub, or local directory")
    sentence_tokens: int | None = Field(
        None, ge=1, description="maximum word pieces that the sentence model reads; null: its limit (MiniLM: 256)"
    )
    tail_tokens: int = Field(512, ge=1, description="number of tokens at the end of a response that are compared")
    remember: int = Field(0, ge=0, description="rollouts remembered per problem; the released code: 6")

    @field_validator("measure")
    @classmethod
    def is_known(cls, measure: str) -> str:
        if measure not in MEASURES:
            known = ", ".join(MEASURES)
            raise ValueError(f"unknown measure {measure!r}; there are {known}{nearest(measure, MEASURES)}")
        return measure

    @field_validator("params")
    @classmethod
    def fit_the_measure(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        measure = info.data.get("measure")
        if measure is None:  # an unknown one
            return given
        params = MEASURES[measure].Params
        try:
            params.model_validate(given)
        except ValidationError as error:
            lines = "; ".join(mistakes(error, params, "params"))
            raise ValueError(f"measure {measure!r}: {lines}") from None
        return given

    def embedder(self) -> str:
        """The embedder, `sentence` or `policy`: that of the measure or of a random control's reference; "" for none."""
        return embedder_of(self.measure, self.params)


STAGE = Stage(
    name="novelty",
    version=1,
    reads={
        "generate": contracts.Rollouts,
        "regenerate": contracts.Rollouts,
        "verify_generate": contracts.Verdicts,
        "verify_regenerate": contracts.Verdicts,
        "score_entropy_generate": contracts.TokenScores,
        "score_entropy_regenerate": contracts.TokenScores,
        "initial": PolicyDirectory,
        "previous_novelty_memory?": contracts.NoveltyMemory,
    },
    writes={"novelty": contracts.Novelty, "novelty_memory": contracts.NoveltyMemory},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Raw novelty of every rollout of the iteration, correct or not, in the order of the rollouts."""
    rollouts = all_rollouts(inputs)
    memory = inputs["previous_novelty_memory"]
    if rollouts.is_empty():
        return {"novelty": contracts.Novelty.create_empty(), "novelty_memory": memory}
    tails = [np.array(tokens[-config.tail_tokens :]) for tokens in rollouts["response_tokens"]]
    embeddings = embed(rollouts, tails, config, inputs)
    pool, names = pool_of(rollouts, memory, config.tail_tokens, embeddings)
    measure = MEASURES[config.measure]
    result = measure.measure(pool, measure.Params.model_validate(config.params), context.seed())
    vectors = None if embeddings is None else embeddings.tolist()
    novelty = pl.DataFrame(
        {
            "rollout_id": rollouts["rollout_id"],
            "novelty": result.novelty_N,
            "nearest_rollout_id": [names[i] if i >= 0 else None for i in result.nearest_N.tolist()],
            "embedding": vectors,
        },
        schema_overrides={"nearest_rollout_id": pl.String, "embedding": pl.List(pl.Float32)},
    )
    fresh = pl.DataFrame(
        {
            "rollout_id": rollouts["rollout_id"],
            "problem_id": rollouts["problem_id"],
            "iteration": context.job.iteration,
            "tokens": [tail.tolist() for tail in tails],
            "embedding": vectors,
        },
        schema_overrides={"embedding": pl.List(pl.Float32)},
    )
    return {
        "novelty": contracts.Novelty.cast(novelty),
        "novelty_memory": remember(memory, contracts.NoveltyMemory.cast(fresh), config.remember),
    }


def embed(rollouts: pl.DataFrame, tails: list[np.ndarray], config: Config, inputs: Inputs) -> np.ndarray | None:
    """Unit embeddings (N, D) of the tails; None where the measure needs none.

    Args:
        rollouts: of the iteration (N).
        tails: the last response tokens of each rollout.
        config: selects the embedder.
        inputs: contain the initial policy.
    """
    embedder = config.embedder()
    if not embedder:
        return None
    from extra_rl.models.embedding import policy_hidden_states, sentence_embeddings
    from extra_rl.models.policy import load_policy_model, load_tokenizer, resolve

    device = acquire(config.compute)
    initial = inputs.policy("initial")
    tokens = [tail.tolist() for tail in tails]
    if embedder == "policy":
        return policy_hidden_states(load_policy_model(initial, device=device), tokens, max_tokens=config.tail_tokens)
    texts = load_tokenizer(resolve(initial)).batch_decode(tokens, skip_special_tokens=True)
    return sentence_embeddings(
        texts,
        config.sentence_model,
        max_tokens=config.sentence_tokens,
        device=device,
        threads=config.compute.threads,
    )


def remember(memory: pl.DataFrame, fresh: pl.DataFrame, limit: int) -> pl.DataFrame:
    """The last `limit` rollouts of each problem, the oldest first."""
    if limit == 0:
        return contracts.NoveltyMemory.create_empty()
    return pl.concat([memory, fresh]).group_by("problem_id", maintain_order=True).tail(limit).select(memory.columns)
