"""Opens the sampler that the configuration names, over a policy on disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.sampling.base import Sampler
from extra_rl.sections import ComputeConfig, SamplingConfig

if TYPE_CHECKING:
    from extra_rl.policy import Policy

Decode = Callable[[Sequence[Sequence[int]]], list[str]]


@contextmanager
def open_sampler(
    policy: Path, config: SamplingConfig, compute: ComputeConfig, longest: int | None = None
) -> Iterator[tuple[Sampler, Decode]]:
    """The sampler, and a function that turns token ids into the text that is judged, until the end of the block.

    policy: the manifest of a run's policy, or a directory of a transformers model that has none. Its weights are put on
    the device and into the precision of `compute`. longest: the most tokens that a context and its response may have
    together, where that is known; an engine need not be larger.
    """
    device = compute.apply(config.engine.tensor_parallel if config.backend == "vllm" else 1)

    def read() -> Policy:
        from extra_rl.policy import load_directory, load_policy

        load = load_directory if policy.is_dir() else load_policy
        return load(policy, device=device, precision=compute.precision)

    if config.backend == "vllm":
        from extra_rl.policy import read_manifest, resolve
        from extra_rl.sampling.vllm.open import open_engine

        directory = policy if policy.is_dir() else resolve(policy)
        digest = None if policy.is_dir() else read_manifest(policy)["digest"]
        with open_engine(directory, digest, read, config, compute, device, longest) as engine:
            yield engine, open_decoder(directory)
        return
    from extra_rl.sampling.transformers import TransformersSampler

    loaded = read()
    yield TransformersSampler(loaded.model, loaded.eos_token_ids), _decoder(loaded.tokenizer, loaded.eos_token_ids)


def open_decoder(directory: Path) -> Decode:
    """The second half of `open_sampler`, for samples that are there already: no weights are read."""
    from extra_rl.models.turns import known_end_ids
    from extra_rl.policy import load_tokenizer

    tokenizer = load_tokenizer(directory)
    return _decoder(tokenizer, known_end_ids(tokenizer, directory))


def _decoder(tokenizer: Any, ends: Collection[int] | None = None) -> Decode:
    """Return a function that turns the token ids of responses into the texts that are judged.

    A text reaches to the first token that ends a response, exclusive: what a model invents after its turn is no part
    of its answer. Padding and beginning-of-sequence tokens at its borders are left out. Special tokens within it stay
    visible, because they can carry meaning (`<think>`) and a judge must not accept what it cannot see.

    ends: ids that end a response; None for those that the tokenizer and its chat template name.
    """
    from extra_rl.models.turns import known_end_ids

    stop = frozenset(known_end_ids(tokenizer) if ends is None else ends)
    margin = frozenset((tokenizer.pad_token_id, tokenizer.bos_token_id))

    def decode(tokens: Sequence[Sequence[int]]) -> list[str]:
        shown = [_without_margin(_until(ids, stop), margin) for ids in tokens]
        # The library takes an empty batch for one empty sequence.
        texts: list[str] = tokenizer.batch_decode(shown, skip_special_tokens=False) if shown else []
        return texts

    return decode


def _until(ids: Sequence[int], stop: Collection[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in stop), len(ids))
    return list(ids[:end])


def _without_margin(ids: list[int], margin: Collection[int | None]) -> list[int]:
    inner = [place for place, token in enumerate(ids) if token not in margin]
    return ids[inner[0] : inner[-1] + 1] if inner else []
