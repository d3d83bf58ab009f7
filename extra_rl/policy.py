"""Policies on disk and in memory: load and save.

A policy is a directory that `AutoModelForCausalLM.from_pretrained` reads (safetensors, config, tokenizer),
with a `manifest.json` that is written last: it names every file with its digest, so a directory without a manifest is
unfinished. A manifest may point to a former policy instead (an iteration that took no step copies no weights).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extra_rl.errors import InputError, ModelError
from extra_rl.models.turns import eos_token_ids as eos_token_ids
from extra_rl.removed import REMOVED_FILE, refuse_removed, remove_file
from extra_rl.tables.files import canonical_json, file_digest, write_whole

OPTIMIZER_FILE = "optimizer.safetensors"
ADAPTER_FILE = "adapter.safetensors"
STATE_FILES = (OPTIMIZER_FILE, ADAPTER_FILE)
"""What the next update goes on from. It lies beside the policy and is no part of it: the policy's digest leaves it out,
and no sampler sees it."""


@dataclass(frozen=True)
class Policy:
    """A loaded policy: the transformers model, its tokenizer and the ids that end a response."""

    model: Any
    tokenizer: Any
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
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such policy (its manifest is written last). Run the stage that makes it."
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: not a policy manifest ({error}). Delete it and run again.") from error
    assert isinstance(found, dict)
    return found


def load_model(
    source: Path | str, revision: str | None = None, *, device: str = "cpu", precision: str = "float32"
) -> Any:
    """The causal language model in a directory or of that name on the hub, in evaluation mode, on `device`.

    precision: of its weights, `float32` or `bfloat16`. ModelError when it cannot be read, InputError when retention has
    removed its weights.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    refuse_removed(Path(source))
    try:
        dtype = getattr(torch, precision)
        model = AutoModelForCausalLM.from_pretrained(source, revision=revision, dtype=dtype)
        return model.to(device).eval()
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(source, "causal language model", error) from error


def load_tokenizer(directory: Path | str, revision: str | None = None) -> Any:
    """The tokenizer in `directory`, or of that name (and revision) on the hub."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(directory, revision=revision)
    except (OSError, ValueError) as error:
        raise _unreadable(directory, "tokenizer", error) from error


def _unreadable(source: Path | str, what: str, error: Exception) -> ModelError:
    if Path(source).is_dir():
        return ModelError(f"{source}: cannot load a {what} from this directory: {error}")
    return ModelError(f"{source}: there is no such directory, and no {what} of that name on the hub: {error}")


def load_policy(manifest_path: Path, *, device: str = "cpu", precision: str = "float32") -> Policy:
    """Model and tokenizer of the policy that a manifest stands for."""
    directory = resolve(manifest_path)
    model, tokenizer = load_model(directory, device=device, precision=precision), load_tokenizer(directory)
    return Policy(model, tokenizer, eos_token_ids(model, tokenizer, directory), directory)


def save_policy(
    manifest_path: Path,
    model: Any,
    tokenizer: Any,
    provenance: Mapping[str, Any],
    write_state: Callable[[Path], None] | None = None,
) -> None:
    """Writes weights, config and tokenizer beside `manifest_path`, then the manifest.

    write_state: is given the directory, and writes the STATE_FILES that the next update goes on from.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    directory = manifest_path.parent
    directory.mkdir(parents=True, exist_ok=True)
    manifest_path.unlink(missing_ok=True)
    (directory / REMOVED_FILE).unlink(missing_ok=True)
    for name in STATE_FILES:
        remove_file(directory / name)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    if write_state is not None:
        write_state(directory)
    write_manifest(manifest_path, provenance)


def write_manifest(manifest_path: Path, provenance: Mapping[str, Any]) -> None:
    """The manifest of the files beside it. `digest` is over what defines the policy: all but STATE_FILES."""
    files = {
        path.name: file_digest(path)
        for path in sorted(manifest_path.parent.iterdir())
        if path.is_file() and path.name != manifest_path.name and not path.name.startswith(".")
    }
    digest = _digest({name: value for name, value in files.items() if name not in STATE_FILES})
    _write_json(manifest_path, {"digest": digest, "files": files, **provenance})


def write_same_policy(manifest_path: Path, former: Path, provenance: Mapping[str, Any]) -> None:
    """A manifest that stands for the policy of `former`: no optimizer step was taken, no weights are copied."""
    directory = resolve(former)
    manifest = {
        "digest": read_manifest(former)["digest"],
        "same_as": os.path.relpath(directory, manifest_path.parent),
        **provenance,
    }
    _write_json(manifest_path, manifest)


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    write_whole(path, lambda tmp: tmp.write_text(text))


def _digest(files: Mapping[str, str]) -> str:
    import hashlib

    return hashlib.sha256(canonical_json(files).encode()).hexdigest()
