"""A stage and its vLLM server from beginning to end, outside of a run and within one.

`tests.sampling.played_server` plays the server and its logprobs; processes, locks, weights on disk and the probe's
comparison are real. `test_run_engine` has the real server. Needs no vLLM.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.errors import ModelError, NumericalError
from extra_rl.models.policy import load_model, load_tokenizer, save_policy
from extra_rl.sampling.base import Request
from extra_rl.sampling.open import open_sampler
from extra_rl.sampling.vllm import run_engine, weights
from extra_rl.sampling.vllm.client import ServerClient
from tests.conftest import POLICY, ROOT
from tests.sampling.engines import lives, run_with_engines, until
from tests.sampling.played_server import scores

VLLM = SamplingConfig(backend="vllm", max_response_tokens=4)


class PlainClient(ServerClient):
    """Plain HTTP over the socket, without aiohttp."""

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        def post(path: str, json: Any) -> Any:
            return self._request("POST", path, json)

        yield SimpleNamespace(post=post, request=self._request)

    @asynccontextmanager
    async def _request(self, method: str, path: str, json: Any = None) -> AsyncIterator[Any]:
        status, text = await asyncio.to_thread(self._plain, method, path, json)

        async def whole() -> Any:
            return loads(text)

        async def raw() -> str:
            return text

        yield SimpleNamespace(status=status, text=raw, json=whole, url=SimpleNamespace(path=path))

    def _plain(self, method: str, path: str, body: Any) -> tuple[int, str]:
        connection = HTTPConnection("engine")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self._socket))
        connection.request(method, path, dumps(body or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def _with_server(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return asyncio.run(work)
        except OSError as error:
            raise ModelError(f"the vLLM engine does not answer: {error}") from None


loads, dumps = json.loads, json.dumps


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A short folder for those of the engines: the path of a socket may have 107 bytes at most."""
    monkeypatch.setattr(run_engine, "SERVER_MODULE", "tests.sampling.played_server")
    monkeypatch.setattr(run_engine, "ServerClient", PlainClient)
    for name in ("require_vllm", "require_build_for"):
        monkeypatch.setattr(f"extra_rl.sampling.vllm.open.{name}", lambda *_: None)
    monkeypatch.setattr("extra_rl.sampling.vllm.open.policy_logprobs", own_scores)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(run_engine, "PLACE", Path(short))
        yield Path(short)


def own_scores(model: Any, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
    return [scores(Path(model.config._name_or_path), tokens) for tokens in sequences]


def drawn(policy: Path) -> list[int]:
    with open_sampler(policy, VLLM, ComputeConfig(device="cpu"), 8) as (sampler, _):
        (sample,) = sampler.sample([Request((1, 6, 7), 4, seed=3)], VLLM)
        return sample.tokens


def test_a_stage_by_hand_starts_a_server_that_ends_with_it(place: Path, tmp_path: Path) -> None:
    with open_sampler(POLICY, VLLM, ComputeConfig(device="cpu"), 8) as (sampler, _):
        (folder,) = place.iterdir()
        pid = int((folder / "engine-0" / "keeper.lock").read_text())
        assert lives(pid)
        (sample,) = sampler.sample([Request((1, 6, 7), 4, seed=3)], VLLM)
        assert (sample.tokens, sample.logprobs, sample.finish_reason) == ([7], [-0.5], "length")
    until(lambda: not lives(pid))
    assert not folder.exists()
    assert list((tmp_path / ".snakemake").glob("engines-*/engine-0.log"))
    assert run_engine.FOLDER_VARIABLE not in os.environ


def test_a_server_with_other_weights_is_refused_and_ends(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    link = weights.link_view

    def corrupted(policy: Path, view: Path) -> None:
        from safetensors.torch import load_file, save_file

        link(policy, view)
        tensors = load_file(view / "model.safetensors")
        generator = torch.Generator().manual_seed(0)
        tensors = {name: t + 0.05 * torch.randn(t.shape, generator=generator) for name, t in tensors.items()}
        (view / "model.safetensors").unlink()
        save_file(tensors, view / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(weights, "link_view", corrupted)
    with pytest.raises(NumericalError, match=r"differ by \d\.\d+ nats on average, the tolerance is 0\.01"):
        drawn(POLICY)
    assert list(place.iterdir()) == []


def test_a_server_that_cannot_start_is_one_error_that_names_its_log(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_engine, "SERVER_MODULE", "tests.no_such_module")
    with pytest.raises(ModelError, match=r"vLLM cannot start .*engine-0\.log.*sampling\.backend: transformers"):
        drawn(POLICY)
    assert list(place.iterdir()) == []


def test_in_a_run_stages_share_a_server_and_new_weights_are_loaded_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(POLICY)
    model.model.norm.weight.data.mul_(1.5)
    other = tmp_path / "other" / "policy" / "manifest.json"
    save_policy(other, model, load_tokenizer(POLICY), {"name": "other"})
    with run_with_engines(tmp_path / "logs") as folder:
        assert drawn(POLICY / "manifest.json") == [7]
        pid = int((folder / "engine-0" / "keeper.lock").read_text())
        with monkeypatch.context() as patch:
            patch.setattr(run_engine.Engine, "reload", None)
            patch.setattr(run_engine.Engine, "start", None)
            assert drawn(POLICY / "manifest.json") == [7]
        assert drawn(other) == [7]
        loaded = json.loads((folder / "engine-0" / "loaded.json").read_text())
        assert loaded["version"] == json.loads(other.read_text())["digest"]
        assert int((folder / "engine-0" / "keeper.lock").read_text()) == pid
    until(lambda: not lives(pid))
