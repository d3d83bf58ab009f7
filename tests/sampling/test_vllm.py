"""vLLM outside of a run: errors, arguments and views of a policy; sampling itself is in test_suite.py."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.errors import ConfigError, ExtraError, ModelError, NumericalError
from extra_rl.models.policy import OPTIMIZER_FILE, STATE_FILES, load_model
from extra_rl.sampling.base import Request
from extra_rl.sampling.open import open_sampler
from extra_rl.sampling.vllm import weights
from extra_rl.sampling.vllm.arguments import flags
from extra_rl.sampling.vllm.open import require_build_for
from tests.conftest import POLICY, environment, new_run
from tests.models import random_model, random_qwen3

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test-vllm"
)
VLLM = SamplingConfig(backend="vllm", max_response_tokens=8)


def opened(policy: Path, config: SamplingConfig = VLLM, longest: int | None = None) -> None:
    """Open a sampler and close it."""
    with open_sampler(policy, config, ComputeConfig(device="cpu"), longest):
        pass


def test_without_vllm_the_error_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else found(name))
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[vllm\]'"):
        opened(POLICY)


def policy_with(directory: Path, model: Any) -> Path:
    """A policy with the tokenizer of tests/data/policy and another model."""
    shutil.copytree(POLICY, directory, ignore=shutil.ignore_patterns("manifest.json", "*.safetensors"))
    model.save_pretrained(directory)
    return directory


@pytest.fixture
def vllm_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extra_rl.sampling.vllm.open.require_vllm", lambda: None)


@pytest.mark.usefixtures("vllm_is_installed")
def test_small_heads_are_refused(tmp_path: Path) -> None:
    policy = policy_with(tmp_path / "policy", random_qwen3())
    with pytest.raises(ModelError, match="at least 32 dimensions, this model has 8"):
        opened(policy)


@pytest.mark.parametrize(("printed", "named"), [("cuda", "built for cuda"), ("", "built for no device")])
def test_a_build_for_another_device_is_refused(printed: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that imports vLLM is played; vLLM prints another line first."""

    def played(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0 if printed else 1, f"INFO importing\n{printed}\n", "")

    monkeypatch.setattr("extra_rl.sampling.vllm.open.subprocess.run", played)
    with pytest.raises(ConfigError, match=f"compute.device is cpu, but the vLLM .* {named}"):
        require_build_for("cpu", {})
    if printed:
        require_build_for(printed, {})


