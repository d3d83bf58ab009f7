"""update: the policy and the optimizer state that it writes, and when it writes none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import modeling_utils

from extra_rl.errors import InputError, NumericalError
from extra_rl.models.policy import load_model, load_policy, resolve, save_policy
from extra_rl.models.removed import write_removed
from extra_rl.models.retention import Retention
from extra_rl.run.context import RunContext
from stages import update
from tests.conftest import POLICY
from tests.stages.updates import INITIAL, RIGHT, WRONG, tables, updated


def test_the_same_inputs_give_the_same_policy(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    digests = [json.loads(updated(found, tmp_path / name)[1].read_text())["digest"] for name in "ab"]
    assert digests[0] == digests[1] != json.loads(INITIAL.read_text())["digest"]


def test_without_a_signal_the_next_policy_is_the_current_one(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG], {"right": 0.0, "wrong": 0.0})
    metrics, manifest = updated(found, tmp_path, weight_decay=0.1)
    assert metrics.is_empty()
    assert resolve(manifest) == POLICY
    assert json.loads(manifest.read_text())["digest"] == json.loads(INITIAL.read_text())["digest"]
    assert [path.name for path in manifest.parent.iterdir()] == ["manifest.json"]


def test_gradient_checkpointing_gives_the_same_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    calls: list[object] = []
    recompute = modeling_utils.checkpoint

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(options["use_reentrant"])
        return recompute(*arguments, **options)

    monkeypatch.setattr(modeling_utils, "checkpoint", counted)
    _, plain = updated(found, tmp_path / "0")
    assert calls == []
    _, recomputed = updated(found, tmp_path / "1", gradient_checkpointing=True)
    assert calls == [False] * load_model(POLICY).config.num_hidden_layers
    before, after = (load_model(path.parent).state_dict() for path in (plain, recomputed))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)


def test_a_removed_optimizer_state_is_refused(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    _, manifest = updated(found, tmp_path / "0")
    write_removed(manifest.parent, {"optimizer.safetensors": "retention.optimizer_states: 2"})
    (manifest.parent / "optimizer.safetensors").unlink()
    with pytest.raises(InputError, match=r"optimizer\.safetensors .*retention\.optimizer_states: 2"):
        updated(found, tmp_path / "1", policy=manifest)


def test_the_optimizer_state_continues_from_the_previous_iteration(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    config: dict[str, Any] = {"learning_rate": 1e-4, "warmup_steps": 4, "minibatches": 1, "epochs": 2}
    first, manifest = updated(found, tmp_path / "0", **config)
    assert first["learning_rate"].to_list() == pytest.approx([2.5e-5, 5e-5])
    second, manifest = updated(found, tmp_path / "1", policy=manifest, **config)
    assert second["learning_rate"].to_list() == pytest.approx([7.5e-5, 1e-4])
    empty, idle = updated(tables([RIGHT], {"right": 0.0}), tmp_path / "2", policy=manifest)
    assert empty.is_empty()
    third, _ = updated(found, tmp_path / "3", policy=idle, **config | {"warmup_steps": 8})
    assert third["learning_rate"].to_list() == pytest.approx([5 / 8 * 1e-4, 6 / 8 * 1e-4])


def test_the_optimizer_state_is_written_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    _, plain = updated(found, tmp_path / "0")
    memory = tmp_path / "memory"
    context = RunContext(retention=Retention(1, 0, 0, 0, str(memory)))
    figures: dict[str, float] = {}
    run = update.run

    def recorded(inputs: Any, config: Any, context: Any) -> Any:
        context.figures = figures
        return run(inputs, config, context)

    with monkeypatch.context() as patched:
        patched.setattr(update, "run", recorded)
        _, linked = updated(found, tmp_path / "1", run=context)
    (stored,) = memory.iterdir()
    assert linked.read_bytes() == plain.read_bytes()  # the manifest does not depend on the folder
    assert figures["optimizer_bytes"] == stored.stat().st_size
    assert set(figures) >= {"optimizer_read_s", "optimizer_write_s"}
    _, second = updated(found, tmp_path / "2", policy=linked, run=context)
    assert load_model(second.parent).state_dict().keys()
    stored.unlink()
    with pytest.raises(InputError, match="which is missing"):
        updated(found, tmp_path / "3", policy=linked, run=context)


@pytest.mark.parametrize("change", [{"lora": {}}, {"optimizer": "adamw_8bit"}])
def test_adapters_and_8_bit_moments_train_in_one_process_only(change: dict[str, Any]) -> None:
    shared: dict[str, Any] = {"sampling": {}, "compute": {}}
    update.Config.model_validate({**shared, **change})
    with pytest.raises(ValidationError, match=f"{next(iter(change))}.* processes: 1"):
        update.Config.model_validate({**shared, **change, "processes": 2})


def test_a_diverged_policy_stops_the_run_and_writes_no_policy(tmp_path: Path) -> None:
    found = tables([RIGHT], {"right": 1.0})
    broken = load_policy(INITIAL)
    broken.model.model.norm.weight.data.fill_(3e38)  # finite, as a policy must be; its logits are not
    bad = tmp_path / "broken" / "manifest.json"
    save_policy(bad, broken.model, broken.tokenizer, {})
    with pytest.raises(NumericalError, match="broken gives logprobs that are not finite"):
        updated(found, tmp_path, policy=bad)
    assert not (tmp_path / "policy" / "manifest.json").exists()


def test_the_next_policy_is_an_ordinary_model_directory(tmp_path: Path) -> None:
    _, manifest = updated(tables([RIGHT], {"right": 1.0}), tmp_path)
    assert load_model(manifest.parent).config.model_type == "qwen3"
    assert set(json.loads(manifest.read_text())["files"]) >= {"model.safetensors", "optimizer.safetensors"}
