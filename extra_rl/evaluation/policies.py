"""The evaluated policy and its digest: of a run, of a local transformers directory, or of a name on the hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from extra_rl.errors import InputError, ModelError
from extra_rl.models.adapter import find as find_adapter
from extra_rl.models.files import ADAPTER_CONFIG
from extra_rl.models.policy import STATE_FILES, read_manifest, resolve
from extra_rl.tables.files import canonical_json, file_digest

HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""Files that are downloaded of a model on the hub and hashed: weights (no pickles), configs, tokenizer."""
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class EvaluatedPolicy:
    """A policy to evaluate.

    name: for messages. path: its manifest, or a directory without one. directory: of its files. digest: SHA-256 of its
    files, independent of their place.
    """

    name: str
    path: Path
    directory: Path
    digest: str


def policy_of_manifest(manifest: Path) -> EvaluatedPolicy:
    """Return a policy of a run, with the name and digest of its manifest, which may refer to a previous policy."""
    found = read_manifest(manifest)
    return EvaluatedPolicy(str(found.get("name", manifest.parent)), manifest, resolve(manifest), str(found["digest"]))


def find_policy(model: str, revision: str | None = None) -> EvaluatedPolicy:
    """Return the policy that `model` names: a manifest, a directory with or without one, or a model on the hub.

    Raises InputError for another path, ModelError for a name that the hub does not provide.
    """
    path = Path(model)
    if path.name == "manifest.json" and path.is_file():
        return policy_of_manifest(path)
    for manifest in (path / "manifest.json", path / "policy" / "manifest.json"):
        if manifest.is_file():
            return policy_of_manifest(manifest)
    if (path / "config.json").is_file():
        return _directory(model, path, lambda name: True)
    if (path / ADAPTER_CONFIG).is_file():
        return _adapter(model, path)
    if path.exists() or not HUB_NAME.fullmatch(model) or model.startswith("."):
        raise InputError(
            f"{model}: not a policy. Name a manifest.json of a run, a directory with one, a directory of a "
            "transformers model (config.json) or of an adapter, or a model on the hub (owner/name). A GGUF file is "
            "evaluated by `snakemake evaluate` with model.source."
        )
    directory = fetch(model, revision)
    label = f"{model}@{revision}" if revision else model
    return _directory(label, directory, lambda name: any(fnmatch(name, pattern) for pattern in HUB_FILES))


def _directory(name: str, directory: Path, belongs: Callable[[str], bool]) -> EvaluatedPolicy:
    files = {
        path.name: file_digest(path)
        for path in sorted(directory.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.name not in STATE_FILES and belongs(path.name)
    }
    # as in a manifest (extra_rl.models.policy.write_manifest), so a policy and its copy without one share a cache
    return EvaluatedPolicy(name, directory, directory, hashlib.sha256(canonical_json(files).encode()).hexdigest())


def _adapter(name: str, directory: Path) -> EvaluatedPolicy:
    """Return the policy of an adapter; its digest includes the base model."""
    found = find_adapter(directory, None)
    assert found is not None  # find_policy has found an adapter configuration
    base = find_policy(str(found.base), found.base_revision)
    own = _directory(name, directory, lambda name: True)
    return replace(own, digest=hashlib.sha256(f"{own.digest} {base.digest}".encode()).hexdigest())


def fetch(model: str, revision: str | None) -> Path:
    """Return the local snapshot of a model on the hub, downloaded if it is missing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        which = f" at revision {revision}" if revision else ""
        raise ModelError(
            f"{model}: no such directory, and the hub provides no model of that name{which}: "
            f"{str(error).splitlines()[0]} Without a network, name a local directory."
        ) from error
