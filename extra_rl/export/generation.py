"""The generation config of an export: the tokens that end a response, and the sampling of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extra_rl.models.files import GENERATION_CONFIG, read_json

SAMPLED = ("temperature", "top_p", "top_k")


def write_generation_config(directory: Path, target: Path, ends: tuple[int, ...], sampling: Mapping[str, Any]) -> None:
    """Write generation_config.json: that of the policy, with all ids that end a response and the run's sampling.

    Args:
        directory: of the policy.
        target: folder of the export.
        ends: token ids that end a response, also those that only the chat template names.
        sampling: section `sampling` of the run; empty where it is not known: nothing about sampling is changed then.
    """
    path = directory / GENERATION_CONFIG
    found = read_json(path) if path.is_file() else {}
    found.pop("_from_model_config", None)  # with it transformers may derive the file from config.json again
    found["eos_token_id"] = ends[0] if len(ends) == 1 else list(ends)
    if sampling:
        # top_k 0 is written too: transformers may take 50 where it is not set.
        found |= {"do_sample": True, "max_new_tokens": sampling["max_response_tokens"]}
        found |= {name: sampling[name] for name in SAMPLED}
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    (target / GENERATION_CONFIG).write_text(text)


def write_tokenizer_config(source: Path, target: Path) -> None:
    """Write tokenizer_config.json; a class that only transformers 5 knows gets the name that 4 and 5 know."""
    config = read_json(source)
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    target.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
