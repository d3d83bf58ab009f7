"""Generates config/README.md and config/schema.json from the models.

python -m stages.reference > config/README.md
python -m stages.reference --schema > config/schema.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from extra_rl.config.arms import PRESETS
from extra_rl.config.run import RunConfig
from extra_rl.config.sections import SHARED, GymSetConfig, SourceConfig
from extra_rl.training.lora import LoraConfig
from extra_rl.training.settings import DecayConfig
from stages import STAGES
from stages.load import load
from stages.schema import schema

INTRODUCTION = f"""# Configuration

One file describes a run: top-level keys, shared sections, one section per stage, and `arms`. An arm is a diff over the
rest, and may start from a preset ({", ".join(f"`{p}`" for p in PRESETS)}, see `extra_rl/config/presets/`):

```yaml
arms:
  grpo: {{}}
  extra: {{preset: prototype}}
  extra_strong: {{preset: prototype, advantage: {{weight: 0.3}}}}
```

To compare arms in several settings, name the settings in `regimes`. Each has a `value`, its place on the report's axis,
and a diff under the diff of every arm. An arm may list the `regimes` that it runs in, and additional changes
`in_regime` NAME. Its folder is then `<regime>-<arm>`.

```yaml
regimes:
  s50: {{value: 50, select: {{level_weights: {{L2: 1, L6: 1}}}}}}
  s90: {{value: 90, select: {{level_weights: {{L2: 1, L6: 9}}}}}}
```

To change keys from an iteration on, list entries in `schedule` (docs/course.md):

```yaml
schedule:
  - {{from: 10, update: {{learning_rate: 1.0e-4}}}}
  - {{from: 20, arms: [extra], generate.group_size: 16}}
```

Unknown keys are refused. A shared section is set once, at the top; every stage that needs it gets it. Changing a key of
a stage re-runs that stage in all iterations of the window, and everything after it. `iterations` may be raised:
existing results are kept. `first_iteration` moves the window: earlier iterations are finished and not checked again.

| file here | |
| --- | --- |
| `tiny.yaml` | offline, the default: nine of ten training problems are almost never solved |
| `config.yaml` | a link to it: the file that `snakemake` reads by default |
| `mixed.yaml` | the same with problems of all levels |
| `smollm2.yaml` | `make smollm2`: a pretrained language model on two cores (docs/smollm2.md) |
| `experiment.yaml` | `make experiment`: six arms, three seeds, two warm starts |
| `starvation.yaml` | `make starvation`: the confirming grid, five regimes, twelve seeds, frozen |
| `exploration.yaml` | `make exploration`: the second confirming grid, at equal compute, sixteen arms, frozen |
| `exploration_countdown.yaml` | the same arms on Countdown, frozen |
| `exploration_smollm2.yaml` | transfer of its preset `extra` to a pretrained language model, frozen |
| `exploration_development.yaml` | options that no grid has, on tuning problems |
| `exploration_guard.yaml` | a guard for the replay of its preset `extra`, frozen |
| `development.yaml` | one change at a time to the preset `surprisal`, on tuning problems and development seeds |
| `published.yaml` | the published variants of ExTra next to GRPO, exploratory |
| `countdown.yaml` | the second generated task, seven arms, three seeds, exploratory |
| `math_smoke.yaml` | real mathematics with a random model, a smoke test |
| `gym_smoke.yaml` | two data sets of Reasoning Gym with a random model, a smoke test (docs/tasks.md) |
| `qwen3-1.7b.yaml` | the published experiment, every key explained (docs/math.md) |
| `qwen3-1.7b-1gpu.yaml` | the same, reduced to one 80 GB accelerator |

`extra plan FILE` shows the maximum cost of a file. Several files are merged section by section, and later ones take
precedence: `--configfile config/qwen3-1.7b.yaml mine.yaml`, and the same for `extra plan`.

`schema.json` is the JSON schema of a configuration. Editors with a YAML language server use it to complete and check a
file whose first line is `# yaml-language-server: $schema=schema.json`, with the path from that file.

This page and the schema are generated (`python -m stages.reference > config/README.md`, `python -m stages.reference
--schema > config/schema.json`); a test fails when they are out of date.
"""


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION, table("Top level", RunConfig)]
    parts += ["# Shared sections\n", *(table(f"`{name}`", model) for name, model in SHARED.items())]
    parts.append(table("A source of problems, under its name in `task.train` or `task.benchmarks`", SourceConfig))
    parts.append(table("A set of Reasoning Gym, under its name in `task.sets`", GymSetConfig))
    parts += ["# Stages\n", *(table(f"`{name}`", load(name).Config) for name in STAGES)]
    parts.append(table("`update.learning_rate_decay`, where it is set", DecayConfig))
    parts.append(table("`update.lora`, where it is set", LoraConfig))
    return "\n".join(parts)


def table(title: str, model: type[BaseModel]) -> str:
    """Return the keys of a section, one row each; nested keys are written with dots, shared sections appear once."""
    rows = list(keys(model, "", top=True))
    text = f"## {title}\n\n{(model.__doc__ or '').strip()}\n\n"
    if rows:
        text += "| key | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    return text


def keys(model: type[BaseModel], prefix: str, top: bool = False) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        nested = _nested(field)
        if top and name in SHARED and nested is SHARED[name]:
            continue
        if nested is not None:
            rows += keys(nested, f"{prefix}{name}.")
        else:
            rows.append(f"| `{prefix}{name}` | {_default(field)} | {_escape(field.description or '')} |")
    return rows


def _nested(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    return f"`{_escape(json.dumps(value, ensure_ascii=False))}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def schema_text() -> str:
    """Return the JSON schema as text."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text() if "--schema" in sys.argv[1:] else page())