@pytest.mark.usefixtures("vllm_is_installed")
@pytest.mark.parametrize(
    ("configured", "message"),
    [
        (40, "41 tokens together, but sampling.engine.max_model_len is 40: lower max_response_tokens, or raise it"),
        (None, "97 tokens together, but .* reads 96 tokens: lower max_response_tokens"),
    ],
)
def test_contexts_beyond_the_engine_are_refused(configured: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(POLICY, SamplingConfig(backend="vllm", engine={"max_model_len": configured}), (configured or 96) + 1)


@pytest.mark.parametrize(("longest", "context"), [(33, 64), (64, 64), (65, 100), (None, 100)])
def test_an_engine_has_the_next_power_of_two_of_tokens(longest: int | None, context: int) -> None:
    from extra_rl.sampling.vllm.open import _context

    assert _context(longest, VLLM, 100, POLICY) == context


def test_arguments_become_flags_of_the_server() -> None:
    given = {"max_model_len": 96, "dtype": "float32", "enforce_eager": True, "enable_chunked_prefill": False}
    expected = "--max-model-len 96 --dtype float32 --enforce-eager --no-enable-chunked-prefill"
    assert flags(given) == expected.split()


@needs_vllm
def test_an_engine_with_a_corrupted_head_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is given another head than the policy has; all other weights are the same."""
    import torch

    model = load_model(POLICY)
    generator = torch.Generator().manual_seed(0)
    head = model.lm_head.weight.detach()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(head + 0.05 * torch.randn(head.shape, generator=generator))
    corrupted = policy_with(tmp_path / "policy", model)
    link = weights.link_view
    monkeypatch.setattr(weights, "link_view", lambda policy, view: link(corrupted, view))
    monkeypatch.setattr(weights, "write_head", lambda view, model: None)
    with pytest.raises(NumericalError, match=r"differ by 0\.\d+ nats on average, the tolerance is 0\.01"):
        opened(POLICY)


def test_the_view_hides_the_files_that_only_the_next_update_reads(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    shutil.copytree(POLICY, policy)
    for name in STATE_FILES:
        (policy / name).touch()
    weights.link_view(policy, tmp_path / "view")
    names = {path.name for path in (tmp_path / "view").iterdir()}
    assert names == {path.name for path in POLICY.iterdir()} >= {"model.safetensors", "config.json"}


@needs_vllm
def test_an_optimizer_next_to_the_weights_is_not_read(tmp_path: Path) -> None:
    """`optimizer.safetensors` holds no weights."""
    import torch
    from safetensors.torch import save_file

    policy = tmp_path / "policy"
    shutil.copytree(POLICY, policy)
    save_file({"exp_avg.model.norm.weight": torch.ones(64)}, policy / OPTIMIZER_FILE)
    with open_sampler(policy, VLLM, ComputeConfig(), 40) as (sampler, _):
        assert len(sampler.sample([Request((1,) * 32, 8, 0)], VLLM, lambda n: None)) == 1


@needs_vllm
def test_a_whole_iteration_on_vllm(tmp_path: Path) -> None:
    """Every rollout and evaluation sample from the run's engine, through the real workflow; by hand, with a server that
    lives as long as the stage: the same bytes."""
    import polars as pl

    arms = {"extra": {"preset": "paper"}}  # continuations in the same iteration: generate and regenerate
    run = new_run(tmp_path, iterations=1, sampling={"backend": "vllm"}, select={"token_budget": 300}, arms=arms)
    run.snakemake()
    assert (run.results / "summary.json").is_file()
    logs = sorted((tmp_path / ".snakemake").glob("engine-*.log"))
    assert 1 <= len(logs) <= 2  # as many engines as stages sampled at once, and not one a stage
    folder = run.results / "extra" / "s0" / "iteration_0000"
    made = folder / "generate.parquet"
    for name in ("generate", "regenerate"):
        rollouts = pl.read_parquet(folder / f"{name}.parquet")
        own = pl.read_parquet(folder / f"score_entropy_{name}.parquet")
        assert not rollouts.is_empty()
        assert len(own) == len(rollouts)
    again = tmp_path / "again"
    command = [sys.executable, "-m", "stages", "generate", "--rerun", str(made), "--to", str(again)]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True, capture_output=True)
    assert (again / made.name).read_bytes() == made.read_bytes()


@needs_vllm
@pytest.mark.parametrize("family", ["Llama", "Mistral", "Gemma2", "Olmo2"])
def test_other_families_on_vllm(family: str, tmp_path: Path) -> None:
    """The engine gives the policy's logprobs, or the sampler is refused and the error names another backend.

    Llama and Mistral are not refused.

    The CPU build refuses Gemma 2, whose class has no `lm_head`, which we write out there (sampling/vllm/weights.py).
    vLLM computes the soft cap of Gemma 2's attention, which transformers' default attention leaves out: here there is
    none, so that both agree.
    """
    changes: dict[str, dict[str, Any]] = {
        "Mistral": {"sliding_window": 8},
        "Gemma2": {"sliding_window": 8, "attn_logit_softcapping": None, "final_logit_softcapping": 30.0},
    }
    shape = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 108}
    policy = policy_with(tmp_path / "policy", random_model(family, **shape, **changes.get(family, {})))
    refused = ""
    try:
        with open_sampler(policy, VLLM, ComputeConfig(device="cpu"), 40) as (sampler, _):
            (sample,) = sampler.sample([Request((5,) * 20, 8, 0)], VLLM, lambda n: None)
            assert sample.tokens
    except ExtraError as error:
        refused = str(error)
    assert not refused or (family in ("Gemma2", "Olmo2") and "sampling.backend: transformers" in refused)


def test_the_package_does_not_shadow_vllm() -> None:
    import extra_rl.sampling.vllm as own

    assert own.__name__ == "extra_rl.sampling.vllm"
    assert sys.modules.get("vllm") is not own


@needs_vllm
def test_vllm_loads_an_export(tmp_path: Path) -> None:
    """The engine's logprobs agree with those of the export's weights, which are those of the policy."""
    from extra_rl.export.folder import export
    from extra_rl.export.place import find

    export(find(POLICY), tmp_path / "export")
    opened(tmp_path / "export")
