"""Devices and cores of a rule's job, and which rules share a job, from a cluster's profile and the configuration.

The profile is a Snakemake profile such as `workflow/profiles/slurm/config.yaml`: `set-resources`, `gpu` of a rule, and
`groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from extra_rl.config.files import read_yaml
from extra_rl.config.run import BY_ITERATION, BY_RUN, Granularity
from extra_rl.errors import ConfigError
from extra_rl.planning.counts import Sections
from extra_rl.planning.graph import Demand, Node

GRANULARITIES = get_args(Granularity)
"""What one job of the workflow runs: a stage; a group of stages; an iteration in one process; all of an arm and seed,
one stage (`run`) or one iteration (`run_by_iteration`) after the other, or in one process (`one_process`)."""

GROUPS = {
    **dict.fromkeys(("select", "generate"), "sample_{iteration}"),
    **dict.fromkeys(("gather", "verify", "score_entropy"), "judge_{of}_{iteration}"),
    "choose_prefixes": "judge_generate_{iteration}",
    "regenerate": "judge_regenerate_{iteration}",
    **dict.fromkeys(("novelty", "advantage", "update", "summarize"), "learn_{iteration}"),
}
"""Rule -> its group within an arm and seed, where the profile names none."""

SAMPLING = {
    "generate": "generate",
    "generate_shard": "generate",
    "regenerate": "regenerate",
    "regenerate_shard": "regenerate",
    "evaluate_iteration": "evaluate",
    "evaluate_warm_start": "evaluate",
}
"""Rule -> stage, of the rules whose engine may take several devices."""


@dataclass(frozen=True)
class Profile:
    """gpus: rule -> devices of a job. groups: rule -> name of its group, with wildcards; empty: those of GROUPS."""

    path: str
    gpus: Mapping[str, int]
    groups: Mapping[str, str]


def read_profile(path: Path) -> Profile:
    """Read a profile. Raises ConfigError where a rule's `gpu` is not a number, or a group has no name."""
    raw = read_yaml(path)
    resources = raw.get("set-resources") or {}
    if not isinstance(resources, Mapping) or not all(isinstance(found, Mapping) for found in resources.values()):
        raise ConfigError(f"{path}: set-resources: expected `rule: {{gpu: 1, ...}}` for every rule.")
    gpus = {rule: found.get("gpu", 0) for rule, found in resources.items()}
    for rule, count in gpus.items():
        if not isinstance(count, int) or count < 0:
            raise ConfigError(f"{path}: set-resources: {rule}: gpu: {count!r} is not a number of devices.")
    groups = {}
    for word in raw.get("groups") or []:
        rule, equals, name = str(word).partition("=")
        if not equals or not name:
            raise ConfigError(f"{path}: groups: {word!r}: expected rule=name.")
        groups[rule] = name
    return Profile(str(path), gpus, groups)


def demand_of(rule: str, sections: Sections, profile: Profile) -> Demand:
    """Return the nodes of a rule's job, and its devices and cores on each.

    Devices: those of the profile, or more where the configuration needs more: `tensor_parallel` of vLLM, and
    `update.processes`. A rule without `gpu` in the profile has none.
    """
    stage = SAMPLING.get(rule, rule)
    section = sections.get(stage, {})
    nodes = int(section.get("nodes", 1))
    cores = int(section.get("compute", {}).get("threads", 1)) * int(section.get("processes", 1)) // nodes
    gpus = profile.gpus.get(rule, 0)
    if gpus and rule in SAMPLING and section["sampling"]["backend"] == "vllm":
        gpus = max(gpus, int(section["sampling"]["engine"]["tensor_parallel"]))
    elif gpus:
        gpus = max(gpus, int(section.get("processes", 1)) // nodes)
    return nodes, gpus, max(1, cores)


def label_of(granularity: str, profile: Profile) -> Callable[[str], Callable[[Node], str]]:
    """Return arm -> node -> name of its job within an arm and seed. Raises ConfigError for an unknown granularity."""
    if granularity not in GRANULARITIES:
        raise ConfigError(f"granularity {granularity!r}: unknown; expected one of {', '.join(GRANULARITIES)}.")
    groups = profile.groups or GROUPS

    def alone(node: Node) -> str:
        return f"{node.rule} {node.name} {node.iteration} {node.shard}"

    def label(node: Node) -> str:
        if granularity in BY_RUN and not node.local:
            return "run"
        if granularity == "iteration" and node.fused:
            return f"iteration {node.iteration}"
        if granularity == "group" and node.rule in groups:
            # Arm and seed are the same for all jobs that this name is compared with.
            values: dict[str, Any] = {"arm": "", "seed": "", "iteration": node.iteration, "of": node.of}
            return groups[node.rule].format(**values, shard=node.shard, start="")
        return alone(node)

    return lambda arm: label


def processes_of(granularity: str) -> Callable[[Sequence[Node]], int]:
    """Return the function that counts the processes of a job's stages: one per stage, per iteration, or for all."""
    if granularity == "one_process":
        return lambda nodes: 1
    if granularity not in BY_ITERATION:
        return len
    return lambda nodes: len(
        {(node.iteration if node.fused else index, node.fused) for index, node in enumerate(nodes)}
    )
