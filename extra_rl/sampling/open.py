"""Opens the sampler that the configuration names, over a policy on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from extra_rl.sampling.base import Sampler
from extra_rl.sections import SamplingConfig

Decode = Callable[[Sequence[Sequence[int]]], list[str]]


def open_sampler(policy: Path, config: SamplingConfig) -> tuple[Sampler, Decode]:
    """The sampler, and a function that turns token ids into text without special tokens."""
    from extra_rl.policy import load_policy
    from extra_rl.sampling.transformers import TransformersSampler

    loaded = load_policy(policy)

    def decode(tokens: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return texts

    return TransformersSampler(loaded.model, loaded.eos_token_ids), decode
