"""Weights that change while a stage uses them: refused before anything is written, and kept out of the sample cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from extra_rl.errors import InputError
from extra_rl.models.policy import write_manifest
from extra_rl.models.watch import WeightsWatch


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"weights" * 100)
    (tmp_path / "config.json").write_text("{}")
    write_manifest(tmp_path / "manifest.json", {"name": "extra/s0/i0/policy"})
    return tmp_path


def damage(path: Path) -> None:
    """In place, with size and mtime restored: only ctime tells."""
    status = path.stat()
    with path.open("r+b") as handle:
        handle.seek(50)
        handle.write(b"X")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_unchanged_and_touched_weights_pass(policy: Path) -> None:
    watch = WeightsWatch([policy])
    watch.require_unchanged()
    (policy / "model.safetensors").touch()
    (policy / "config.json").write_text("{ }")
    watch.require_unchanged()


def test_weights_that_changed_are_refused_by_their_digest(policy: Path) -> None:
    watch = WeightsWatch([policy])
    damage(policy / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors is not the file that .*manifest\.json lists"):
        watch.require_unchanged()


def test_without_a_manifest_any_change_is_refused(policy: Path) -> None:
    (policy / "manifest.json").unlink()
    watch = WeightsWatch([policy])
    os.link(policy / "model.safetensors", policy / "copy")  # another ctime, the same file
    watch.require_unchanged()
    (policy / "model.safetensors").write_bytes(b"others" * 100)
    with pytest.raises(InputError, match="changed while it was in use"):
        watch.require_unchanged()
    (policy / "model.safetensors").unlink()
    with pytest.raises(InputError, match="changed while it was in use"):
        watch.require_unchanged()


def test_a_directory_that_is_not_there_has_nothing_to_watch(tmp_path: Path) -> None:
    WeightsWatch([tmp_path / "hub" / "name"]).require_unchanged()
