"""Load and save policies.

A policy is a directory that `AutoModelForCausalLM.from_pretrained` reads (safetensors, config, tokenizer), with a
`manifest.json` that lists every file with its digest. The manifest is written last, so a directory without one is
unfinished. A manifest may refer to a previous policy instead, because an iteration without a step copies no weights.
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
from extra_rl.tables.files import canonical_json, remove_temporary, write_whole

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
    """A loaded policy: the transformers model, its tokenizer, the ids that end a response, and its directory."""

    model: CausalLM
    tokenizer: Tokenizer
    eos_token_ids: tuple[int, ...]
    directory: Path


def resolve(manifest_path: Path) -> Path:
    """The directory with the weights of a manifest's policy; InputError where it is unfinished or has changed."""
    manifest = read_manifest(manifest_path)
    directory = manifest_path.parent
    if "same_as" in manifest:
        directory = Path(os.path.normpath(directory / manifest["same_as"]))
        if read_manifest(directory / "manifest.json")["digest"] != manifest["digest"]:
            raise InputError(
                f"{directory} is no longer the policy that {manifest_path} refers to. Delete {manifest_path} "
                "and run again; snakemake rebuilds it."
            )
    return directory


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest; InputError with the file where it is missing or unreadable."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such policy (its manifest is written last). Run the stage that writes it."
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: not a policy manifest ({error}). Delete it and run again.") from error
    if not _is_manifest(found):
        raise InputError(f"{path}: not a policy manifest (no digest, files or same_as). Delete it and run again.")
    return found


def _is_manifest(found: object) -> bool:
    """Whether it has a digest, and either files or the policy that it refers to."""
    if not isinstance(found, dict) or not isinstance(found.get("digest"), str):
        return False
    return isinstance(found.get("files"), dict) or isinstance(found.get("same_as"), str)


def weights_of(manifest_path: Path) -> int:
    """Number of weights of a manifest's policy: the elements of all parameters, shared tensors counted once."""
    return int(read_manifest(manifest_path)["weights"])


def load_policy(manifest_path: Path, *, device: str = "cpu", precision: str = "float32") -> Policy:
    """Model and tokenizer of a manifest's policy, checked against its digests.

    Raises the errors of `load_directory` and `resolve`.
    """
    policy = load_directory(resolve(manifest_path), device=device, precision=precision)
    remember(policy.model, read_manifest(manifest_path).get("probe"))
    return policy


def load_policy_model(manifest_path: Path, *, device: str = "cpu", precision: str = "float32") -> Any:
    """The model of a manifest's policy without its tokenizer, checked against its digests."""
    model = load_model(resolve(manifest_path), device=device, precision=precision)
    remember(model, read_manifest(manifest_path).get("probe"))
    return model


def load_directory(directory: Path, *, device: str = "cpu", precision: str = "float32") -> Policy:
    """Model and tokenizer of a directory with or without a manifest.

    Raises the errors of `load_model`, and ModelError where the tokenizer has ids that the model does not embed or where
    no token ends a response.
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

    Args:
        manifest_path: of the manifest; its folder is created, and a previous policy in it is replaced.
        model: transformers model.
        tokenizer: of the model.
        provenance: further keys of the manifest.
        write_state: receives the directory and writes the STATE_FILES of the next update.
    Raises InputError where a file cannot be written, ModelError where transformers cannot save the model. There is no
    manifest then.
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
        _leave_to_forks(directory)
        remove_temporary(directory)  # of a writer that was killed
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        if write_state is not None:
            write_state(directory)
        share_by_umask(directory)
        weights = sum(parameter.numel() for parameter in model.parameters())
        write_manifest(manifest_path, {**provenance, "weights": weights})


def _leave_to_forks(directory: Path) -> None:
    """Remove the files of a previous policy that a fork of the run shares: libraries write into files that exist."""
    for path in directory.iterdir():
        if path.is_file() and path.stat().st_nlink > 1:
            path.unlink()


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
    """Turn any error of the libraries into one error with the file that could not be written."""
    try:
        yield
    except (ExtraError, MemoryError):
        raise
    except Exception as error:
        reason = one_line(error).rstrip(".")
        if isinstance(error, OSError) or re.search(r"\bos error \d+|I/O error", reason):
            raise InputError(
                f"{_file_of(error, directory)}: cannot be written ({reason}), so there is "
                f"no {directory / 'manifest.json'}. {_free_space(directory)}Free space or correct the folder's "
                "permissions, and run again: the results of earlier stages are kept."
            ) from error
        raise ModelError(
            f"{directory}: transformers cannot save this policy ({reason}), so there is no "
            "manifest. Check config.json and generation_config.json of the run's initial model."
        ) from error


def _file_of(error: Exception, directory: Path) -> str | Path:
    """The file whose writing failed, as far as the error or the time stamps tell."""
    if getattr(error, "filename", None):
        return str(error.filename)  # type: ignore[attr-defined]
    if type(error).__name__ == "SafetensorError":  # it leaves no partial file
        return directory / "model.safetensors"
    files = [path for path in directory.iterdir() if path.is_file()] if directory.is_dir() else []
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=directory)


def _free_space(directory: Path) -> str:
    """A sentence about the free space at a directory or its nearest existing parent."""
    place = next((path for path in (directory, *directory.parents) if path.is_dir()), None)
    return f"{shutil.disk_usage(place).free / 1e9:.1f} GB are free there. " if place else ""


def write_manifest(manifest_path: Path, provenance: Mapping[str, Any]) -> None:
    """Write the manifest of the files next to it. Its `digest` covers all of them except STATE_FILES."""
    directory = manifest_path.parent
    names = sorted(path.name for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    files = digests_of(directory, [name for name in names if name != manifest_path.name])
    digest = _digest({name: value for name, value in files.items() if name not in STATE_FILES})
    _write_json(manifest_path, {"digest": digest, "files": files, **provenance})


def write_same_policy(manifest_path: Path, previous: Path, provenance: Mapping[str, Any]) -> None:
    """Write a manifest that refers to the policy of the manifest `previous`, without copying weights."""
    directory, manifest = resolve(previous), read_manifest(previous)
    reference = {"digest": manifest["digest"], "same_as": os.path.relpath(directory, manifest_path.parent)}
    known = {key: manifest[key] for key in ("probe", "weights") if key in manifest}
    _write_json(manifest_path, reference | known | dict(provenance))


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    write_whole(path, lambda tmp: tmp.write_text(text))


def _digest(files: Mapping[str, str]) -> str:
    import hashlib

    return hashlib.sha256(canonical_json(files).encode()).hexdigest()
