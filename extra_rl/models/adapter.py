"""Find adapter directories (adapter_config.json, as written by peft) and merge them into their base model.

LoRA, arXiv 2106.09685: a merged weight is W + alpha / rank * B A, rounded once to the precision of W.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extra_rl.errors import ModelError
from extra_rl.models.files import ADAPTER_CONFIG, CONFIG, has_weights, listed, read_json, require_whole

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
PREFIX = "base_model.model."
"""Prefix that peft adds to the names of the base model's tensors."""


@dataclass(frozen=True)
class Adapter:
    """An adapter and its base model.

    directory: of its files. base: directory or hub name of the model that it was trained on. base_revision: of the base
    on the hub. embedded: the base is the whole model in the adapter's own directory.
    """

    directory: Path
    base: Path | str
    base_revision: str | None
    embedded: bool

    def has_tokenizer(self) -> bool:
        """Whether the adapter's directory has a tokenizer."""
        return any((self.directory / name).exists() for name in TOKENIZER_FILES)


def find(place: Path | str, revision: str | None) -> Adapter | None:
    """The adapter in a directory (Path) or on the hub (str); None for a whole model.

    A whole model with a left-over adapter_config.json but without adapter weights is a whole model.
    Raises ModelError where the base is not found, where the adapter's weights are missing, and for a directory with
    both a whole model and an adapter over another base, which is ambiguous.
    """
    directory = place if isinstance(place, Path) else _fetch(place, revision)
    if directory is None or not (directory / ADAPTER_CONFIG).is_file():
        return None
    config = read_json(directory / ADAPTER_CONFIG)
    has_model = (directory / CONFIG).is_file() and has_weights(directory)
    if not any((directory / name).is_file() for name in WEIGHTS):
        if has_model:
            return None
        raise ModelError(f"{directory / WEIGHTS[0]}: the weights of the adapter in this directory are missing.")
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        if not has_model:
            raise ModelError(
                f"{directory / ADAPTER_CONFIG}: names no base model. Set base_model_name_or_path to the directory or "
                "hub name of the model that the adapter was trained on."
            )
        base = "."
    found = _base(directory, base)
    embedded = isinstance(found, Path) and found.resolve() == directory.resolve()
    if embedded and not has_model:
        raise ModelError(f"{directory / ADAPTER_CONFIG}: the adapter names its own directory as base model.")
    if has_model and not embedded:
        raise ModelError(
            f"{directory}: contains a whole model ({CONFIG} and its weights) and an adapter over {base}. Move "
            f"{ADAPTER_CONFIG} away to use the whole model, or {CONFIG} and its weights to merge the adapter."
        )
    commit = config.get("revision")
    return Adapter(directory, found, commit if isinstance(commit, str) else None, embedded)


def _base(directory: Path, base: str) -> Path | str:
    """The directory or GGUF file that `base` names; else a name on the hub. ModelError where it is neither."""
    path = Path(base).expanduser()
    # Relative to the adapter's directory, for folders that are moved with their base, or to the working directory, as
    # peft records it.
    for candidate in [directory / path, path] if not path.is_absolute() else [path]:
        if candidate.is_dir() or (candidate.is_file() and candidate.suffix == ".gguf"):
            return candidate
    if not path.is_absolute() and HUB_NAME.fullmatch(base):
        return base
    raise ModelError(
        f"{directory / ADAPTER_CONFIG}: the base model {base} does not exist. Set base_model_name_or_path to its "
        "directory or to its name on the hub."
    )


