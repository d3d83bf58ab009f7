"""Print the cost of a configuration before it runs: rollouts, tokens, FLOP, memory, disk. Needs no torch or network.

extra plan config/qwen3-1.7b.yaml
extra plan config/qwen3-1.7b.yaml my_changes.yaml --config iterations=30 --from results/smoke --memory 80

Several files and --config are merged as Snakemake merges them: later ones win, section by section.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from extra_rl.config.arms import merge
from extra_rl.config.experiment import Experiment
from extra_rl.config.files import read_yaml
from extra_rl.errors import ConfigError

HELP = "cost of a configuration: rollouts, tokens, FLOP, memory, disk, hours"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="configuration files; later ones win")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="top-level keys as YAML")
    parser.add_argument(
        "--from",
        dest="results",
        type=Path,
        metavar="RESULTS",
        help="estimate hours from the finished iterations below this folder (a run, an arm, a seed, or one iteration)",
    )
    parser.add_argument("--memory", type=_positive, metavar="GB", help="device memory: marks stages that exceed it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    from extra_rl.planning.plan import plan_of, time_of
    from extra_rl.planning.rate import measured
    from extra_rl.planning.report import lines_of
    from extra_rl.planning.shapes import with_context

    experiment = with_context(experiment_of_files(arguments.configs, arguments.config))
    refuse_no_prompt(experiment)
    plan = plan_of(experiment, device=1e9 * arguments.memory if arguments.memory else None)
    plan["time"] = None
    if arguments.results:
        plan["time"] = {"source": str(arguments.results), **time_of(measured(arguments.results), experiment, plan)}
    print(json.dumps(plan, indent=1) if arguments.json else "\n".join(lines_of(plan)))
    return 0


def experiment_of_files(files: list[Path], changes: list[str]) -> Experiment:
    """Return the validated experiment of merged files and KEY=VALUE words. Raises ConfigError for unreadable ones."""
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
    return experiment_of(raw, configured=files)


def refuse_no_prompt(experiment: Experiment) -> None:
    """Raise ConfigError where no prompt fits into the context next to the longest response."""
    from extra_rl.planning.counts import longest_prompt, longest_response

    if longest_prompt(experiment.common) < 1:
        raise ConfigError(
            "model.context_tokens leaves no tokens for a prompt next to sampling.max_response_tokens "
            f"({longest_response(experiment.common):,})."
        )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
