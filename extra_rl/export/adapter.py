"""Write the LoRA adapters of a policy as a folder that `PeftModel.from_pretrained` reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from extra_rl.errors import InputError
from extra_rl.export.place import Exported
from extra_rl.export.weights import DType, write_weights
from extra_rl.models.adapter import WEIGHTS
from extra_rl.models.files import ADAPTER_CONFIG, read_json
from extra_rl.models.policy import ADAPTER_FILE, read_manifest

HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def has_adapter(policy: Exported) -> bool:
    """Whether the policy was trained with adapters, which are next to its merged weights."""
    return (policy.directory / ADAPTER_FILE).is_file()


def base_of(policy: Exported) -> tuple[str, str | None]:
    """Return what the adapters were trained over, as peft records it, and its revision on the hub.

    It is the run's initial policy. Where that is an unchanged model of the hub, it is the model's name on the hub.
    """
    initial = _initial(policy)
    section = read_manifest(initial).get("job", {}).get("config", {})
    model = section.get("model", {})
    source = str(model.get("source", ""))
    if section.get("steps") == 0 and HUB.fullmatch(source) and not model.get("gguf_file") and not Path(source).exists():
        return source, model.get("revision")
    return str(initial.parent.resolve()), None


def write_adapter(policy: Exported, folder: Path, dtype: DType, base: str | None) -> str:
    """Write adapter_config.json and adapter_model.safetensors; return the base model that is named in them.

    Args:
        policy: trained with adapters.
        folder: is created.
        dtype: of the adapters.
        base: name or directory of the base model; None: `base_of`.
    Raises InputError where the run's initial policy is missing or the policy was trained without adapters.
    """
    from extra_rl.training.lora import LoraConfig, load_adapted

    section = policy.job.get("config", {}).get("lora")
    if not has_adapter(policy) or section is None:
        raise InputError(f"{policy.manifest}: this policy was trained without adapters (update.lora). Use --merged.")
    found, revision = base_of(policy) if base is None else (base, None)
    _, adapted = load_adapted(_initial(policy), policy.manifest, LoraConfig(**section), seed=0)
    settings: Any = adapted.peft_config["default"]
    settings.base_model_name_or_path, settings.revision = found, revision
    settings.task_type = "CAUSAL_LM"
    adapted.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's template of a card
    written = folder / WEIGHTS[0]
    whole = written.with_name("whole.safetensors")
    written.rename(whole)
    write_weights(whole, written, dtype)
    whole.unlink()
    config = read_json(folder / ADAPTER_CONFIG)
    targets = config.get("target_modules")
    if isinstance(targets, list):  # peft writes a set, whose order changes
        config["target_modules"] = sorted(targets)
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return found


def _initial(policy: Exported) -> Path:
    found = policy.input("initial")
    if found is None:
        raise InputError(
            f"{policy.manifest}: the run's initial policy, which the adapters belong to, is not found. Export from the "
            "run's folder results/NAME, or only the merged weights (--merged)."
        )
    return found
