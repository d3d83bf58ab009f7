"""Cached samples on disk, by policy and settings: `<cache>/<policy digest>/<settings digest>/part-*.parquet`.

A sample is a pure function of policy, sampling settings, prompt and seed, so it is drawn only once. Verdicts are not
cached, because judging is cheap and configurable. Source: our decision (docs/evaluation.md).
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
"""Raise it when the same settings give different samples (seeding, sampler loop): old parts are then ignored."""

SHORT = 16
"""Hex digits of a digest in a folder's name; settings.json contains the full digests."""

Key = tuple[str, int]
"""Key of a problem (`problem_key`), and index of the sample."""


class Cached(NamedTuple):
    """A cached sample: token ids (int32), end-of-sequence included, and its finish reason."""

    tokens: npt.NDArray[np.int32]
    finish_reason: FinishReason


@dataclass(frozen=True)
class SampleStore:
    """The samples of one policy under one set of settings, in one folder."""

    folder: Path

    @classmethod
    def open(cls, cache: Path, policy_digest: str, settings: Mapping[str, Any]) -> SampleStore:
        """Return the store below `cache`, with its settings.json.

        Raises InputError where the folder contains samples of another policy or other settings.
        """
        identity = {"policy": policy_digest, "settings": dict(settings), "version": VERSION}
        name = hashlib.sha256(canonical_json({"settings": dict(settings), "version": VERSION}).encode()).hexdigest()
        path = cache / policy_digest[:SHORT] / name[:SHORT] / "settings.json"
        text = json.dumps(identity, indent=1, sort_keys=True) + "\n"
        if not path.is_file():
            write_whole(path, lambda tmp: tmp.write_text(text))
        elif path.read_text() != text:
            raise InputError(f"{path}: the samples have other settings than their folder. Delete {path.parent}.")
        return cls(path.parent)

    def read(self) -> dict[Key, Cached]:
        """Return all samples. Raises InputError or ContractError for a damaged part, which can be deleted."""
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
        """Write one part atomically. Its name is a digest of its keys, so two writers never collide."""
        frame = pl.DataFrame(
            {
                "problem_key": [key for key, _ in samples],
                "sample_index": [index for _, index in samples],
                "response_tokens": [sample.tokens for sample in samples.values()],
                "finish_reason": [sample.finish_reason for sample in samples.values()],
            },
            schema=contracts.CachedSamples.create_empty().schema,
        )
        name = hashlib.sha256(canonical_json([list(key) for key in samples]).encode()).hexdigest()
        path = self.folder / f"part-{name[:SHORT]}.parquet"
        write_table(frame, path, contracts.CachedSamples, {})
        return path


def problem_key(problem_id: str, prompt_tokens: Iterable[int]) -> str:
    """Return the SHA-256 of a problem's id (on which its seeds depend) and its prompt as the model reads it."""
    return hashlib.sha256(canonical_json([problem_id, list(prompt_tokens)]).encode()).hexdigest()
