"""An engine of the stage's own, in its process: it ends with the stage."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extra_rl.config.sections import SamplingConfig
from extra_rl.errors import ConfigError, ModelError
from extra_rl.sampling.base import Request, Sample, decoding_order
from extra_rl.sampling.stop import StopRule, StopStrings, stop_rule
from extra_rl.sampling.vllm.arguments import SCORING_PARAMETERS, sampling_parameters


class OwnEngine:
    """vLLM's `LLM` over the model in a folder."""

    def __init__(
        self,
        view: Path,
        arguments: Mapping[str, Any],
        variables: Mapping[str, str],
        device: str,
        eos: Sequence[int],
        stops: StopStrings | None = None,
    ) -> None:
        """Starts the engine. view: the policy as vLLM is to see it. device: cpu or cuda. stops: for `config.stop`.

        ModelError when vLLM cannot run the model, ConfigError when it was built for another device.
        """
        self._eos, self._stops = sorted(eos), stops
        # The engine in this process: seconds to start, not half a minute.
        os.environ |= {**variables, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        quiet = warnings.catch_warnings(action="ignore", category=FutureWarning)  # of its imports
        with quiet, _threads_kept():
            from vllm import LLM
            from vllm.platforms import current_platform

            if current_platform.device_type != device:
                raise ConfigError(
                    f"compute.device is {device}, but the vLLM that is installed is built for "
                    f"{current_platform.device_type or 'no device of this machine'}. Install the other build "
                    "(docs/vllm.md), or use sampling.backend: transformers."
                )
            try:
                self._engine: Any = LLM(model=str(view), use_tqdm_on_load=False, **arguments).llm_engine
            except (ValueError, RuntimeError, NotImplementedError) as error:
                raise ModelError(
                    f"{view}: vLLM cannot start with this model: {error}. Where memory is short: "
                    "sampling.engine (docs/vllm.md); else use sampling.backend: transformers."
                ) from error

    def sample(
        self,
        requests: Sequence[Request],
        config: SamplingConfig,
        advance: Callable[[int], object] = lambda n: None,
    ) -> list[Sample]:
        """One sample a request, in the order given (see `Sampler`).

        With stop strings the tokens of every step are looked at here, as the engine has no tokenizer.
        """
        rule = stop_rule(self._stops, config)
        asked = {
            str(i): (requests[i].context, sampling_parameters(requests[i], config, self._eos))
            for i in decoding_order(requests)  # equal contexts together: read once, then cached
        }
        parts: dict[str, _Parts] = {name: _Parts(rule, requests[int(name)].prefix) for name in asked}
        stopped: set[str] = set()
        for outputs in self._run(asked, by_step=rule is not None, stopped=stopped):
            ended = 0
            for output in outputs:
                part = parts[output.request_id]
                if part.over():
                    continue  # of a step that was under way when a stop string ended the response
                part.add(output.outputs[0])
                ended += part.over()
                if part.over() and not output.finished:
                    stopped.add(output.request_id)
            advance(ended)
        return [parts[str(i)].sample() for i in range(len(requests))]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """The engine's logprob (nats, temperature 1) of every token but the first of each sequence."""
        asked = {str(i): (sequence, SCORING_PARAMETERS) for i, sequence in enumerate(sequences)}
        found = {output.request_id: _flat(output.prompt_logprobs) for step in self._run(asked) for output in step}
        return [found[str(i)] for i in range(len(sequences))]

    def _run(
        self,
        asked: Mapping[str, tuple[Sequence[int], Mapping[str, Any]]],
        by_step: bool = False,
        stopped: set[str] | None = None,
    ) -> Iterator[list[Any]]:
        """Outputs after every step: of the requests that ended, or, `by_step`, what each has sampled in it.

        Putting the name of a request into `stopped` ends it; an error in the loop ends what still runs.
        """
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.DELTA if by_step else RequestOutputKind.FINAL_ONLY
        running = {
            name: self._engine.add_request(
                name, tokens_input(list(context)), SamplingParams(**values, flat_logprobs=True, output_kind=kind)
            )
            for name, (context, values) in asked.items()
        }
        try:
            while self._engine.has_unfinished_requests():
                yield self._engine.step()
                if stopped:
                    self._engine.abort_request([running[name] for name in sorted(stopped)], internal=True)
                    stopped.clear()
        finally:
            self._engine.abort_request(list(running.values()), internal=True)


class _Parts:
    """What one request has sampled so far."""

    def __init__(self, rule: StopRule | None, prefix: Sequence[int]) -> None:
        """prefix: tokens of the response that the request has given."""
        self.finish_reason: Any = None
        self._rule, self._prefix = rule, prefix
        self._tokens: list[int] = []
        self._logprobs: list[float] = []

    def over(self) -> bool:
        """Whether it has ended."""
        return self.finish_reason is not None

    def add(self, made: Any) -> None:
        """Takes the new tokens of an output, up to one by which a stop string ends the response."""
        before = len(self._tokens)
        self._tokens += made.token_ids
        self._logprobs += _flat(made.logprobs)
        self.finish_reason = made.finish_reason
        if self._rule is not None:
            end = self._rule.end_of(self._prefix, self._tokens, before)
            if end is not None:
                del self._tokens[end:], self._logprobs[end:]
                self.finish_reason = "stop"

    def sample(self) -> Sample:
        if self.finish_reason not in ("stop", "length"):
            raise ModelError(f"vLLM ended a response for the reason {self.finish_reason!r}: its log says why.")
        return Sample(self._tokens, self._logprobs, self.finish_reason)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Gives torch its `set_num_threads` back: the CPU engine puts a function in its place that does nothing."""
    import torch

    kept = torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = kept


def _flat(logprobs: Any) -> list[float]:
    """The first logprob of every position that has one: the token's own."""
    positions = zip(logprobs.start_indices, logprobs.end_indices, strict=True)
    return [float(logprobs.logprobs[start]) for start, end in positions if end > start]
