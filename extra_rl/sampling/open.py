"""Opens the sampler that the configuration names, over a policy on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.devices.acquire import acquire
from extra_rl.sampling.base import Sampler
from extra_rl.sampling.text import Decode, StopStrings
from extra_rl.sampling.text import response_decoder as _decoder

if TYPE_CHECKING:
    from extra_rl.models.policy import Policy


@contextmanager
def open_sampler(
    policy: Path, config: SamplingConfig, compute: ComputeConfig, longest: int | None = None
) -> Iterator[tuple[Sampler, Decode]]:
    """The sampler, and a function that turns token ids into the text that is judged, until the end of the block.

    Raises ConfigError for a stop string that the policy's tokens cannot produce.

    Args:
        policy: manifest of a run's policy, or a directory of a transformers model.
        config: the section `sampling`.
        compute: device and precision of the weights.
        longest: largest number of tokens of a context and its response together, which sizes an engine; None: unknown.
    """
    device = acquire(compute, config.engine.tensor_parallel if config.backend == "vllm" else 1)

    def read() -> Policy:
        from extra_rl.models.policy import load_directory, load_policy

        load = load_directory if policy.is_dir() else load_policy
        return load(policy, device=device, precision=compute.precision)

    if config.backend == "vllm":
        from extra_rl.models.policy import read_manifest, resolve
        from extra_rl.sampling.vllm.open import open_engine

        directory = policy if policy.is_dir() else resolve(policy)
        digest = None if policy.is_dir() else read_manifest(policy)["digest"]
        stops = _stops(directory, config)
        with open_engine(directory, digest, read, config, compute, device, longest, stops) as engine:
            yield engine, open_decoder(directory, config.stop)
        return
    from extra_rl.sampling.transformers import TransformersSampler

    loaded = read()
    ends = loaded.eos_token_ids
    stops = StopStrings(loaded.tokenizer, ends)
    stops.rule(config.stop)
    yield TransformersSampler(loaded.model, ends, stops), _decoder(loaded.tokenizer, ends, config.stop)


def open_decoder(directory: Path, stop: Sequence[str] = ()) -> Decode:
    """Return the function that `open_sampler` yields second, without reading weights: for existing samples."""
    return _decoder(*_tokenizer(directory), stop)


def _stops(directory: Path, config: SamplingConfig) -> StopStrings:
    stops = StopStrings(*_tokenizer(directory))
    stops.rule(config.stop)  # raises before an engine is started
    return stops


def _tokenizer(directory: Path) -> tuple[Any, tuple[int, ...]]:
    """The tokenizer of a policy, and the ids that end a response."""
    from extra_rl.models.policy import load_tokenizer
    from extra_rl.models.turns import known_end_ids

    tokenizer = load_tokenizer(directory)
    return tokenizer, known_end_ids(tokenizer, directory)
