"""What a configuration will cost, before it runs: rollouts, tokens, hours, memory, disk. Needs no torch and no network.

extra plan config/qwen3-1.7b.yaml
extra plan config/qwen3-1.7b.yaml my_changes.yaml --config iterations=30 --device a100

Several files and --config are merged as Snakemake merges them: later ones win, section by section.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from extra_rl.config.arms import merge
from extra_rl.config.experiment import Experiment, read_yaml
from extra_rl.errors import ConfigError
from extra_rl.planning.devices import DEVICES

HELP = "what a configuration will cost: tokens, hours, memory, disk"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="configuration files, later ones win")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="top-level keys, as YAML")
    parser.add_argument("--mean-length", type=_positive, help="mean response in tokens; default: half the limit")
    parser.add_argument(
        "--mean-prompt", type=_positive, help="mean prompt in tokens; default: an eighth of the longest"
    )
    parser.add_argument("--hard-share", type=_share, default=0.5, help="share of groups without a right rollout")
    parser.add_argument("--device", choices=sorted(DEVICES), default="h100", help="default: h100")
    parser.add_argument("--utilisation", type=_share, default=0.4, help="share of its peak in training; default: 0.4")
    parser.add_argument("--step-ms", type=_positive, help="least time of a decoding step; default: 30, vllm: 10")
    parser.add_argument("--decoding-utilisation", type=_share, help="share of its peak; default: 0.4, vllm: 0.5")
    parser.add_argument("--json", action="store_true", help="figures for machines instead of tables")


def run(arguments: argparse.Namespace) -> int:
    from extra_rl.planning.compute import DECODERS, Decoder, Speed
    from extra_rl.planning.plan import plan_of
    from extra_rl.planning.report import lines_of

    experiment = experiment_of_files(arguments.configs, arguments.config)
    step, share = arguments.step_ms, arguments.decoding_utilisation
    decoders = {
        backend: Decoder(step / 1000 if step else default.step_seconds, share or default.utilisation)
        for backend, default in DECODERS.items()
    }
    speed = Speed(DEVICES[arguments.device], arguments.utilisation, decoders)
    plan = plan_of(experiment, assumptions(experiment, arguments), speed)
    print(json.dumps(plan, indent=1) if arguments.json else "\n".join(lines_of(plan)))
    return 0


def experiment_of_files(files: list[Path], changes: list[str]) -> Experiment:
    """The validated experiment of merged files and KEY=VALUE words; ConfigError for what cannot be read."""
    from stages.experiment import experiment_of

    raw: dict[str, Any] = {}
    for file in files:
        raw = merge(raw, read_yaml(file))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--config {change}: expected KEY=VALUE.")
        try:
            raw = merge(raw, {key: yaml.safe_load(value)})
        except yaml.YAMLError:
            raise ConfigError(f"--config {change}: not a YAML value; quote it if it is text.") from None
    return experiment_of(raw)


def assumptions(experiment: Experiment, arguments: argparse.Namespace) -> Any:
    """What the arguments say, and half the response limit, an eighth of the longest prompt where they do not.

    ConfigError for a mean above its limit.
    """
    from extra_rl.planning.counts import Assumptions, longest_prompt, longest_response

    response, prompt = longest_response(experiment.common), longest_prompt(experiment.common)
    if prompt < 1:
        raise ConfigError(
            f"model.context_tokens leaves no room for a prompt beside sampling.max_response_tokens ({response:,})."
        )
    found = Assumptions(
        response=arguments.mean_length or response / 2,
        prompt=arguments.mean_prompt or max(1.0, prompt / 8),
        hard_share=arguments.hard_share,
    )
    for flag, mean, limit in (("--mean-length", found.response, response), ("--mean-prompt", found.prompt, prompt)):
        if mean > limit:
            raise ConfigError(f"{flag} {mean:g} is above the configuration's limit of {limit:,} tokens.")
    return found


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 1]")
    return value
