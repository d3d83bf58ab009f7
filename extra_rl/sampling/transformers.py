"""The sampler without a server, the offline default: over a transformers model, by the best path that holds for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from extra_rl.config.sections import SamplingConfig
from extra_rl.models.measure import Path, Scored, Sequences
from extra_rl.models.probe import known_head, probe_of
from extra_rl.sampling.base import Request, Sample, Sampler
from extra_rl.sampling.decode import FastDecoder
from extra_rl.sampling.plain import PlainDecoder
from extra_rl.sampling.stop import StopStrings

if TYPE_CHECKING:
    from extra_rl.models.protocol import CausalLM

PROBE_ROWS = 3
"""Rows of the probe's batch: fewer than its requests, so that one takes the place of another that has ended."""
FAST, PLAIN, UNPADDED = "in-place cache", "generate", "generate, rows of one length"


class TransformersSampler:
    """Samples from a causal language model of transformers, on the device where it lies.

    The fast path is held against the model's own forward pass first, then `generate` of the library
    (`models.probe`). Raises ModelError where neither gives the model's own numbers. stops: of the model's tokenizer;
    `config.stop` needs it.
    """

    def __init__(self, model: CausalLM, eos_token_ids: Sequence[int], stops: StopStrings | None = None) -> None:
        name = sampling_path(model)
        self._decoder = _decoder(name, model.eval(), eos_token_ids, stops)

    def sample(
        self,
        requests: Sequence[Request],
        config: SamplingConfig,
        advance: Callable[[int], object] = lambda n: None,
    ) -> list[Sample]:
        """One sample a request, in the order given (see `Sampler`)."""
        return self._decoder.sample(requests, config, advance)


def sampling_path(model: CausalLM) -> str:
    """Name of the path that samples from this model; measured at the first call. ModelError where none holds."""
    paths = [
        Path(FAST, "fast", partial(_sampled, FAST, model)),
        Path(PLAIN, "plain", partial(_sampled, PLAIN, model)),
        Path(UNPADDED, "plain", partial(_sampled, UNPADDED, model)),
    ]
    return probe_of(model).first_that_holds("sampling", model, paths)


def _decoder(name: str, model: CausalLM, eos_token_ids: Sequence[int], stops: StopStrings | None = None) -> Sampler:
    if name != FAST:
        return PlainDecoder(model, eos_token_ids, padding=name == PLAIN, stops=stops)
    return FastDecoder(model, known_head(model), eos_token_ids, stops)


def _sampled(name: str, model: CausalLM, sequences: Sequences) -> list[Scored]:
    """Rollouts of the sequences' prompts, as long as their responses, with the logprobs that the sampler reports."""
    requests = [Request(prompt, len(response), seed) for seed, (prompt, response) in enumerate(sequences)]
    config = SamplingConfig(batch_rows=min(PROBE_ROWS, len(requests) - 1))
    samples = _decoder(name, model, ()).sample(requests, config, lambda n: None)
    return [Scored(r.context, s.tokens, s.logprobs, None) for r, s in zip(requests, samples, strict=True)]
