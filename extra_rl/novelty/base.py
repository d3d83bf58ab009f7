"""What every novelty measure sees, is set by, and returns.

Axes: N rollouts of the batch, M remembered earlier rollouts, D embedding, T response tokens. A row number
counts the batch's rollouts first, then the remembered ones.
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
    """The rollouts of a batch and what is remembered of earlier ones.

    rollout_ids_N: stable unique names; only random choices read them, so that the order of rows is free.
    groups_N: label of the comparison group (the rollout's prompt); memory_groups_M uses the same labels.
    correct_N: the verifier's verdict.
    tokens_N: response token ids of each rollout; the caller has already taken the tail to be compared.
    logprobs_N: the policy's log-probability of each of those tokens, nats.
    embeddings_ND, memory_embeddings_MD: rows of norm 1, or 0 for an empty response; None where the measure
    needs none.

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
            raise ContractError("rollout_ids_N repeats an id: name each rollout of the batch once.")
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
        """Embeddings by row number, shape (N + M, D); float64, so that cosines are not rounded again.

        Raises ContractError where embeddings are missing, not finite, or of a norm that is neither 1 nor 0.
        """
        if self.embeddings_ND is None:
            raise ContractError("This novelty measure compares embeddings and the pool has none: embed first.")
        rows = [self.embeddings_ND]
        if len(self.memory_groups_M):
            if self.memory_embeddings_MD is None:
                raise ContractError("Remembered rollouts lack embeddings: store them with the memory.")
            rows.append(self.memory_embeddings_MD)
        embeddings = np.concatenate(rows).astype(np.float64)
        norms = np.linalg.norm(embeddings, axis=1)
        if not np.all((np.abs(norms - 1) <= UNIT_NORM_TOLERANCE) | (norms == 0)):
            raise ContractError("An embedding's norm is neither 1 nor 0: normalise rows before comparing.")
        return embeddings


@dataclass(frozen=True)
class Result:
    """What a measure says of each rollout, right or wrong; the advantage stage rewards correct ones only.

    novelty_N: float64, finite, >= 0.
    nearest_N: row number of the most similar rollout that it was compared with; -1 where there is none.
    """

    novelty_N: NDArray[np.float64]
    nearest_N: NDArray[np.int64]


class MeasureParams(BaseModel):
    """Base of every measure's settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SiblingParams(MeasureParams):
    """Settings of a measure that compares a rollout with others (F)."""

    pool: Siblings = Field(
        default="all",
        description="Which siblings a rollout is compared with: all, or the correct ones only. "
        "Remembered rollouts count in either case.",
    )


class SimilarityParams(SiblingParams):
    """Settings of a measure that is 1 minus a pairwise similarity (F)."""

    aggregate: Literal["nearest", "mean"] = Field(
        default="nearest",
        description="Subtract from 1 the similarity to the nearest rollout compared with, or the mean one.",
    )


class Measure(Protocol):
    """What a measure's file offers, as a module.

    NEEDS_EMBEDDINGS: whether the pool has to carry embeddings. Params: the class of its settings.
    """

    @property
    def NEEDS_EMBEDDINGS(self) -> bool: ...

    @property
    def Params(self) -> type[MeasureParams]: ...

    def measure(self, pool: Pool, params: Any, seed: int) -> Result:
        """Novelty of every rollout of the pool; the same pool, params and seed give the same result."""


def _require_rows(name: str, values: Any, rows: int) -> None:
    if values is not None and len(values) != rows:
        raise ContractError(f"{name} has {len(values)} rows where the groups have {rows}: give one for each.")
