"""Input, settings and result of every novelty measure.

Axes: N rollouts of the batch, M remembered earlier rollouts, D embedding dimensions, T response tokens. Row numbers
count the rollouts of the batch first, then the remembered ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from extra_rl.errors import ContractError

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]
Siblings = Literal["all", "correct"]

UNIT_NORM_TOLERANCE = 1e-3  # embeddings may have been stored in half precision


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The rollouts of a batch and the remembered rollouts of earlier iterations.

    rollout_ids_N: unique names. Only random choices depend on them, so the order of rows has no effect.
    groups_N: label of the group that a rollout is compared within (its prompt).
    correct_N: whether the verdict is correct.
    tokens_N: the response token ids that are compared; the caller has already taken the tail.
    logprobs_N: the policy's log-probability of each of these tokens, in nats.
    embeddings_ND: rows of norm 1, or 0 for an empty response; None where the measure needs none.
    memory_groups_M, memory_tokens_M, memory_embeddings_MD: the same of remembered rollouts.

    Raises ContractError where lengths disagree or an id repeats.
    """

    rollout_ids_N: Sequence[str]
    groups_N: IntArray
    correct_N: BoolArray
    tokens_N: Sequence[IntArray]
    logprobs_N: Sequence[FloatArray]
    embeddings_ND: NDArray[np.float32] | None = None
    memory_groups_M: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    memory_tokens_M: Sequence[IntArray] = ()
    memory_embeddings_MD: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name in ("rollout_ids_N", "correct_N", "tokens_N", "logprobs_N", "embeddings_ND"):
            _require_rows(name, getattr(self, name), len(self.groups_N))
        for name in ("memory_tokens_M", "memory_embeddings_MD"):
            _require_rows(name, getattr(self, name), len(self.memory_groups_M))
        if len(set(self.rollout_ids_N)) != len(self.rollout_ids_N):
            raise ContractError("rollout_ids_N repeats an id: give each rollout of the batch once.")
        for name, tokens_T, logprobs_T in zip(self.rollout_ids_N, self.tokens_N, self.logprobs_N, strict=True):
            if len(tokens_T) != len(logprobs_T):
                raise ContractError(
                    f"Rollout {name} has {len(tokens_T)} tokens and {len(logprobs_T)} log-probabilities: "
                    "take the same tail of both."
                )

    def all_tokens(self) -> list[IntArray]:
        """Response token ids by row number."""
        return [*self.tokens_N, *self.memory_tokens_M]

    def all_embeddings(self) -> NDArray[np.float64]:
        """Embeddings by row number, (N + M, D), in float64, so that cosines are not rounded again.

        Raises ContractError where embeddings are missing, not finite, or have a norm other than 1 and 0.
        """
        if self.embeddings_ND is None:
            raise ContractError("This novelty measure compares embeddings and the pool has none: compute them first.")
        rows = [self.embeddings_ND]
        if len(self.memory_groups_M):
            if self.memory_embeddings_MD is None:
                raise ContractError("Remembered rollouts have no embeddings: store them with the memory.")
            rows.append(self.memory_embeddings_MD)
        embeddings = np.concatenate(rows).astype(np.float64)
        norms = np.linalg.norm(embeddings, axis=1)
        if not np.all((np.abs(norms - 1) <= UNIT_NORM_TOLERANCE) | (norms == 0)):
            raise ContractError("An embedding has a norm other than 1 and 0: normalise the rows first.")
        return embeddings


@dataclass(frozen=True)
class Result:
    """The novelty of each rollout, correct or not; the stage `advantage` rewards correct ones only.

    novelty_N: float64, finite, >= 0.
    nearest_N: row number of the most similar rollout in the comparison set; -1 where there is none.
    """

    novelty_N: NDArray[np.float64]
    nearest_N: NDArray[np.int64]


class MeasureParams(BaseModel):
    """Base class of the settings of a measure: frozen, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SiblingParams(MeasureParams):
    """Settings of a measure that compares a rollout with others. Source: F."""

    pool: Siblings = Field(
        default="all",
        description="Siblings that a rollout is compared with: all, or the correct ones only. Remembered rollouts "
        "count in both cases.",
    )


class SimilarityParams(SiblingParams):
    """Settings of a measure that is 1 minus a pairwise similarity. Source: F."""

    aggregate: Literal["nearest", "mean"] = Field(
        default="nearest",
        description="Subtract from 1 the similarity to the nearest rollout, or the mean similarity.",
    )


class Measure(Protocol):
    """The interface of a measure's module.

    NEEDS_EMBEDDINGS: whether the pool must contain embeddings. Params: the class of its settings.
    """

    @property
    def NEEDS_EMBEDDINGS(self) -> bool: ...

    @property
    def Params(self) -> type[MeasureParams]: ...

    def measure(self, pool: Pool, params: Any, seed: int) -> Result:
        """Novelty of every rollout of the pool; the same pool, params and seed give the same result."""


def _require_rows(name: str, values: Any, rows: int) -> None:
    """Raise ContractError unless a column is None or has this number of rows."""
    if values is not None and len(values) != rows:
        raise ContractError(f"{name} has {len(values)} rows where the groups have {rows}: give one for each.")
