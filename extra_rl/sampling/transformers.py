"""The default sampler: a transformers model, by the fastest path that gives the model's own numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from extra_rl.config.sections import SamplingConfig
from extra_rl.models.measure import Path, Scored, Sequences
from extra_rl.models.probe import Probe, known_head, probe_of
from extra_rl.sampling.base import Advance, Request, Sample, Sampler, no_progress
from extra_rl.sampling.decode import FastDecoder
from extra_rl.sampling.plain import PlainDecoder
from extra_rl.sampling.text import StopStrings
from extra_rl.scoring.layout import chosen

if TYPE_CHECKING:
    from extra_rl.models.protocol import CausalLM

PROBE_ROWS = 3
"""Rows of the probe's batch: fewer than its requests, so that one replaces another that has ended."""
FAST, PLAIN, UNPADDED = "in-place cache", "generate", "generate, rows of one length"


class TransformersSampler:
    """Samples from a causal language model of transformers, on its device.

    The fast path is compared with the model's own forward pass first, then `generate` of the library (`models.probe`).
    Raises ModelError where neither gives the model's own numbers. stops: of the model's tokenizer; needed for
    `config.stop`.
    """

    def __init__(self, model: CausalLM, eos_token_ids: Sequence[int], stops: StopStrings | None = None) -> None:
        name = sampling_path(model)
        self._decoder = _decoder(name, model.eval(), eos_token_ids, stops)

    def sample(
        self, requests: Sequence[Request], config: SamplingConfig, advance: Advance = no_progress
    ) -> list[Sample]:
        """Return one sample per request, in the order given (see `Sampler`)."""
        return self._decoder.sample(requests, config, advance)


def sampling_path(model: CausalLM) -> str:
    """Return the name of the path that samples from this model, measured at the first call; ModelError for no path."""
    paths = [
        Path(FAST, "fast", partial(_sampled, FAST, model)),
        Path(PLAIN, "plain", partial(_sampled, PLAIN, model)),
        Path(UNPADDED, "plain", partial(_sampled, UNPADDED, model)),
    ]
    return probe_of(model).first_that_holds("sampling", model, paths)


def probe(model: CausalLM, *, tokens: int | None = None) -> Probe:
    """Measure a loaded model: every path of sampling and scoring that a run would use, against its own forward pass.

    tokens: length of the longest probe sequence, to reach a window that is longer than each load can afford; None: as
    at each load. Raises ModelError where no path gives the model's numbers (`probe_of(model)` has the measurements even
    then), NumericalError where the model's own logits are not finite.
    """
    found = probe_of(model, tokens)
    sampling_path(model)
    chosen("auto", model)
    return found


def _decoder(name: str, model: CausalLM, eos_token_ids: Sequence[int], stops: StopStrings | None = None) -> Sampler:
    if name != FAST:
        return PlainDecoder(model, eos_token_ids, padding=name == PLAIN, stops=stops)
    return FastDecoder(model, known_head(model), eos_token_ids, stops)


def _sampled(name: str, model: CausalLM, sequences: Sequences) -> list[Scored]:
    """Sample from the sequences' prompts as many tokens as their responses have, with the sampler's logprobs."""
    requests = [Request(prompt, len(response), seed) for seed, (prompt, response) in enumerate(sequences)]
    config = SamplingConfig(batch_rows=min(PROBE_ROWS, len(requests) - 1))
    samples = _decoder(name, model, ()).sample(requests, config, no_progress)
    return [Scored(r.context, s.tokens, s.logprobs, None) for r, s in zip(requests, samples, strict=True)]
