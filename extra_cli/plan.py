"""Print the cost of a configuration before it runs: rollouts, tokens, FLOP, memory, disk. Needs no torch or network.

extra plan config/qwen3-1.7b.yaml
extra plan config/qwen3-1.7b.yaml my_changes.yaml --config iterations=30 --from results/smoke --memory 80
extra plan config/qwen3-1.7b.yaml --from results/smoke --nodes 8 --gpus 8 --job-seconds 30

The last one simulates the whole run on a cluster: makespan, used GPU-time, and where GPUs idle (docs/planning.md).

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
    cluster = parser.add_argument_group("makespan on a cluster; needs --from")
    cluster.add_argument("--nodes", type=int, metavar="N", help="number of nodes (default 1)")
    cluster.add_argument("--gpus", type=int, metavar="M", help="GPUs of each node")
    cluster.add_argument("--cores", type=int, metavar="C", help="cores of each node (default: not counted)")
    cluster.add_argument(
        "--granularity",
        metavar="G",
        help="what one job runs: stage, group, iteration, or an arm and seed (run, run_by_iteration, one_process); "
        "default: that of the configuration",
    )
    cluster.add_argument(
        "--job-seconds",
        type=_not_negative,
        default=0.0,
        metavar="S",
        help="latency of each job, without devices: queue, polling, start of Snakemake (default 0)",
    )
    cluster.add_argument(
        "--start-seconds",
        type=_not_negative,
        default=0.0,
        metavar="S",
        help="start of each process, on its devices: imports, where the records do not contain them (default 0)",
    )
    cluster.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="Snakemake profile with `gpu` of the rules and `groups` (default: workflow/profiles/slurm/config.yaml)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    from extra_rl.planning.plan import plan_of, time_of
    from extra_rl.planning.rate import measured
    from extra_rl.planning.report import lines_of
    from extra_rl.planning.shapes import with_context

    refuse_without_gpus(arguments)
    experiment = with_context(experiment_of_files(arguments.configs, arguments.config))
    refuse_no_prompt(experiment)
    plan = plan_of(experiment, device=1e9 * arguments.memory if arguments.memory else None)
    plan["time"] = plan["makespan"] = None
    if arguments.results:
        plan["time"] = {"source": str(arguments.results), **time_of(measured(arguments.results), experiment, plan)}
    if arguments.gpus is not None:
        plan["makespan"] = makespan(experiment, arguments)
    print(json.dumps(plan, indent=1) if arguments.json else "\n".join(lines_of(plan)))
    return 0


def makespan(experiment: Experiment, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the simulated makespan of a run on the nodes that the options describe."""
    from extra_cli.init import packaged
    from extra_rl.planning.makespan import Machines, Overhead, makespan_of, refuse_machines
    from extra_rl.planning.profile import read_profile
    from extra_rl.planning.stage_times import stage_times
    from stages.graph import graph_of

    machines = Machines(1 if arguments.nodes is None else arguments.nodes, arguments.gpus, arguments.cores)
    refuse_machines(machines)
    granularity = arguments.granularity or experiment.run.granularity
    overhead = Overhead(granularity, arguments.job_seconds, arguments.start_seconds)
    profile = read_profile(arguments.profile or packaged("workflow") / "profiles" / "slurm" / "config.yaml")
    times = stage_times(arguments.results)
    found = makespan_of(experiment, graph_of(experiment), times, profile, machines, overhead)
    measured = {"source": str(arguments.results), "iterations": times.every.iterations}
    return {**found, "measured": measured, "profile": profile.path}


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


def refuse_without_gpus(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for options of a cluster without --gpus, and for --gpus without --from."""
    for option in ("nodes", "cores", "granularity", "job_seconds", "start_seconds", "profile"):
        if arguments.gpus is None and getattr(arguments, option) not in (None, 0.0):
            raise ConfigError(f"--{option.replace('_', '-')}: also give --gpus M, the GPUs of each node.")
    if arguments.gpus is not None and arguments.results is None:
        raise ConfigError("--gpus: also give --from RESULTS, a run whose finished iterations have the times of stages.")


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


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value
