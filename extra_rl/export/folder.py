"""Write the folder of an export: whole or not at all, after the policy's files were compared with its manifest."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from extra_rl.errors import InputError
from extra_rl.export import adapter, card, generation, weights
from extra_rl.export.place import Exported
from extra_rl.models.digests import STATE_FILES, is_weights, listed_files, require_listed
from extra_rl.models.files import CONFIG, GENERATION_CONFIG
from extra_rl.models.policy import share_by_umask
from extra_rl.models.removed import refuse_removed
from extra_rl.tables.files import file_digest, whole_folder

PROVENANCE = "extra_export.json"
"""What was exported, for machines."""
ADAPTER_FOLDER = "adapter"
Parts = Literal["both", "adapter", "merged"]


@dataclass(frozen=True)
class Written:
    """The folder of an export. base: that the adapter names; None without one. files: name -> size in bytes."""

    folder: Path
    base: str | None
    files: dict[str, int]


def export(
    policy: Exported,
    folder: Path,
    *,
    dtype: weights.DType = "float32",
    parts: Parts = "both",
    base: str | None = None,
    force: bool = False,
) -> Written:
    """Write weights, config, tokenizer, generation config and model card of a policy.

    Args:
        policy: as `place.find` returns it.
        folder: the new folder.
        dtype: of the written weights.
        parts: for a policy with LoRA adapters: the merged weights, with the adapter in the folder `adapter`; only the
            adapter; only the merged weights. Another policy has weights only.
        base: base model that the adapter names; None: that of the run.
        force: replace an existing folder.
    Raises InputError where the policy's files are missing or differ from its manifest, or where `folder` is in use.
    """
    require_free(folder, force)
    refuse_removed(policy.directory)
    require_listed(policy.directory, lambda name: True)
    if not any(name.endswith(".safetensors") and name not in STATE_FILES for name in listed_files(policy.directory)):
        raise InputError(f"{policy.manifest}: this policy has no weights: its rollouts were imported without a model.")
    adapted = adapter.has_adapter(policy)
    if parts == "adapter" and not adapted:
        raise InputError(f"{policy.manifest}: this policy was trained without adapters (update.lora), so it has none.")
    with whole_folder(folder, lambda: require_free(folder, force)) as made:
        found = None
        if parts != "adapter":
            _write_merged(policy, made, dtype)
            _write_card(policy, made, folder.name, None, dtype)
        if adapted and parts != "merged":
            own = made if parts == "adapter" else made / ADAPTER_FOLDER
            found = adapter.write_adapter(policy, own, dtype, base)
            if own == made:
                _write_others(policy, made)
            _write_card(policy, own, folder.name, found, dtype)
        for place in {made, made / ADAPTER_FOLDER}:
            if place.is_dir():
                share_by_umask(place)
        files = {str(path.relative_to(made)): path.stat().st_size for path in sorted(made.rglob("*")) if path.is_file()}
    return Written(folder, found, files)


def require_free(folder: Path, force: bool) -> None:
    """Raise InputError where the folder of an export exists and is not empty, unless it is to be replaced.

    A folder that is not an export is never replaced.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        raise InputError(f"{folder}: exists already. Name another folder, or add --force to replace this one.")
    if not (folder / PROVENANCE).is_file():
        raise InputError(f"{folder}: has no {PROVENANCE}, so it is not an export, and --force does not replace it.")


def _write_merged(policy: Exported, made: Path, dtype: weights.DType) -> None:
    from extra_rl.models.load import load_tokenizer
    from extra_rl.models.turns import known_end_ids

    names = [name for name in listed_files(policy.directory) if name not in STATE_FILES]
    for name in sorted(names, key=weights.is_index):  # an index after its shards
        source, target = policy.directory / name, made / name
        if name.endswith(".safetensors"):
            weights.write_weights(source, target, dtype)
        elif weights.is_index(name):
            weights.write_index(source, target)
        elif name == CONFIG:
            weights.write_config(source, target, dtype)
    _write_others(policy, made)
    ends = known_end_ids(load_tokenizer(policy.directory), policy.directory)
    sampling = policy.job.get("config", {}).get("sampling") or {}
    generation.write_generation_config(policy.directory, made, ends, sampling)


def _write_others(policy: Exported, made: Path) -> None:
    """Copy the files that are neither weights nor configs: tokenizer, chat template, whatever else the policy has."""
    for name in listed_files(policy.directory):
        if name in STATE_FILES or is_weights(name) or weights.is_index(name) or name in (CONFIG, GENERATION_CONFIG):
            continue
        if name == "tokenizer_config.json":
            generation.write_tokenizer_config(policy.directory / name, made / name)
        else:
            shutil.copyfile(policy.directory / name, made / name)


def _write_card(policy: Exported, made: Path, title: str, base: str | None, dtype: str) -> None:
    digests = {path.name: file_digest(path) for path in sorted(made.glob("*.safetensors"))}
    (made / "README.md").write_text(card.card(policy, title, base, dtype, digests))
    content: dict[str, Any] = {
        "policy": policy.name,
        "base": base,
        "facts": dict(card.provenance(policy, dtype)),
        "policy_files": listed_files(policy.directory),
        "files": {p.name: file_digest(p) for p in sorted(made.iterdir()) if p.is_file()},
    }
    (made / PROVENANCE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
