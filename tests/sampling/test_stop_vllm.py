"""Stop strings with vLLM's server, which has none: its answers are read token by token and ended by the client.

The server is played here; the sampler suite runs the real one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from extra_rl.config.sections import SamplingConfig
from extra_rl.models.policy import load_tokenizer
from extra_rl.sampling.base import Request, Sample, Sampler
from extra_rl.sampling.text import StopStrings
from extra_rl.sampling.vllm.arguments import sampling_parameters
from extra_rl.sampling.vllm.client import ServerClient
from tests.conftest import POLICY

SCRIPT = {7: [9, 103, 9, 105, 15, 2], 8: [9, 105, 15, 2], 9: [15, 103, 9, 2]}
"""Context's last token -> what the engine samples: `6 + 6 = 12`, `6 = 12` and `12 + 6`, then end-of-sequence."""
REQUESTS = [Request((1, last), 8, seed=last) for last in SCRIPT]
CLOSED: list[set[int]] = []
"""Contexts (their last tokens) whose connections the client closed; one set per test."""


def steps(last: int, by: int) -> Iterator[tuple[list[int], str | None]]:
    """The tokens of each step, `by` at a time, and the finish reason of the last one."""
    tokens = SCRIPT[last]
    for start in range(0, len(tokens), by):
        yield tokens[start : start + by], "stop" if start + by >= len(tokens) else None


class PlayedServer(ServerClient):
    """Streams its answers, `by` tokens at a time."""

    def __init__(self, by: int) -> None:
        super().__init__(Path("socket"), Path("log"), eos=(2,), stops=StopStrings(load_tokenizer(POLICY), (2,)))
        self._by = by

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        yield SimpleNamespace(post=self._answer)

    def _with_server(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    @asynccontextmanager
    async def _answer(self, _: str, json: Mapping[str, Any]) -> AsyncIterator[Any]:
        last = json["token_ids"][-1]
        if json["stream"]:
            yield SimpleNamespace(status=200, content=self._lines(last), close=lambda: CLOSED[-1].add(last))
        else:
            choice = choice_of(SCRIPT[last], "stop")

            async def whole() -> dict[str, Any]:
                return {"choices": [choice]}

            yield SimpleNamespace(status=200, json=whole)

    async def _lines(self, last: int) -> AsyncIterator[bytes]:
        for tokens, reason in steps(last, self._by):
            yield b"data: " + json.dumps({"choices": [choice_of(tokens, reason)]}).encode() + b"\n"
            await asyncio.sleep(0)
        yield b"data: [DONE]\n"


def choice_of(tokens: Sequence[int], reason: str | None) -> dict[str, Any]:
    content = [{"logprob": -token / 100} for token in tokens]
    return {"token_ids": list(tokens), "logprobs": {"content": content}, "finish_reason": reason}


@pytest.fixture(params=[1, 3])
def sampler(request: pytest.FixtureRequest) -> Sampler:
    CLOSED.append(set())
    return PlayedServer(request.param)


def drawn(sampler: Sampler, requested: Sequence[Request], **settings: Any) -> list[Sample]:
    ended: list[int] = []
    samples = sampler.sample(requested, SamplingConfig(**settings), ended.append)
    assert sum(ended) == len(samples)
    return samples


def test_the_client_closes_the_connection_where_a_stop_string_ends_a_response(sampler: Sampler) -> None:
    samples = drawn(sampler, REQUESTS, stop=["+ 6"])
    assert [s.tokens for s in samples] == [[9, 103, 9], [9, 105, 15, 2], [15, 103, 9]]
    assert all(s.logprobs == [-token / 100 for token in s.tokens] for s in samples)
    assert [s.finish_reason for s in samples] == ["stop"] * 3
    assert CLOSED[-1] >= {7}
    assert 8 not in CLOSED[-1]


def test_without_stop_strings_answers_come_whole(sampler: Sampler) -> None:
    assert [s.tokens for s in drawn(sampler, REQUESTS)] == list(SCRIPT.values())
    assert not CLOSED[-1]


def test_the_prefix_counts_and_the_prompt_does_not(sampler: Sampler) -> None:
    requested = [Request((1, 103, 7), 8, 0, prefix_length=2), Request((1, 103, 7), 8, 0)]
    samples = drawn(sampler, requested, stop=["+ 4 6 +"])
    assert [s.tokens for s in samples] == [[9, 103], SCRIPT[7]]


def test_tokens_after_a_stop_string_are_left_out(sampler: Sampler) -> None:
    samples = drawn(sampler, REQUESTS, stop=["6"])
    assert [s.tokens for s in samples] == [[9], [9], [15, 103, 9]]
    assert [s.finish_reason for s in samples] == ["stop"] * 3


def test_no_stop_strings_are_sent_to_the_engine() -> None:
    """The engine has no tokenizer (`skip_tokenizer_init`), and vLLM refuses `stop` without one."""
    assert "stop" not in sampling_parameters(REQUESTS[0], SamplingConfig(stop=["6"]), (2,))
