"""Which policy a name stands for, and its digest: equal for equal files, another for a changed one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from extra_rl.errors import InputError, ModelError
from extra_rl.evaluation.policies import HUB_FILES, find_policy
from extra_rl.models.policy import STATE_FILES, read_manifest, write_same_policy
from tests.conftest import POLICY

DIGEST = read_manifest(POLICY / "manifest.json")["digest"]


def without_manifest(folder: Path) -> Path:
    copy = Path(shutil.copytree(POLICY, folder / "copy"))
    (copy / "manifest.json").unlink()
    return copy


def test_a_policy_of_a_run_is_found_by_manifest_directory_or_parent_folder(tmp_path: Path) -> None:
    shutil.copytree(POLICY, tmp_path / "iteration" / "policy")
    names = [POLICY / "manifest.json", POLICY, tmp_path / "iteration"]
    assert {find_policy(str(name)).digest for name in names} == {DIGEST}
    assert find_policy(str(tmp_path / "iteration")).directory == tmp_path / "iteration" / "policy"


def test_a_policy_without_a_step_is_the_previous_one(tmp_path: Path) -> None:
    manifest = tmp_path / "later" / "manifest.json"
    write_same_policy(manifest, POLICY / "manifest.json", {"name": "extra/s0/i3/policy"})
    found = find_policy(str(manifest))
    assert (found.name, found.digest) == ("extra/s0/i3/policy", DIGEST)
    assert found.directory.samefile(POLICY)


def test_the_digest_of_a_bare_directory_is_that_of_its_manifest(tmp_path: Path) -> None:
    copy = without_manifest(tmp_path)
    for name in STATE_FILES:
        (copy / name).write_bytes(b"not what the policy is")
    (copy / ".hidden").touch()
    assert find_policy(str(copy)).digest == DIGEST


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_changed_file_is_another_policy(tmp_path: Path, file: str) -> None:
    copy = without_manifest(tmp_path)
    with (copy / file).open("ab") as handle:
        handle.write(b" ")
    assert find_policy(str(copy)).digest != DIGEST


@pytest.mark.parametrize("name", ["no/such/place", "./nothing", "/nowhere", "a b", "tests"])
def test_a_path_without_a_policy_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="not a policy"):
        find_policy(str(Path(__file__).parents[2] / name) if name == "tests" else name)


def test_a_hub_model_is_its_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, asked = without_manifest(tmp_path), []
    (snapshot / "README.md").write_text("a card, which is no part of the policy")

    def download(name: str, **options: object) -> str:
        asked.append((name, options))
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = find_policy("owner/model", "v1")
    assert asked == [("owner/model", {"revision": "v1", "allow_patterns": list(HUB_FILES)})]
    assert (found.name, found.digest, found.path) == ("owner/model@v1", DIGEST, snapshot)


def test_without_a_network_a_hub_name_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"^owner/model: no such directory.*name a local directory\.$"):
        find_policy("owner/model")
