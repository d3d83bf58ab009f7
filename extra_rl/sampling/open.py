"""Opens the sampler that the configuration names, over a policy on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    """The sampler, and a function that turns token ids into text without special tokens, until the end of the block.

    policy: the manifest of a run's policy, or a directory of a transformers model that has none. Its weights are put on
    the device and into the precision of `compute`. longest: the most tokens that a context and its response may have
    together, where that is known; an engine need not be larger.
    """
    device = compute.apply(config.engine.tensor_parallel if config.backend == "vllm" else 1)

    def read() -> Policy:
        from extra_rl.policy import load_policy

        where = {"device": device, "precision": compute.precision}
        return _read_directory(policy, where) if policy.is_dir() else load_policy(policy, **where)

    if config.backend == "vllm":
        from extra_rl.policy import load_tokenizer, read_manifest, resolve
        from extra_rl.sampling.vllm.open import open_engine

        directory = policy if policy.is_dir() else resolve(policy)
        digest = None if policy.is_dir() else read_manifest(policy)["digest"]
        with open_engine(directory, digest, read, config, compute, device, longest) as engine:
            yield engine, _decoder(load_tokenizer(directory))
        return
    from extra_rl.sampling.transformers import TransformersSampler

    loaded = read()
    yield TransformersSampler(loaded.model, loaded.eos_token_ids), _decoder(loaded.tokenizer)


def open_decoder(directory: Path) -> Decode:
    """The second half of `open_sampler`, for samples that are there already: no weights are read."""
    from extra_rl.policy import load_tokenizer

    return _decoder(load_tokenizer(directory))


def _read_directory(directory: Path, where: dict[str, str]) -> Policy:
    from extra_rl.models.checks import require_vocabulary
    from extra_rl.policy import Policy, eos_token_ids, load_model, load_tokenizer

    model, tokenizer = load_model(directory, **where), load_tokenizer(directory)
    require_vocabulary(str(directory), model, tokenizer)
    return Policy(model, tokenizer, eos_token_ids(model, tokenizer, directory), directory)


def _decoder(tokenizer: Any) -> Decode:
    def decode(tokens: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return texts

    return decode
