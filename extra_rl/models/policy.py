"""Policies on disk and in memory: load and save.

A policy is a directory that `AutoModelForCausalLM.from_pretrained` reads (safetensors, config, tokenizer),
with a `manifest.json` that is written last: it names every file with its digest, so a directory without a manifest is
unfinished. A manifest may point to a former policy instead (an iteration that took no step copies no weights).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extra_rl.errors import ExtraError, InputError, ModelError
from extra_rl.models.checks import require_vocabulary
from extra_rl.models.digests import STATE_FILES, digests_of
from extra_rl.models.files import one_line
from extra_rl.models.load import load_model, load_tokenizer
from extra_rl.models.probe import remember
from extra_rl.models.protocol import CausalLM, Tokenizer
from extra_rl.models.removed import FORGOTTEN_FILE, REMOVED_FILE, remove_file
from extra_rl.models.turns import eos_token_ids
from extra_rl.tables.files import canonical_json, write_whole

__all__ = [
    "ADAPTER_FILE",
    "OPTIMIZER_FILE",
    "STATE_FILES",
    "Policy",
    "eos_token_ids",
    "load_directory",
    "load_model",
    "load_policy",
    "load_policy_model",
    "load_tokenizer",
    "read_manifest",
    "resolve",
    "save_policy",
    "share_by_umask",
    "weights_of",
    "write_manifest",
    "write_same_policy",
]

OPTIMIZER_FILE, ADAPTER_FILE = STATE_FILES


@dataclass(frozen=True)
class Policy:
    """A loaded policy: the transformers model, its tokenizer and the ids that end a response."""

    model: CausalLM
    tokenizer: Tokenizer
    eos_token_ids: tuple[int, ...]
    directory: Path


def resolve(manifest_path: Path) -> Path:
    """The directory that holds the weights a manifest stands for; InputError when it is unfinished or damaged."""
    manifest = read_manifest(manifest_path)
    directory = manifest_path.parent
    if "same_as" in manifest:
        directory = Path(os.path.normpath(directory / manifest["same_as"]))
        if read_manifest(directory / "manifest.json")["digest"] != manifest["digest"]:
            raise InputError(
                f"{directory} is no longer the policy that {manifest_path} stands for. Delete {manifest_path} "
                "and run again; snakemake rebuilds it."
            )
    return directory


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest; InputError names the file when it is missing or unreadable."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such policy (its manifest is written last). Run the stage that makes it."
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: not a policy manifest ({error}). Delete it and run again.") from error
    if not _is_manifest(found):
        raise InputError(f"{path}: not a policy manifest (no digest, files or same_as). Delete it and run again.")
    return found


def _is_manifest(found: object) -> bool:
    """Whether it has a digest, and either files or the policy that it stands for."""
    if not isinstance(found, dict) or not isinstance(found.get("digest"), str):
        return False
    return isinstance(found.get("files"), dict) or isinstance(found.get("same_as"), str)


def weights_of(manifest_path: Path) -> int:
    """How many weights the policy of a manifest has: elements of all parameters, each tensor once."""
    return int(read_manifest(manifest_path)["weights"])


def load_policy(manifest_path: Path, *, device: str = "cpu", precision: str = "float32") -> Policy:
    """Model and tokenizer of the policy that a manifest stands for, checked against its digests."""
    policy = load_directory(resolve(manifest_path), device=device, precision=precision)
    remember(policy.model, read_manifest(manifest_path).get("probe"))
    return policy


def load_policy_model(manifest_path: Path, *, device: str = "cpu", precision: str = "float32") -> Any:
    """The model alone of the policy that a manifest stands for, checked against its digests."""
    model = load_model(resolve(manifest_path), device=device, precision=precision)
    remember(model, read_manifest(manifest_path).get("probe"))
    return model


def load_directory(directory: Path, *, device: str = "cpu", precision: str = "float32") -> Policy:
    """Model and tokenizer of a directory with or without a manifest.

    Raises ModelError also where the tokenizer has ids that the model does not embed, or nothing ends a response.
    """
    model, tokenizer = load_model(directory, device=device, precision=precision), load_tokenizer(directory)
    require_vocabulary(str(directory), model, tokenizer)
    return Policy(model, tokenizer, eos_token_ids(model, tokenizer, directory), directory)


def save_policy(
    manifest_path: Path,
    model: CausalLM,
    tokenizer: Tokenizer,
    provenance: Mapping[str, Any],
    write_state: Callable[[Path], None] | None = None,
) -> None:
    """Write weights, config and tokenizer next to `manifest_path`, then the manifest.

    write_state: is given the directory, and writes the STATE_FILES that the next update goes on from.
    Raises InputError where the disk does not take a file, ModelError where transformers cannot save the model; there is
    no manifest then.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    directory = manifest_path.parent
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        manifest_path.unlink(missing_ok=True)
        for name in (REMOVED_FILE, FORGOTTEN_FILE):
            (directory / name).unlink(missing_ok=True)
        for name in STATE_FILES:
            remove_file(directory / name)
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        if write_state is not None:
            write_state(directory)
        share_by_umask(directory)
        weights = sum(parameter.numel() for parameter in model.parameters())
        write_manifest(manifest_path, {**provenance, "weights": weights})


