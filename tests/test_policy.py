"""Policies on disk, and the statistics of given tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from extra_rl.errors import InputError, ModelError
from extra_rl.policy import (
    TokenSequence,
    eos_token_ids,
    load_policy,
    micro_batches,
    read_manifest,
    resolve,
    response_statistics,
    save_policy,
    write_same_policy,
)
from extra_rl.removed import write_removed
from extra_rl.tokenizers import word_level
from tests.models import random_qwen3

SEQUENCES = [
    TokenSequence((1, 5, 9), (3, 4, 2)),
    TokenSequence((1,), (30, 31, 32, 33, 34, 2)),
    TokenSequence((1, 8), (2,)),
]
TOKENIZER = word_level([str(number) for number in range(37)])


def saved(folder: Path, seed: int = 0) -> Path:
    save_policy(folder / "manifest.json", random_qwen3(seed), TOKENIZER, {"name": "x"})
    return folder / "manifest.json"


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_statistics_equal_one_plain_forward_pass_a_sequence(temperature: float) -> None:
    model = random_qwen3()
    logprob_BT, entropy_BT, mask_BT = response_statistics(model, SEQUENCES, temperature)
    assert mask_BT.sum(1).tolist() == [3, 6, 1]
    for row, sequence in enumerate(SEQUENCES):
        tokens = torch.tensor([[*sequence.prompt, *sequence.response]])
        logits_TV = model(tokens).logits[0, len(sequence.prompt) - 1 : -1].double() / temperature
        expected_TV = logits_TV.log_softmax(-1)
        chosen_T = expected_TV[range(len(sequence.response)), list(sequence.response)]
        entropy_T = -(expected_TV.exp() * expected_TV).sum(-1)
        torch.testing.assert_close(logprob_BT[row][mask_BT[row]].double(), chosen_T, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entropy_BT[row][mask_BT[row]].double(), entropy_T, atol=1e-5, rtol=1e-5)
    assert not logprob_BT[~mask_BT].any()


def test_bfloat16_agrees_to_a_hundredth_and_keeps_the_head_in_float32() -> None:
    model = random_qwen3()
    plain_BT, _, mask_BT = response_statistics(model, SEQUENCES, 1.0)
    seen: list[torch.dtype] = []
    model.lm_head.register_forward_hook(lambda module, given, logits: seen.append(logits.dtype))
    rounded_BT, entropy_BT, _ = response_statistics(model, SEQUENCES, 1.0, "bfloat16")
    assert (rounded_BT.dtype, entropy_BT.dtype, seen) == (torch.float32, torch.float32, [torch.float32])
    difference = (rounded_BT - plain_BT)[mask_BT].abs()
    assert 0 < difference.max() < 0.05
    assert difference.mean() < 0.02


def test_a_model_is_loaded_in_the_precision_asked_for_and_saved_weights_stay(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    assert {p.dtype for p in load_policy(manifest).model.parameters()} == {torch.float32}
    assert {p.dtype for p in load_policy(manifest, precision="bfloat16").model.parameters()} == {torch.bfloat16}


def test_removed_weights_are_refused_with_the_reason(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    write_removed(tmp_path, {"model.safetensors": "retention.weights_every: 3"})
    load_policy(manifest)  # announced, but still there
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors was removed \(retention\.weights_every: 3\)"):
        load_policy(manifest)
    saved(tmp_path)
    load_policy(manifest)
    assert not (tmp_path / "removed.json").exists()


def test_micro_batches_hold_every_row_once_within_the_budget() -> None:
    lengths = [3, 40, 7, 7, 12, 1, 25]
    batches = list(micro_batches(lengths, 48))
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    assert all(len(batch) * max(lengths[row] for row in batch) <= 48 for batch in batches)
    assert batches[0] == [1]
    assert list(micro_batches([100], 48)) == [[0]]


def test_round_trip_and_digest(tmp_path: Path) -> None:
    first, again, other = saved(tmp_path / "a"), saved(tmp_path / "b"), saved(tmp_path / "c", seed=1)
    assert read_manifest(first)["digest"] == read_manifest(again)["digest"] != read_manifest(other)["digest"]
    policy = load_policy(first)
    assert policy.eos_token_ids == (2,)
    for name, value in random_qwen3().state_dict().items():
        assert torch.equal(policy.model.state_dict()[name], value), name


def test_a_manifest_may_stand_for_a_former_policy(tmp_path: Path) -> None:
    first = saved(tmp_path / "i0" / "policy")
    write_same_policy(tmp_path / "i1" / "policy" / "manifest.json", first, {"name": "y"})
    write_same_policy(tmp_path / "i2" / "policy" / "manifest.json", tmp_path / "i1" / "policy" / "manifest.json", {})
    third = tmp_path / "i2" / "policy" / "manifest.json"
    assert resolve(third).samefile(first.parent)
    assert read_manifest(third)["same_as"] == "../../i0/policy"
    assert read_manifest(third)["digest"] == read_manifest(first)["digest"]
    saved(tmp_path / "i0" / "policy", seed=1)
    with pytest.raises(InputError, match="no longer the policy"):
        resolve(third)


def test_a_directory_without_a_manifest_is_unfinished(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    manifest.unlink()
    with pytest.raises(InputError, match=r"manifest\.json: no such policy"):
        load_policy(manifest)
    manifest.write_text("{")
    with pytest.raises(InputError, match="not a policy manifest"):
        load_policy(manifest)


def test_a_model_without_an_end_is_refused(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    for name in ("generation_config.json", "config.json", "tokenizer_config.json"):
        content = json.loads((tmp_path / name).read_text())
        content = {key: value for key, value in content.items() if not key.startswith("eos_token")}
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        load_policy(manifest)


def test_every_end_token_counts() -> None:
    model = random_qwen3()
    model.generation_config.eos_token_id = [7, 8]
    assert eos_token_ids(model, word_level(["a"]), "x") == (2, 7, 8)
