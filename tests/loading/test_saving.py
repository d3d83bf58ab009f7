"""A failed save is one error with the name of the file, and leaves no manifest."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from extra_rl.errors import InputError, ModelError
from extra_rl.models.policy import save_policy
from extra_rl.training.optimizer_file import write_optimizer
from tests.loading.checkpoints import TOKENIZER
from tests.models import random_qwen3


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "model.safetensors"), InputError),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), InputError),
        (PermissionError(errno.EACCES, "Permission denied"), InputError),
        (SafetensorError("I/O error: No space left on device (os error 28)"), InputError),
        (Exception("No space left on device (os error 28)"), InputError),
        (ValueError("GenerationConfig is invalid:\n- x"), ModelError),
        (RuntimeError("shared tensors"), ModelError),
    ],
)
@pytest.mark.parametrize("saves", ["model", "tokenizer", "state"])
def test_a_failed_save_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, kind: type[Exception], saves: str
) -> None:
    model = random_qwen3()
    save_policy(tmp_path / "manifest.json", model, TOKENIZER, {})

    def fail(*arguments: Any, **options: Any) -> None:
        (tmp_path / "half.safetensors").write_bytes(b"half")
        raise fault

    failing = {"model": model, "tokenizer": TOKENIZER}.get(saves)
    if failing is not None:
        monkeypatch.setattr(type(failing), "save_pretrained", fail)
    with pytest.raises(kind) as caught:
        save_policy(tmp_path / "manifest.json", model, TOKENIZER, {}, fail if failing is None else None)
    message = str(caught.value)
    assert "\n" not in message
    assert not (tmp_path / "manifest.json").exists()
    if kind is InputError:
        named = isinstance(fault, SafetensorError) or getattr(fault, "filename", None)
        assert ("model.safetensors" if named else f"{tmp_path}/half.safetensors") in message
        assert "GB are free" in message
    else:
        assert str(tmp_path) in message


def test_what_a_killed_writer_left_goes_with_the_next_save(tmp_path: Path) -> None:
    (tmp_path / ".tmp8a6ZDQ").write_bytes(b"half")  # as safetensors names it
    save_policy(tmp_path / "manifest.json", random_qwen3(), TOKENIZER, {})
    assert (tmp_path / "manifest.json").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []


def test_a_full_disk(tmp_path: Path) -> None:
    """The kernel refuses to let a file grow, as a full disk would."""
    import resource

    import torch

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        with pytest.raises(InputError, match=f"{tmp_path}/model.safetensors: "):
            save_policy(tmp_path / "manifest.json", random_qwen3(vocabulary=400), TOKENIZER, {})
        with pytest.raises(InputError, match=f"{tmp_path}/optimizer.safetensors: "):
            write_optimizer(tmp_path, {"exp_avg/w": torch.zeros(50_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "manifest.json").exists()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=str(tmp_path / "file")):
        save_policy(tmp_path / "file" / "policy" / "manifest.json", random_qwen3(), TOKENIZER, {})


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_weights_have_the_permissions_of_any_new_file(tmp_path: Path, umask: int, mode: int) -> None:
    """safetensors writes with mode 0600 whatever the umask."""
    import torch

    def write_state(directory: Path) -> None:
        write_optimizer(directory, {"step": torch.zeros(1)})

    before = os.umask(umask)
    try:
        save_policy(tmp_path / "manifest.json", random_qwen3(), TOKENIZER, {}, write_state)
    finally:
        os.umask(before)
    names = ("model.safetensors", "optimizer.safetensors", "config.json", "manifest.json")
    assert {name: (tmp_path / name).stat().st_mode & 0o777 for name in names} == dict.fromkeys(names, mode)
