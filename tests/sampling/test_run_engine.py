"""The run's engine with a real vLLM server and real weights; one server for all tests but those of a stage by hand."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.errors import ModelError, NumericalError
from extra_rl.models.policy import load_model, load_tokenizer, save_policy
from extra_rl.sampling.base import Request, Sample
from extra_rl.sampling.open import open_sampler
from extra_rl.sampling.vllm import run_engine, weights
from tests.conftest import POLICY
from tests.sampling.engines import lives, run_with_engines, until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test-vllm"
)
VLLM = SamplingConfig(backend="vllm", max_response_tokens=16)
CONTEXTS = [(1, 6, 7, 107), (1, *range(6, 46))]
"""The second fills a block of the prefix cache (32 tokens)."""
REQUESTS = [Request(c, 16, seed=100 * i + n) for i, c in enumerate(CONTEXTS) for n in range(6)]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with run_with_engines(tmp_path_factory.mktemp("logs")) as folder:
        yield folder
        pid = keeper(folder)
    until(lambda: not lives(pid))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another policy of the same shape, its head tied to the embedding."""
    import torch

    model = load_model(POLICY)
    assert model.config.tie_word_embeddings
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    manifest = tmp_path_factory.mktemp("other") / "policy" / "manifest.json"
    save_policy(manifest, model, load_tokenizer(POLICY), {"name": "other"})
    return manifest


def drawn(manifest: Path, longest: int = 57, requests: list[Request] = REQUESTS) -> list[Sample]:
    with open_sampler(manifest, VLLM, ComputeConfig(device="cpu"), longest) as (sampler, _):
        return sampler.sample(requests, VLLM, lambda n: None)


def drawn_by_hand(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """By an engine that no run has opened."""
    with monkeypatch.context() as patch:
        patch.delenv(run_engine.FOLDER_VARIABLE)
        return drawn(manifest)


def keeper(folder: Path) -> int:
    return int((folder / "engine-0" / "keeper.lock").read_text())


def test_another_policy_is_reloaded_and_samples_are_those_of_a_stage_by_hand(
    engines: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = POLICY / "manifest.json"
    here = {path: drawn(path) for path in (first, other)}
    pid = keeper(engines)
    assert drawn(first) == here[first]  # back again
    assert keeper(engines) == pid
    for path in (first, other):
        assert drawn_by_hand(path, monkeypatch) == here[path]
    assert here[first] != here[other]


def test_the_same_policy_is_neither_loaded_nor_read_again(engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = POLICY / "manifest.json"
    before = drawn(first)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("loaded again")

    monkeypatch.setattr(run_engine.Engine, "reload", never)
    monkeypatch.setattr("extra_rl.models.policy.load_model", never)
    assert drawn(first) == before


def test_a_stale_head_is_refused(engines: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM keeps the old head of a tied model where the checkpoint does not contain it."""
    drawn(POLICY / "manifest.json")
    with monkeypatch.context() as patch:
        patch.setattr(weights, "write_head", lambda view, model: None)
        with pytest.raises(NumericalError, match=r"differ by 0\.\d+ nats on average, the tolerance is 0\.01"):
            drawn(other)
    assert not (engines / "engine-0" / "loaded.json").exists()  # it does not count as loaded
    assert drawn(other)


def test_tokens_of_other_weights_are_refused(engines: Path) -> None:
    first = POLICY / "manifest.json"
    with open_sampler(first, VLLM, ComputeConfig(device="cpu"), 57) as (sampler, _):
        run_engine.Engine(engines / "engine-0", Path("log")).client().post(
            "/update_weight_version", {"new_version": "intruder"}
        )
        with pytest.raises(ModelError, match="sampled by the weights intruder"):
            sampler.sample(REQUESTS, VLLM, lambda n: None)
    (engines / "engine-0" / "loaded.json").unlink()


def test_only_this_user_can_reach_it(engines: Path) -> None:
    drawn(POLICY / "manifest.json")
    for path in (engines, engines / "engine-0", *(engines / "engine-0").iterdir()):
        if path.is_socket() or path.is_dir():
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0 or path.name == "views", path
    assert (engines / "engine-0" / "http").is_socket()


def test_a_longer_context_starts_it_again(engines: Path) -> None:
    first = POLICY / "manifest.json"
    before, pid = drawn(first), keeper(engines)
    assert drawn(first, 76, [Request((1,) * 60, 16, 5)])[0].tokens
    assert keeper(engines) != pid
    assert json.loads((engines / "engine-0" / "arguments.json").read_text())["max_model_len"] == 96
    assert drawn(first) == before  # in the larger one


def test_an_engine_that_dies_while_it_samples_is_one_clear_error_and_is_replaced(engines: Path) -> None:
    first = POLICY / "manifest.json"
    before, pid = drawn(first), keeper(engines)
    with open_sampler(first, VLLM, ComputeConfig(device="cpu"), 57) as (sampler, _):
        os.kill(pid, 9)
        server = run_engine.Engine(engines / "engine-0", Path("log")).client()
        until(lambda: not lives(pid) and not server.healthy())
        with pytest.raises(ModelError, match=r"engine does not answer .* see its log"):
            sampler.sample(REQUESTS, VLLM, lambda n: None)
    assert drawn(first) == before
    assert keeper(engines) != pid


def test_a_sharded_checkpoint_gets_its_head_too(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    model = load_model(POLICY)
    source = tmp_path / "policy"
    model.save_pretrained(source, max_shard_size="100KB")
    assert (source / weights.INDEX_FILE).exists()
    weights.link_view(source, tmp_path / "view")
    weights.write_head(tmp_path / "view", model)
    index = json.loads((tmp_path / "view" / weights.INDEX_FILE).read_text())
    assert index["weight_map"][weights.HEAD] == weights.HEAD_FILE
    assert torch.equal(load_file(tmp_path / "view" / weights.HEAD_FILE)[weights.HEAD], model.lm_head.weight)
    assert weights.HEAD not in json.loads((source / weights.INDEX_FILE).read_text())["weight_map"]
    shutil.rmtree(tmp_path / "view")
