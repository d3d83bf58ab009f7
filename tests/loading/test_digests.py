"""Files of a policy are compared with its manifest before use, once per file."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from extra_rl.errors import InputError
from extra_rl.models import digests
from extra_rl.models.policy import (
    ADAPTER_FILE,
    OPTIMIZER_FILE,
    load_model,
    load_policy,
    load_policy_model,
    load_tokenizer,
    read_manifest,
    save_policy,
    write_manifest,
    write_same_policy,
)
from extra_rl.models.removed import FORGOTTEN_FILE
from extra_rl.training.optimizer_file import read_optimizer, write_optimizer
from tests.loading.checkpoints import TOKENIZER, change_json, flip_a_bit
from tests.models import random_qwen3

STATE = {"step/w": torch.tensor(3.0), "exp_avg/w": torch.arange(4.0)}


def saved(folder: Path, state: bool = False) -> Path:
    def write_state(directory: Path) -> None:
        write_optimizer(directory, STATE)

    save_policy(folder / "manifest.json", random_qwen3(), TOKENIZER, {"name": "x"}, write_state if state else None)
    return folder / "manifest.json"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed."""
    names: list[str] = []
    real = digests.file_digest

    def noted(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(digests, "file_digest", noted)
    return names


@pytest.mark.parametrize("read", [load_policy, load_policy_model, lambda manifest: load_model(manifest.parent)])
@pytest.mark.parametrize("checked_before", [False, True])
def test_a_flipped_bit_is_detected_although_size_and_mtime_are_unchanged(
    tmp_path: Path, read: Any, checked_before: bool
) -> None:
    manifest = saved(tmp_path)
    if checked_before:
        time.sleep(0.06)
        load_policy(manifest)
    file = tmp_path / "model.safetensors"
    before = file.stat()
    flip_a_bit(file)
    after = file.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    with pytest.raises(InputError, match=r"model\.safetensors is not the file that .*manifest\.json lists"):
        read(manifest)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_configs_and_tokenizer_are_compared_too(tmp_path: Path, name: str) -> None:
    manifest = saved(tmp_path)
    (tmp_path / name).write_text((tmp_path / name).read_text() + " ")
    for read in (load_policy, lambda manifest: load_tokenizer(manifest.parent)):
        with pytest.raises(InputError, match=f"{name} is not the file"):
            read(manifest)


def test_a_file_is_hashed_once(tmp_path: Path, hashed: list[str]) -> None:
    manifest = saved(tmp_path)
    time.sleep(0.06)
    load_policy(manifest)  # records files that are older than YOUNG_NS
    del hashed[:]
    load_policy(manifest)
    load_policy_model(manifest)
    assert hashed == []
    os.utime(tmp_path / "model.safetensors")
    load_policy(manifest)
    assert hashed == ["model.safetensors"]
    shutil.copytree(tmp_path, tmp_path / "copy")
    del hashed[:]
    load_policy(tmp_path / "copy" / "manifest.json")
    assert set(hashed) == set(read_manifest(manifest)["files"])


def test_files_that_were_hashed_for_the_manifest_are_recorded_if_old_enough(tmp_path: Path, hashed: list[str]) -> None:
    manifest = saved(tmp_path)
    time.sleep(0.06)
    write_manifest(manifest, {})
    assert "model.safetensors" in hashed
    del hashed[:]
    load_policy(manifest)
    assert hashed == []
    assert digests.CHECKED_FILE not in read_manifest(manifest)["files"]


def test_a_young_file_is_not_recorded(tmp_path: Path, hashed: list[str]) -> None:
    """Two changes within one tick of the clock have the same times."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "old").write_text("x")
    time.sleep(0.06)
    os.utime(tmp_path / "a")
    digests.digests_of(tmp_path, ["a", "old"])
    entries = json.loads((tmp_path / digests.CHECKED_FILE).read_text())
    assert [key.split("@")[0] for key in entries] == ["old"]


def test_without_a_writable_record_every_reader_checks(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = saved(tmp_path)
    (tmp_path / digests.CHECKED_FILE).unlink(missing_ok=True)
    time.sleep(0.06)

    def refuse(*arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(digests.os, "replace", refuse)
    for _ in range(2):
        del hashed[:]
        load_policy(manifest)
        assert "model.safetensors" in hashed
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"config.json@1": 3}'])
def test_a_damaged_record_is_ignored(tmp_path: Path, content: str, hashed: list[str]) -> None:
    manifest = saved(tmp_path)
    (tmp_path / digests.CHECKED_FILE).write_text(content)
    del hashed[:]
    load_policy(manifest)
    assert "model.safetensors" in hashed


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    manifest = saved(tmp_path / "iteration_0003" / "policy")
    (manifest.parent / "generation_config.json").unlink()
    with pytest.raises(InputError, match=r"generation_config\.json is missing") as caught:
        load_policy(manifest)
    assert "--allowed-rules update" in str(caught.value)


def test_weights_that_are_not_in_the_manifest_are_refused(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "extra.safetensors")
    with pytest.raises(InputError, match=r"extra\.safetensors is not listed"):
        load_policy(manifest)


def test_the_advice_depends_on_the_stage_that_wrote_the_policy(tmp_path: Path) -> None:
    for folder, expected in (
        ("warm_start_1/policy", "--allowed-rules warm_start"),
        ("iteration_0004/policy", "--allowed-rules update"),
        ("somewhere", "manifest.json"),
    ):
        manifest = saved(tmp_path / folder)
        flip_a_bit(manifest.parent / "model.safetensors")
        with pytest.raises(InputError) as caught:
            load_policy(manifest)
        assert expected in str(caught.value)
        assert str(manifest) in str(caught.value)
    manifest.unlink()
    load_model(manifest.parent)


def test_a_reference_to_another_policy_is_followed(tmp_path: Path) -> None:
    first, second = saved(tmp_path / "a" / "policy"), tmp_path / "b" / "policy" / "manifest.json"
    write_same_policy(second, first, {})
    assert torch.equal(load_model(second.parent).lm_head.weight, random_qwen3().lm_head.weight)
    assert load_tokenizer(second.parent).get_vocab() == TOKENIZER.get_vocab()
    flip_a_bit(first.parent / "model.safetensors")
    for read in (load_policy_model, lambda manifest: load_model(manifest.parent)):
        with pytest.raises(InputError, match=r"a/policy/model\.safetensors is not the file"):
            read(second)


def test_a_lost_or_damaged_optimizer_state_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "iteration_0002" / "policy"
    saved(directory, state=True)
    file = directory / OPTIMIZER_FILE
    assert read_optimizer(directory).keys() == STATE.keys()
    content = file.read_bytes()
    flip_a_bit(file)
    with pytest.raises(InputError, match=r"optimizer\.safetensors is not the file"):
        read_optimizer(directory)
    load_model(directory)  # readers of the weights do not check it
    file.unlink()
    with pytest.raises(InputError, match=r"optimizer\.safetensors is missing") as caught:
        read_optimizer(directory)
    assert f"touch {directory / FORGOTTEN_FILE}" in str(caught.value)
    load_model(directory)
    (directory / FORGOTTEN_FILE).touch()
    assert read_optimizer(directory) == {}
    assert "WARNING" in capsys.readouterr().err
    (directory / FORGOTTEN_FILE).unlink()
    file.write_bytes(content)
    assert read_optimizer(directory).keys() == STATE.keys()
    (directory / FORGOTTEN_FILE).touch()
    saved(directory, state=True)
    assert not (directory / FORGOTTEN_FILE).exists()
    saved(directory)
    assert read_optimizer(directory) == {}  # there never was one


def test_the_adapter_file_of_an_update_is_checked_by_its_reader(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    (tmp_path / ADAPTER_FILE).write_bytes(b"adapter")
    write_manifest(manifest, {})
    assert digests.require_file(tmp_path, ADAPTER_FILE)
    flip_a_bit(tmp_path / ADAPTER_FILE, 0)
    load_policy(manifest)
    with pytest.raises(InputError, match=r"adapter\.safetensors is not the file"):
        digests.require_file(tmp_path, ADAPTER_FILE)


def test_a_manifest_of_another_tool_is_ignored(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    for content in ("[]", '{"files": {"config.json": "0"}}', '{"name": "web app"}'):
        manifest.write_text(content)
        load_model(tmp_path)
    change_json(manifest, digest="0", files={"config.json": "0" * 64}, name=None)
    with pytest.raises(InputError):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", '{"digest": "0"}', '{"digest": "0", "files": {}}', '{"digest": "0", "files": {"config.json": 1}}']
)
def test_a_manifest_without_a_list_of_files_is_an_error(tmp_path: Path, content: str) -> None:
    manifest = saved(tmp_path)
    manifest.write_text(content)
    for read in (load_model, load_tokenizer):
        with pytest.raises(InputError, match=r"manifest\.json: .*delete .*manifest\.json"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", "[]"),
        ("manifest.json", '{"files": {}}'),
        ("manifest.json", '{"digest": "0"}'),
        ("manifest.json", '{"digest": "0", "same_as": 3}'),
        ("removed.json", "{"),
        ("removed.json", "[]"),
    ],
)
def test_an_invalid_manifest_or_record_of_removed_files_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    manifest = saved(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=name):
        load_policy(manifest)


@pytest.mark.parametrize("remembered", [[1], "x", {"key": "x"}, {"key": "x", "paths": [1]}])
def test_stored_paths_of_another_form_are_ignored(tmp_path: Path, remembered: Any) -> None:
    manifest = saved(tmp_path)
    change_json(manifest, probe=remembered)
    assert load_policy(manifest).model.__dict__["extra_remembered"] == {}
