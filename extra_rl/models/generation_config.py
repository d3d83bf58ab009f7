"""Repair generation configs that transformers refuses to read or to save, with a warning.

Only their token ids matter here, because ExTra samples with its own settings (`sampling`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extra_rl.errors import ModelError
from extra_rl.models.files import GENERATION_CONFIG, one_line, read_json
from extra_rl.models.protocol import CausalLM

TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def read_repaired(source: Path | str, revision: str | None = None) -> Any | None:
    """The repaired generation config of a local directory or of a model on the hub; None where it needs no repair.

    Raises ModelError for a file that is not a JSON object, and where `eos_token_id` is not a token id.
    """
    path = _file(source, revision)
    return None if path is None else repaired(read_json(path), str(path))


def repair(model: CausalLM, source: Path | str) -> None:
    """Repair the generation config of a loaded model; transformers does not validate one derived from config.json."""
    config = getattr(model, "generation_config", None)
    if config is not None:
        model.generation_config = repaired(config.to_diff_dict(), str(source)) or config


def repaired(content: Mapping[str, Any], where: str) -> Any | None:
    """A generation config that can be saved; None where `content` can be saved unchanged.

    With sampling parameters but without `do_sample`, `do_sample: true` is added. If that is not enough, only the token
    ids are kept. Prints a warning to standard error. where: the file, for the message.
    Raises ModelError where `eos_token_id` is not a token id, or where nothing can be kept.
    """
    ids = _token_ids(content, where)
    given = {**{key: value for key, value in content.items() if key not in TOKEN_IDS}, **ids}
    fault = _fault(given)
    if fault is None and len(given) == len(content):
        return None
    dropped = sorted(set(content) - set(given))
    attempts = (
        (given, f"dropped {', '.join(dropped)}"),
        ({**given, "do_sample": True}, "set do_sample: true"),
        (ids, f"kept only {', '.join(ids) or 'no key'}"),
    )
    for candidate, how in attempts:
        if _fault(candidate) is None:
            reason = f" ({fault})" if fault else ""
            print(
                f"WARNING {where}: transformers would refuse to save this generation config{reason}: {how}. "
                "ExTra samples with its own settings, so nothing else changes.",
                file=sys.stderr,
                flush=True,
            )
            return _made(candidate)
    raise ModelError(f"{where}: not a usable generation config ({fault}). Correct or delete it.")


def _token_ids(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The keys of TOKEN_IDS with valid ids; ModelError for an invalid `eos_token_id`, which ends a response."""
    found = {}
    for key in TOKEN_IDS:
        value = content.get(key)
        if value is None:
            continue
        several = value if isinstance(value, list) else [value]
        if all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in several):
            found[key] = value
        elif key == "eos_token_id":
            raise ModelError(f"{where}: eos_token_id is {value!r} instead of a token id or a list of them. Correct it.")
    return found


def _made(content: Mapping[str, Any]) -> Any:
    """The GenerationConfig of these keys."""
    from transformers import GenerationConfig

    return GenerationConfig.from_dict(dict(content))


def _fault(content: Mapping[str, Any]) -> str | None:
    """The reason why transformers would refuse to read or save this; None where it accepts it."""
    try:
        config = _made(content)
        config.validate(strict=True)
        config.to_json_string()
    except Exception as error:  # a value of the wrong type can raise any error inside the library
        return one_line(error).removeprefix("GenerationConfig is invalid: - ")[:120]
    return None


def _file(source: Path | str, revision: str | None) -> Path | None:
    """The local path of the file; None where the model has none."""
    if Path(source).is_dir():
        path = Path(source) / GENERATION_CONFIG
        return path if path.exists() else None
    from transformers.utils import cached_file

    found = cached_file(
        str(source),
        GENERATION_CONFIG,
        revision=revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None