def merge(base: Any, adapter: Adapter) -> tuple[Any, bool]:
    """The base model with the adapter's weights merged in, and whether its head is still tied to its embedding.

    Prints a line to standard error. Raises ModelError where the adapter's tensors do not fit the base, for kinds of
    adapters that do not change weights, and where the logits of the merged model differ from those of base and adapter.
    """
    import torch
    from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    where = str(adapter.directory)
    for name in WEIGHTS[:1]:
        if (adapter.directory / name).is_file():
            require_whole(adapter.directory / name)
    settings = PeftConfig.from_pretrained(where)
    kind = str(getattr(settings.peft_type, "value", settings.peft_type))
    if settings.is_prompt_learning or getattr(settings, "is_adaption_prompt", False):
        raise ModelError(f"{where}: an adapter of kind {kind} adds tokens and cannot be merged into weights.")
    tied = base.config.tie_word_embeddings
    adapted = get_peft_model(base, settings).eval()
    tensors = load_peft_weights(where, device="cpu")
    _require_fit(adapted, tensors, adapter)
    set_peft_model_state_dict(adapted, tensors)
    rows = base.get_input_embeddings().weight.shape[0]
    tokens_BT = torch.arange(16).remainder(rows).unsqueeze(0)
    with torch.inference_mode():
        expected_BTV = adapted(input_ids=tokens_BT).logits.float()
        if not hasattr(adapted, "merge_and_unload"):
            raise ModelError(f"{where}: peft cannot merge an adapter of kind {kind} into weights.")
    merged = adapted.merge_and_unload()
    head, embedding = merged.get_output_embeddings(), merged.get_input_embeddings()
    tied = tied and head is not None and head.weight.data_ptr() == embedding.weight.data_ptr()
    with torch.inference_mode():
        difference = (merged(input_ids=tokens_BT).logits.float() - expected_BTV).abs().max().item()
    # A merged weight is rounded once more, by 2^-8 in bfloat16.
    allowed = (1e-3 if base.dtype == torch.float32 else 0.1) * max(1.0, expected_BTV.abs().max().item())
    if not difference <= allowed:
        raise ModelError(
            f"{where}: merging the adapter changes logits by up to {difference:.3g}: it changes a head that is tied to "
            "the embedding, or contains numbers that are not finite. Merge it with the tool that trained it."
        )
    print(f"{where}: adapter ({kind}) merged over {adapter.base}", file=sys.stderr, flush=True)
    return merged, tied


def _require_fit(adapted: Any, tensors: dict[str, Any], adapter: Adapter) -> None:
    """Raise ModelError with the adapter's tensors that are missing, unexpected, or of another shape."""
    from peft import get_peft_model_state_dict

    expected = {
        name: tuple(value.shape)
        for name, value in get_peft_model_state_dict(adapted, save_embedding_layers=False).items()
    }
    # A resized vocabulary is saved as a whole, under the base model's names.
    base = {f"{PREFIX}{name}": tuple(value.shape) for name, value in adapted.get_base_model().state_dict().items()}
    missing = expected.keys() - tensors.keys()
    unexpected = tensors.keys() - expected.keys() - base.keys()
    shapes = {**base, **expected}
    misshaped = {
        f"{name.removeprefix(PREFIX)} {tuple(value.shape)} instead of {shapes[name]}"
        for name, value in tensors.items()
        if name in shapes and tuple(value.shape) != shapes[name]
    }
    problems = [
        f"{len(found)} tensors {what} ({listed(name.removeprefix(PREFIX) for name in found)})"
        for found, what in (
            (missing, "are missing"),
            (unexpected, "belong to no layer of the base"),
            (misshaped, "have another shape"),
        )
        if found
    ]
    if problems:
        raise ModelError(
            f"{adapter.directory}: the adapter does not fit its base {adapter.base}: {'; '.join(problems)}. Set "
            "base_model_name_or_path to the model that it was trained on."
        )


@contextmanager
def without_adapter(directory: Path) -> Iterator[Path]:
    """A temporary view of a directory without the adapter's files, which transformers would otherwise load on top."""
    with tempfile.TemporaryDirectory(prefix="extra-model-") as folder:
        for path in directory.iterdir():
            if not path.name.startswith("adapter_"):
                os.symlink(path.resolve(), Path(folder) / path.name)
        yield Path(folder)


def _fetch(name: str, revision: str | None) -> Path | None:
    """The local snapshot of an adapter on the hub; None where the hub has no adapter with that name."""
    from huggingface_hub import snapshot_download
    from transformers.utils import find_adapter_config_file

    try:
        if find_adapter_config_file(name, revision=revision) is None:
            return None
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja"])
        )
    except (OSError, ValueError):
        return None  # loading the model reports the error
