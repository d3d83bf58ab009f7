"""Policies on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from extra_rl.errors import InputError, ModelError
from extra_rl.models.policy import (
    eos_token_ids,
    load_policy,
    read_manifest,
    resolve,
    save_policy,
    weights_of,
    write_manifest,
    write_same_policy,
)
from extra_rl.models.removed import write_removed
from extra_rl.models.tokenizers import word_level
from extra_rl.scoring.batches import TokenSequence
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


def test_a_model_is_loaded_in_the_requested_precision(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    assert {p.dtype for p in load_policy(manifest).model.parameters()} == {torch.float32}
    assert {p.dtype for p in load_policy(manifest, precision="bfloat16").model.parameters()} == {torch.bfloat16}


def test_removed_weights_are_an_error_with_the_reason(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    write_removed(tmp_path, {"model.safetensors": "retention.weights_every: 3"})
    load_policy(manifest)  # recorded, but not yet removed
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors was removed \(retention\.weights_every: 3\)"):
        load_policy(manifest)
    saved(tmp_path)
    load_policy(manifest)
    assert not (tmp_path / "removed.json").exists()


def test_the_number_of_weights_is_in_the_manifest_and_counts_shared_tensors_once(tmp_path: Path) -> None:
    manifest = saved(tmp_path / "a")
    model = random_qwen3(0)
    elements = sum(parameter.numel() for parameter in model.parameters())
    assert weights_of(manifest) == elements
    write_same_policy(tmp_path / "b" / "manifest.json", manifest, {})
    (tmp_path / "a" / "model.safetensors").unlink()
    assert weights_of(manifest) == weights_of(tmp_path / "b" / "manifest.json") == elements


def test_a_saved_policy_is_loaded_unchanged_and_has_a_digest(tmp_path: Path) -> None:
    first, again, other = saved(tmp_path / "a"), saved(tmp_path / "b"), saved(tmp_path / "c", seed=1)
    assert read_manifest(first)["digest"] == read_manifest(again)["digest"] != read_manifest(other)["digest"]
    policy = load_policy(first)
    assert policy.eos_token_ids == (2,)
    for name, value in random_qwen3().state_dict().items():
        assert torch.equal(policy.model.state_dict()[name], value), name


def test_a_manifest_may_refer_to_a_previous_policy(tmp_path: Path) -> None:
    first = saved(tmp_path / "i0" / "policy")
    write_same_policy(tmp_path / "i1" / "policy" / "manifest.json", first, {"name": "y"})
    write_same_policy(tmp_path / "i2" / "policy" / "manifest.json", tmp_path / "i1" / "policy" / "manifest.json", {})
    third = tmp_path / "i2" / "policy" / "manifest.json"
    assert resolve(third).samefile(first.parent)
    assert read_manifest(third)["same_as"] == "../../i0/policy"
    assert read_manifest(third)["digest"] == read_manifest(first)["digest"]
    saved(tmp_path / "i0" / "policy", seed=1)
    with pytest.raises(InputError, match="i0/policy"):
        resolve(third)


def test_a_directory_without_a_manifest_is_unfinished(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    manifest.unlink()
    with pytest.raises(InputError, match=r"manifest\.json"):
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
    write_manifest(manifest, {})
    with pytest.raises(ModelError, match="end-of-sequence"):
        load_policy(manifest)


def test_every_end_token_counts() -> None:
    model = random_qwen3()
    model.generation_config.eos_token_id = [7, 8]
    assert eos_token_ids(model, word_level(["a"]), "x") == (2, 7, 8)


def test_a_policy_that_is_saved_again_leaves_the_files_that_a_fork_shares(tmp_path: Path) -> None:
    """Libraries write into a file that exists, and so into every hard link of it."""
    saved(tmp_path / "a")
    (tmp_path / "b").mkdir()
    before = {}
    for path in (tmp_path / "a").iterdir():
        (tmp_path / "b" / path.name).hardlink_to(path)
        before[path.name] = path.read_bytes()
    saved(tmp_path / "b", seed=1)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.name in before} == before
    assert (tmp_path / "b" / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert not any((tmp_path / "a" / name).samefile(tmp_path / "b" / name) for name in before)
