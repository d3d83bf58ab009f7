"""Copy a policy's weights, or convert them to another type, one file at a time and without building the model.

Names, shards and tied heads therefore stay as they are stored, and memory is that of one tensor file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

from extra_rl.errors import ModelError
from extra_rl.models.files import INDEX_SUFFIX, read_json

DType = Literal["float32", "bfloat16", "float16"]
DTYPES: tuple[DType, ...] = ("float32", "bfloat16", "float16")


def write_weights(source: Path, target: Path, dtype: DType) -> None:
    """Write the tensors of one safetensors file; numbers that are not floating-point stay as they are.

    A file that needs no conversion is copied byte for byte. Raises ModelError where a weight is too large for the type.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    wanted = getattr(torch, dtype)
    tensors = {}
    with safe_open(source, "pt") as stored:
        metadata = dict(stored.metadata() or {})
        names = list(stored.keys())
        if all(stored.get_slice(name).get_dtype() in (CODES[dtype], *WHOLE) for name in names):
            shutil.copyfile(source, target)
            return
        for name in names:
            value = stored.get_tensor(name)
            converted = value.to(wanted) if value.is_floating_point() else value
            if not torch.isfinite(converted).all():
                raise ModelError(
                    f"{source}: {name} has weights up to {value.abs().max().item():.3g}, which {dtype} cannot hold. "
                    "Export with --dtype bfloat16, or float32."
                )
            tensors[name] = converted.contiguous()
    save_file(tensors, target, {"format": "pt", **metadata})


CODES: dict[DType, str] = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""Type -> its name in safetensors."""
WHOLE = ("I8", "U8", "I16", "I32", "I64", "BOOL")
"""Types that are never converted."""


def write_index(source: Path, target: Path) -> None:
    """Write the index of shards with the size of the written shards, which must lie next to `target`."""
    from safetensors import safe_open

    index = read_json(source)
    total = 0
    for shard in sorted(set(index["weight_map"].values())):
        with safe_open(target.parent / shard, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                tensor = stored.get_tensor(name)
                total += tensor.numel() * tensor.element_size()
    index["metadata"] = {**index["metadata"], "total_size": total}
    target.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def write_config(source: Path, target: Path, dtype: DType) -> None:
    """Write config.json with the type of the weights, which `from_pretrained` loads by default."""
    config = read_json(source)
    config.pop("torch_dtype", None)
    if config.get("dtype") == dtype:
        shutil.copyfile(source, target)
        return
    target.write_text(json.dumps({**config, "dtype": dtype}, indent=2, sort_keys=True) + "\n")


def is_index(name: str) -> bool:
    """Whether a file lists the shards of a model."""
    return name.endswith(INDEX_SUFFIX)