def share_by_umask(directory: Path) -> None:
    """Give the files of a policy the permissions of any new file: safetensors writes its own with mode 0600, which a
    colleague or another account could not read."""
    umask = os.umask(0)
    os.umask(umask)
    for path in directory.iterdir():
        if path.is_file() and path.name.endswith(".safetensors"):
            path.chmod(0o666 & ~umask)


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Turn what the libraries raise while a policy is written into one error that names the file."""
    try:
        yield
    except (ExtraError, MemoryError):
        raise
    except Exception as error:
        reason = one_line(error).rstrip(".")
        if isinstance(error, OSError) or re.search(r"\bos error \d+|I/O error", reason):
            raise InputError(
                f"{_file_of(error, directory)}: cannot be written ({reason}), so there is "
                f"no {directory / 'manifest.json'}. {_free_space(directory)}Make room or correct the folder's "
                "permissions, and run again: the stages before it are kept."
            ) from error
        raise ModelError(
            f"{directory}: transformers cannot save this policy ({reason}), so there is no "
            "manifest. Look at config.json and generation_config.json of the model that the run started from."
        ) from error


def _file_of(error: Exception, directory: Path) -> str | Path:
    """The file that was being written when writing stopped."""
    if getattr(error, "filename", None):
        return str(error.filename)  # type: ignore[attr-defined]
    if type(error).__name__ == "SafetensorError":  # it leaves no half-written file
        return directory / "model.safetensors"
    files = [path for path in directory.iterdir() if path.is_file()] if directory.is_dir() else []
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=directory)


def _free_space(directory: Path) -> str:
    place = next((path for path in (directory, *directory.parents) if path.is_dir()), None)
    return f"{shutil.disk_usage(place).free / 1e9:.1f} GB are free there. " if place else ""


def write_manifest(manifest_path: Path, provenance: Mapping[str, Any]) -> None:
    """The manifest of the files beside it. `digest` is over what defines the policy: all but STATE_FILES."""
    directory = manifest_path.parent
    names = sorted(path.name for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    files = digests_of(directory, [name for name in names if name != manifest_path.name])
    digest = _digest({name: value for name, value in files.items() if name not in STATE_FILES})
    _write_json(manifest_path, {"digest": digest, "files": files, **provenance})


def write_same_policy(manifest_path: Path, former: Path, provenance: Mapping[str, Any]) -> None:
    """A manifest that stands for the policy of `former`: no optimizer step was taken, no weights are copied."""
    directory, previous = resolve(former), read_manifest(former)
    kept = {"digest": previous["digest"], "same_as": os.path.relpath(directory, manifest_path.parent)}
    known = {key: previous[key] for key in ("probe", "weights") if key in previous}
    _write_json(manifest_path, kept | known | dict(provenance))


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    write_whole(path, lambda tmp: tmp.write_text(text))


def _digest(files: Mapping[str, str]) -> str:
    import hashlib

    return hashlib.sha256(canonical_json(files).encode()).hexdigest()
