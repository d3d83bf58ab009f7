"""LoRA: only adapters over the initial policy are trained, and the policy that is written is an ordinary merged one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from extra_rl.algorithms import loss as losses
from extra_rl.errors import ConfigError, InputError
from extra_rl.evaluation.policies import find_policy
from extra_rl.models.policy import ADAPTER_FILE, OPTIMIZER_FILE, load_model, load_policy
from extra_rl.scoring.batches import TokenSequence
from extra_rl.scoring.statistics import response_statistics
from extra_rl.training.lora import LoraConfig, adapter_tensors, frozen_base, load_adapted
from tests.conftest import POLICY
from tests.models.test_policy import SEQUENCES
from tests.stages.updates import INITIAL, RIGHT, WRONG, tables, updated

LORA: dict[str, Any] = {"rank": 4, "alpha": 8.0}
OPTIONS: dict[str, Any] = {"lora": LORA, "learning_rate": 1e-2}
VALUES = {"right": 1.0, "wrong": -1.0}


def found() -> Any:
    return tables([RIGHT, WRONG], VALUES)


def logprobs(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return response_statistics(model, SEQUENCES, 1.0)[0]


def adapted(manifest: Path, **lora: Any) -> tuple[Any, Any]:
    policy, peft_model = load_adapted(INITIAL, manifest, LoraConfig(**LORA | lora), seed=3)
    return policy.model.eval(), peft_model


def test_a_resolved_section_is_valid_again() -> None:
    """A job holds the section with its defaults, so `targets: all_linear` stands in it."""
    for given in (LoraConfig(), LoraConfig(targets=("q_proj",))):
        assert LoraConfig(**given.model_dump(mode="json")) == given


def test_fresh_adapters_change_nothing_and_are_all_that_is_trained() -> None:
    model, _ = adapted(INITIAL)
    torch.testing.assert_close(logprobs(model), logprobs(load_model(POLICY)), atol=0, rtol=0)
    trained = adapter_tensors(model)
    assert {name.split(".")[-3] for name in trained} == {"lora_A", "lora_B"}
    # Seven linear layers in each of the policy's three decoder layers; the head has none.
    assert len(trained) == 2 * 7 * load_model(POLICY).config.num_hidden_layers
    assert {min(value.shape) for value in trained.values()} == {4}


def test_a_step_moves_the_adapters_and_the_merged_policy_and_no_base_weight(tmp_path: Path) -> None:
    _, manifest = updated(found(), tmp_path, **OPTIONS)
    model, peft_model = adapted(manifest)
    base = load_model(POLICY).state_dict()
    for name, value in model.state_dict().items():
        if "lora_" not in name:
            torch.testing.assert_close(value, base[name.replace(".base_layer", "")], atol=0, rtol=0)
    merged = load_model(manifest.parent)
    assert not torch.allclose(logprobs(merged), logprobs(load_model(POLICY)), atol=1e-3)
    torch.testing.assert_close(logprobs(merged), logprobs(model), atol=1e-5, rtol=0)
    with frozen_base(peft_model) as frozen:
        torch.testing.assert_close(logprobs(frozen), logprobs(load_model(POLICY)), atol=0, rtol=0)
    torch.testing.assert_close(logprobs(merged), logprobs(model), atol=1e-5, rtol=0)  # adapters are on again
    assert all(parameter.requires_grad for parameter in adapter_tensors(model).values())


def test_the_policy_is_an_ordinary_one_without_its_adapters(tmp_path: Path) -> None:
    _, manifest = updated(found(), tmp_path, **OPTIONS)
    assert set(load_model(manifest.parent).state_dict()) == set(load_model(POLICY).state_dict())
    config = json.loads((manifest.parent / "config.json").read_text())
    assert config == json.loads((POLICY / "config.json").read_text())
    assert load_policy(manifest).eos_token_ids == load_policy(INITIAL).eos_token_ids
    files = json.loads(manifest.read_text())["files"]
    assert {ADAPTER_FILE, OPTIMIZER_FILE} <= set(files)
    bare = Path(shutil.copytree(manifest.parent, tmp_path / "bare"))
    for name in ("manifest.json", ADAPTER_FILE, OPTIMIZER_FILE):
        (bare / name).unlink()
    assert find_policy(str(bare)).digest == json.loads(manifest.read_text())["digest"]
    full = json.loads(updated(found(), tmp_path / "full")[1].read_text())["files"]
    assert set(files) - set(full) == {ADAPTER_FILE}  # peft writes nothing else
    weights, state = (manifest.parent / name for name in ("model.safetensors", OPTIMIZER_FILE))
    assert state.stat().st_size < weights.stat().st_size  # AdamW's state of all weights is twice as large as they are


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_repeated_iteration_gives_the_same_policy(tmp_path: Path, dropout: float) -> None:
    options = {**OPTIONS, "lora": {**LORA, "dropout": dropout}}
    digests = [json.loads(updated(found(), tmp_path / name, **options)[1].read_text())["digest"] for name in "ab"]
    assert digests[0] == digests[1]


def test_two_steps_and_two_after_a_save_are_four_steps(tmp_path: Path) -> None:
    _, straight = updated(found(), tmp_path / "4", **OPTIONS, epochs=4)
    _, half = updated(found(), tmp_path / "2", **OPTIONS, epochs=2)
    _, resumed = updated(found(), tmp_path / "22", policy=half, **OPTIONS, epochs=2)
    for name in ("model.safetensors", ADAPTER_FILE, OPTIMIZER_FILE):
        assert (resumed.parent / name).read_bytes() == (straight.parent / name).read_bytes(), name


@pytest.mark.parametrize(("change", "message"), [
    ({"rank": 8}, r"has rank 4, but this update has 8"),
    ({"alpha": 4.0}, r"has alpha 8.0, but this update has 4.0"),
    ({"targets": ("q_proj",)}, r"has targets all_linear, but this update"),
])  # fmt: skip
def test_other_adapters_cannot_go_on(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    _, manifest = updated(found(), tmp_path / "0", **OPTIONS)
    with pytest.raises(InputError, match=message):
        updated(found(), tmp_path / "1", policy=manifest, lora={**LORA, **change})


def test_a_run_cannot_switch_between_adapters_and_whole_weights(tmp_path: Path) -> None:
    _, whole = updated(found(), tmp_path / "0")
    with pytest.raises(InputError, match="was trained without adapters"):
        updated(found(), tmp_path / "1", policy=whole, lora=LORA)
    _, adapters = updated(found(), tmp_path / "2", **OPTIONS)
    with pytest.raises(InputError, match="lora_A"):
        updated(found(), tmp_path / "3", policy=adapters)


def test_only_the_named_layers_get_adapters() -> None:
    model, _ = adapted(INITIAL, targets=("q_proj", "v_proj"))
    assert {name.split(".")[-4] for name in adapter_tensors(model)} == {"q_proj", "v_proj"}
    for unknown in ("lm_head", "query"):
        with pytest.raises(ConfigError, match=rf"{unknown} is not one of down_proj, .*v_proj"):
            adapted(INITIAL, targets=("q_proj", unknown))


def test_the_kl_term_equals_that_of_a_second_model(tmp_path: Path) -> None:
    _, moved = updated(found(), tmp_path / "0", **OPTIONS)
    figures, _ = updated(found(), tmp_path / "1", policy=moved, **OPTIONS, kl_weight=0.5)
    sequences = [TokenSequence(row.prompt_tokens, row.response_tokens) for row in (RIGHT, WRONG)]
    with torch.inference_mode():
        policy_BT, _, mask_BT = response_statistics(load_model(moved.parent), sequences, 1.0)
        initial_BT, _, _ = response_statistics(load_model(POLICY), sequences, 1.0)
    expected = losses.kl_k3(policy_BT, initial_BT)[mask_BT].mean().item()
    assert expected > 1e-3
    assert figures["kl_to_reference"][0] == pytest.approx(expected, rel=1e-3)


def test_the_kl_term_does_not_change_the_gradient_of_the_loss(tmp_path: Path) -> None:
    """Switching the adapters off for the reference must not remove them from the loss."""
    plain = updated(found(), tmp_path / "0", **OPTIONS)[0]["gradient_norm"][0]
    with_term = updated(found(), tmp_path / "1", **OPTIONS, kl_weight=1e-9)[0]["gradient_norm"][0]
    assert with_term == pytest.approx(plain, rel=1e-4)
    assert plain > 0


def test_gradient_checkpointing_gives_the_same_adapters(tmp_path: Path) -> None:
    _, plain = updated(found(), tmp_path / "0", **OPTIONS, kl_weight=0.1)
    _, recomputed = updated(found(), tmp_path / "1", **OPTIONS, kl_weight=0.1, gradient_checkpointing=True)
    before, after = (load_model(path.parent).state_dict() for path in (plain, recomputed))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-5, rtol=0)
