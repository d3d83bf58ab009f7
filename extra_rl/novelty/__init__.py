"""Novelty measures: how much a rollout differs from the other rollouts of its group. Pure functions of arrays, no I/O.

A new measure is one file here with NEEDS_EMBEDDINGS, Params and measure(), and one line below;
tests/novelty/test_laws.py then tests the properties that every measure must have.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from extra_rl.novelty import (
    elliptical,
    embedding_distance,
    lexical,
    ngram_count,
    random_control,
    surprise,
    zero,
)
from extra_rl.novelty.base import Measure, Pool, Result

MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "zero": zero,
        "sentence": embedding_distance,
        "policy": embedding_distance,
        "lexical": lexical,
        "ngram_count": ngram_count,
        "surprise": surprise,
        "elliptical": elliptical,
        "random": random_control,
    }
)


def embedder_of(measure: str, params: Mapping[str, Any]) -> str:
    """The embedder of a measure, `sentence` or `policy`: its own, or that of its `reference`; "" for none."""
    if not MEASURES[measure].NEEDS_EMBEDDINGS:
        return ""
    return str(getattr(MEASURES[measure].Params.model_validate(params), "reference", measure))


__all__ = ["MEASURES", "Measure", "Pool", "Result", "embedder_of"]
