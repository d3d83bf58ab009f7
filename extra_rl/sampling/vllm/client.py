"""The client of a vLLM server, over its Unix socket and vLLM's own endpoints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from extra_rl.config.sections import SamplingConfig
from extra_rl.errors import ModelError
from extra_rl.sampling.base import Advance, FinishReason, Request, Sample, decoding_order, no_progress
from extra_rl.sampling.text import StopStrings, stop_rule
from extra_rl.sampling.vllm.arguments import SCORING_PARAMETERS, sampling_parameters

GENERATE = "/inference/v1/generate"
NOT_FINITE = -9999.0
"""The server's value for NaN and minus infinity, which JSON does not have."""
LINE_BYTES = 1 << 20
"""Longest line of a streamed answer, which contains one step of one request."""


class ServerClient:
    """The sampler of a server.

    Args:
        socket: Unix socket of the server.
        log: of the server; named in errors.
        version: of the weights that must have sampled every token.
        eos: ids that end a response.
        stops: of the tokenizer; needed for `config.stop`.
    """

    def __init__(
        self, socket: Path, log: Path, version: str = "", eos: Sequence[int] = (), stops: StopStrings | None = None
    ) -> None:
        self._socket, self._log, self._version, self._eos, self._stops = socket, log, version, sorted(eos), stops

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Post a body to an endpoint and return its answer, both JSON; ModelError where the server reports an error."""
        return self._call("POST", path, body)

    def healthy(self) -> bool:
        """Whether the server answers."""
        try:
            self._call("GET", "/health")
        except ModelError:
            return False
        return True

    def sample(
        self, requests: Sequence[Request], config: SamplingConfig, advance: Advance = no_progress
    ) -> list[Sample]:
        """Return one sample per request, in the order given (see `Sampler`).

        Every rollout is a separate HTTP request; a quarter more than the engine decodes together are sent at a time.
        The engine has no tokenizer, so with stop strings each answer is read token by token, and its connection is
        closed at the end of the response: the server drops a request whose client has disconnected.
        """
        rule = stop_rule(self._stops, config)
        streamed = rule is not None
        parts: list[tuple[list[int], list[float]]] = [([], []) for _ in requests]
        samples: dict[int, Sample] = {}

        def take(i: int, choice: Mapping[str, Any]) -> bool:
            """Add an answer, or a part of one; whether a stop string has ended a response that the server continues."""
            tokens, logprobs = parts[i]
            seen = len(tokens)
            reason = self._append(choice, tokens, logprobs)
            end = None if rule is None else rule.end_of(requests[i].prefix, tokens, seen)
            if end is not None:  # a step may have sampled more tokens
                del tokens[end:], logprobs[end:]
                reason = "stop"
            if reason is None:
                return False
            samples[i] = Sample(tokens, logprobs, reason)
            advance(1)
            return choice["finish_reason"] is None

        async def draw(session: Any, i: int) -> None:
            body = {
                "token_ids": list(requests[i].context),
                "sampling_params": sampling_parameters(requests[i], config, self._eos),
                "stream": streamed,
            }
            if not streamed:
                take(i, (await self._posted(session, GENERATE, body))["choices"][0])
                return
            async with session.post(GENERATE, json=body) as answer:
                await self._refuse_error(answer)
                async for line in answer.content:
                    choices = json.loads(line[6:]).get("choices", ()) if line.startswith(b"data: {") else ()
                    if any(take(i, choice) for choice in choices):
                        answer.close()
                        return
            if i not in samples:
                raise ModelError(f"vLLM ended an answer within a response; see its log, {self._log}.")

        order = decoding_order(requests)
        self._run_all([partial(draw, i=i) for i in order], config.batch_rows * 5 // 4 + 1)
        return [samples[i] for i in range(len(requests))]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the engine's logprob (nats, temperature 1) of every token but the first of each sequence."""
        found: dict[int, list[float]] = {}

        async def read(session: Any, i: int) -> None:
            body = {"token_ids": list(sequences[i]), "sampling_params": SCORING_PARAMETERS}
            logprobs = (await self._posted(session, GENERATE, body))["prompt_logprobs"]
            own = zip(sequences[i][1:], logprobs[1:], strict=True)
            found[i] = [_finite(entry[str(token)]["logprob"]) for token, entry in own]

        self._run_all([partial(read, i=i) for i in range(len(sequences))], len(sequences))
        return [found[i] for i in range(len(sequences))]

    def _run_all(self, calls: Sequence[Callable[[Any], Awaitable[None]]], at_once: int) -> None:
        """Run the calls in order, at most `at_once` together; the first failure ends the others."""

        async def run() -> None:
            waiting = iter(calls)

            async def one_after_another(session: Any) -> None:
                for call in waiting:
                    await call(session)

            async with self._session() as session:
                await asyncio.gather(*[one_after_another(session) for _ in range(min(at_once, len(calls)))])

        self._with_server(run())

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        async def call() -> Any:
            async with self._session() as session, session.request(method, path, json=body) as answer:
                await self._refuse_error(answer)
                text = await answer.text()
                return json.loads(text) if text else None

        return self._with_server(call())

    async def _posted(self, session: Any, path: str, body: Mapping[str, Any]) -> Any:
        async with session.post(path, json=body) as answer:
            await self._refuse_error(answer)
            return await answer.json()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        import aiohttp

        connector = aiohttp.UnixConnector(path=str(self._socket), limit=0)
        timeout = aiohttp.ClientTimeout(total=None)  # no limit for a long response; a dead server closes the connection
        async with aiohttp.ClientSession(
            "http://engine", connector=connector, timeout=timeout, read_bufsize=LINE_BYTES
        ) as session:
            yield session

    async def _refuse_error(self, answer: Any) -> None:
        if answer.status != 200:
            text = (await answer.text())[:500]
            raise ModelError(f"the vLLM engine refused {answer.url.path}: {text}; see its log, {self._log}.")

    def _with_server(self, work: Any) -> Any:
        import aiohttp

        try:
            return asyncio.run(work)
        except (aiohttp.ClientError, OSError) as error:
            raise ModelError(
                f"the vLLM engine does not answer ({type(error).__name__}: {error}); see its log, {self._log}. Run the "
                "same command again: it starts another engine, and no finished file is lost."
            ) from None

    def _append(self, choice: Mapping[str, Any], tokens: list[int], logprobs: list[float]) -> FinishReason | None:
        """Append tokens and logprobs of an answer, or of a part of one; return why it ended, None if it has not.

        Raises ModelError where other weights have sampled it.
        """
        reason: FinishReason | None = choice["finish_reason"]
        if reason not in ("stop", "length", None):
            raise ModelError(f"vLLM ended a response for the reason {reason!r}; see its log, {self._log}.")
        others = {span["version"] for span in choice.get("weight_versions") or ()} - {self._version}
        if others:
            raise ModelError(
                f"tokens were sampled by the weights {', '.join(sorted(others))}, not by those of the policy "
                f"({self._version}): another process loaded them into the run's engine. Run the same command again."
            )
        content = (choice.get("logprobs") or {}).get("content") or []
        tokens += choice["token_ids"] or ()
        logprobs += [_finite(c["logprob"]) for c in content]
        return reason


def _finite(logprob: float) -> float:
    return float("nan") if logprob <= NOT_FINITE else float(logprob)
