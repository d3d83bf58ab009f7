"""Samples on disk, found again by who made them and how: `<cache>/<policy digest>/<settings digest>/part-*.parquet`.

A sample is a pure function of policy, sampling settings, prompt and seed, so it never has to be drawn twice. Verdicts
are not kept here: judging is cheap and its policy is configuration. Source: our decision (docs/evaluation.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from extra_rl.errors import InputError
from extra_rl.sampling.base import FinishReason
from extra_rl.tables import contracts
from extra_rl.tables.files import canonical_json, read_table, write_table, write_whole

VERSION = 2
"""Raised when the same settings give other samples (another way to seed, another sampler loop): old parts are left."""

SHORT = 16
"""Hex digits of a digest that name a folder; settings.json holds the whole digests, which must agree."""

SCHEMA = contracts.CachedSamples.create_empty().schema

Key = tuple[str, int]
"""Key of a problem (`problem_key`), and index of the sample."""


class Cached(NamedTuple):
    """What is kept of a sample: token ids (int32), end-of-sequence included, and why it ended."""

    tokens: npt.NDArray[np.int32]
    finish_reason: FinishReason


@dataclass(frozen=True)
class SampleStore:
    """The samples of one policy under one set of settings, in one folder."""

    folder: Path

    @classmethod
    def open(cls, cache: Path, policy_digest: str, settings: Mapping[str, Any]) -> SampleStore:
        """The store below `cache`; its settings.json is written when it is new.

        InputError when the folder holds the samples of another policy or of other settings.
        """
        identity = {"policy": policy_digest, "settings": dict(settings), "version": VERSION}
        name = hashlib.sha256(canonical_json({"settings": dict(settings), "version": VERSION}).encode()).hexdigest()
        path = cache / policy_digest[:SHORT] / name[:SHORT] / "settings.json"
        text = json.dumps(identity, indent=1, sort_keys=True) + "\n"
        if not path.is_file():
            write_whole(path, lambda tmp: tmp.write_text(text))
        elif path.read_text() != text:
            raise InputError(f"{path}: these samples have other settings than they should. Delete {path.parent}.")
        return cls(path.parent)

    def read(self) -> dict[Key, Cached]:
        """All samples of the folder. InputError or ContractError names a part that is damaged and may be deleted."""
        found: dict[Key, Cached] = {}
        for path in sorted(self.folder.glob("part-*.parquet")):
            part = read_table(path, contracts.CachedSamples)
            ends = part["response_tokens"].list.len().cum_sum().to_numpy()[:-1]
            tokens = np.split(part["response_tokens"].explode(empty_as_null=False).to_numpy(), ends)
            keys = zip(part["problem_key"].to_list(), part["sample_index"].to_list(), strict=True)
            for key, ids, finish_reason in zip(keys, tokens, part["finish_reason"].to_list(), strict=True):
                found.setdefault(key, Cached(ids, finish_reason))
        return found

    def add(self, samples: Mapping[Key, Cached]) -> Path:
        """Writes one part, whole or not at all; its name follows from what is in it, so two writers never collide."""
        frame = pl.DataFrame(
            {
                "problem_key": [key for key, _ in samples],
                "sample_index": [index for _, index in samples],
                "response_tokens": [sample.tokens for sample in samples.values()],
                "finish_reason": [sample.finish_reason for sample in samples.values()],
            },
            schema=SCHEMA,
        )
        name = hashlib.sha256(canonical_json([list(key) for key in samples]).encode()).hexdigest()
        path = self.folder / f"part-{name[:SHORT]}.parquet"
        write_table(frame, path, contracts.CachedSamples, {})
        return path


def problem_key(problem_id: str, prompt_tokens: Iterable[int]) -> str:
    """SHA-256 over a problem's id (which is part of its seeds) and its prompt as the model reads it."""
    return hashlib.sha256(canonical_json([problem_id, list(prompt_tokens)]).encode()).hexdigest()
