"""The expected makespan of a run on a cluster: lower bounds, utilisation, where devices idle, and what to do about it.

Source: our decision (docs/planning.md). Everything is simulated; nothing here measures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from extra_rl.config.experiment import Experiment
from extra_rl.config.run import BY_ITERATION
from extra_rl.errors import ConfigError
from extra_rl.planning.graph import Graph, Jobs, Load, Node, jobs_of
from extra_rl.planning.profile import Profile, demand_of, label_of, processes_of
from extra_rl.planning.schedule import Cluster, Schedule, simulate
from extra_rl.planning.stage_times import (
    TABLES,
    StageTimes,
    evaluation_tokens,
    planned_tokens,
    tokens_of,
    warm_start_seconds,
)

Figures = dict[str, Any]
WELL, HALF = 0.8, 0.5
"""Utilisations at which a number of devices still counts as useful."""
BEFORE, DURING, AFTER = "before the first iteration", "iterations", "after the first arm and seed has ended"
"""Phases of a run."""


@dataclass(frozen=True)
class Machines:
    """nodes: number. gpus: devices of each. cores: of each; None: not counted."""

    nodes: int
    gpus: int
    cores: int | None = None

    @property
    def devices(self) -> int:
        """Return the devices of all nodes."""
        return self.nodes * self.gpus

    def of(self, devices: int) -> Cluster:
        """Return that many devices on as few of these nodes as possible."""
        whole, rest = divmod(devices, self.gpus)
        return Cluster((*[self.gpus] * whole, *([rest] if rest else [])), self.cores)


@dataclass(frozen=True)
class Overhead:
    """granularity: of the jobs. job_seconds: of each, without devices. start_seconds: of a process, on its devices."""

    granularity: str
    job_seconds: float = 0.0
    start_seconds: float = 0.0


def makespan_of(
    experiment: Experiment,
    graph: Graph,
    times: StageTimes,
    profile: Profile,
    machines: Machines,
    overhead: Overhead,
) -> Figures:
    """Return the makespan and what explains it, as plain values.

    Raises ConfigError for jobs that do not fit on the machines, InputError for a stage without a measured time.
    """
    refuse_machines(machines)
    shards = experiment.run.generation.shards
    if overhead.granularity in BY_ITERATION and shards > 1:
        raise ConfigError(
            f"granularity {overhead.granularity} samples in one process; generation.shards: {shards} needs another."
        )
    loads = Loads(experiment, times, profile)
    label, processes = label_of(overhead.granularity, profile), processes_of(overhead.granularity)
    jobs = jobs_of(graph, label, loads.of, overhead.start_seconds, processes)
    schedule = simulate(jobs, machines.of(machines.devices), overhead.job_seconds)
    critical = simulate(jobs, None, overhead.job_seconds).makespan
    held = sum(
        seconds * jobs.demands[kind][0] * jobs.demands[kind][1]
        for seconds, kind in zip(jobs.seconds, jobs.demand, strict=True)
    )
    shares = stage_shares(graph, loads)
    cells = sum(1 for _ in graph.starts) * len(graph.chains)
    table = scaling(jobs, machines, cells, overhead.job_seconds, schedule)
    figures: Figures = {
        "nodes": machines.nodes,
        "gpus_per_node": machines.gpus,
        "cores_per_node": machines.cores,
        "granularity": overhead.granularity,
        "job_seconds": overhead.job_seconds,
        "start_seconds": overhead.start_seconds,
        "jobs": len(jobs),
        "jobs_at_once": at_once(schedule),
        "cells": cells,
        "shards": shards,
        "seconds": schedule.makespan,
        "lower_bounds": {"critical_path": critical, "work": held / machines.devices},
        "gpu_seconds": {"busy": sum(jobs.busy), "allotted": held, "available": machines.devices * schedule.makespan},
        "utilisation": _ratio(sum(jobs.busy), machines.devices * schedule.makespan),
        "allotted": _ratio(held, machines.devices * schedule.makespan),
        "stages": shares,
        "idle": idle_phases(jobs, schedule, machines.devices),
        "scaling": table,
        "useful": {
            name: max((row["gpus"] for row in table if row["utilisation"] >= least), default=0)
            for name, least in (("at_80_percent", WELL), ("at_50_percent", HALF))
        },
        "unmeasured": times.unmeasured,
    }
    return {**figures, "advice": advice_of(figures)}


def refuse_machines(machines: Machines) -> None:
    """Raise ConfigError for a number of nodes, devices or cores below 1."""
    for option, value in (("--nodes", machines.nodes), ("--gpus", machines.gpus), ("--cores", machines.cores)):
        if value is not None and value < 1:
            raise ConfigError(f"{option} {value}: expected at least 1.")


class Loads:
    """The load of every stage of a planned run; each is computed once."""

    def __init__(self, experiment: Experiment, times: StageTimes, profile: Profile) -> None:
        self._experiment, self._times, self._profile = experiment, times, profile
        self._first = experiment.run.first_iteration
        self._shards = experiment.run.generation.shards
        self._tokens = {arm: list(planned_tokens(times, experiment, arm)) for arm in experiment.arms}
        self._evaluation = evaluation_tokens(times, experiment)
        self._known: dict[tuple[Any, ...], Load] = {}

    def of(self, arm: str, node: Node) -> Load:
        """Return the load of a node; the arm is empty for a shared one."""
        tokens = self._of_tokens(arm, node)
        key = (arm, node.rule, node.name, tokens, node.iteration >= 0 and self._phase(arm, node.iteration))
        if key not in self._known:
            self._known[key] = self._load(arm, node, tokens)
        return self._known[key]

    def _of_tokens(self, arm: str, node: Node) -> float:
        if node.name == "evaluate":
            return self._evaluation
        return tokens_of(node.name, self._tokens[arm][node.iteration - self._first]) if node.iteration >= 0 else 0.0

    def _phase(self, arm: str, iteration: int) -> int:
        return sum(phase.start <= iteration for phase in self._experiment.phases.get(arm, []))

    def _load(self, arm: str, node: Node, tokens: float) -> Load:
        sections = self._experiment.at(arm, node.iteration) if arm else self._experiment.common
        nodes, gpus, cores = demand_of(node.rule, sections, self._profile)
        if node.name == "warm_start":
            seconds = warm_start_seconds(self._times, sections)
        else:
            shards = self._shards if node.shard else 1
            seconds = self._times.seconds(node.name, tokens, "" if node.name == "evaluate" else arm, shards)
        return Load(seconds, gpus, cores, nodes)


def stage_shares(graph: Graph, loads: Loads) -> Figures:
    """Return name of a stage -> its seconds, its GPU-seconds, and their share of all, largest first."""
    seconds, gpu = defaultdict[str, float](float), defaultdict[str, float](float)
    for found in graph.shared.values():
        _add(seconds, gpu, found.node, loads.of("", found.node), 1)
    for arm, chain in graph.chains.items():
        for node in chain.nodes:
            _add(seconds, gpu, node, loads.of(arm, node), len(graph.starts))
    whole = sum(gpu.values())
    order = sorted(seconds, key=lambda name: (-gpu[name], -seconds[name]))
    return {n: {"seconds": seconds[n], "gpu_seconds": gpu[n], "share": _ratio(gpu[n], whole)} for n in order}


def _add(seconds: dict[str, float], gpu: dict[str, float], node: Node, load: Load, times: int) -> None:
    seconds[node.name] += times * load.seconds
    gpu[node.name] += times * load.gpu_seconds


def at_once(schedule: Schedule) -> int:
    """Return the largest number of jobs that run at the same time."""
    both = [(s, e) for s, e in zip(schedule.starts, schedule.ends, strict=True) if e > s]
    events = sorted([(e, -1) for _, e in both] + [(s, 1) for s, _ in both])
    return max(accumulate(change for _, change in events), default=0)


def idle_phases(jobs: Jobs, schedule: Schedule, devices: int) -> list[Figures]:
    """Return the part of the GPU-time that is idle before the first iteration, during them, and after the first cell.

    A cell is one arm with one seed. The three phases end where the first job of a cell that uses a device starts, where
    the first cell is finished, and with the run.
    """
    uses = [jobs.demands[kind][1] > 0 for kind in jobs.demand]
    begun = [s for s, cell, gpu in zip(schedule.starts, jobs.cell, uses, strict=True) if cell >= 0 and gpu]
    last: dict[int, float] = {}
    for cell, end in zip(jobs.cell, schedule.ends, strict=True):
        if cell >= 0:
            last[cell] = max(last.get(cell, 0.0), end)
    first, tail = min(begun, default=0.0), min(last.values(), default=schedule.makespan)
    edges = [0.0, min(first, tail), tail, schedule.makespan]
    busy = [0.0, 0.0, 0.0]
    for start, end, used in zip(schedule.starts, schedule.ends, jobs.busy, strict=True):
        if used and end > start:
            for i in range(3):
                inside = min(end, edges[i + 1]) - max(start, edges[i])
                busy[i] += used * max(0.0, inside) / (end - start)
    whole = devices * schedule.makespan
    return [
        {
            "phase": name,
            "seconds": edges[i + 1] - edges[i],
            "idle": _ratio(devices * (edges[i + 1] - edges[i]) - busy[i], whole),
            "utilisation": _ratio(busy[i], devices * (edges[i + 1] - edges[i])),
        }
        for i, name in enumerate((BEFORE, DURING, AFTER))
    ]


def scaling(jobs: Jobs, machines: Machines, cells: int, job_seconds: float, whole: Schedule) -> list[Figures]:
    """Return makespan, utilisation and speed-up for 1, 2, 4, ... devices, the number of cells, and all devices.

    Numbers on which a job does not fit are left out. The speed-up is over the first row.
    """
    rows: list[Figures] = []
    least = max(demand[1] for demand in jobs.demands)
    busy, known = sum(jobs.busy), None
    for devices in sizes(machines.devices, cells):
        cluster = machines.of(devices)
        if devices == machines.devices:
            found = whole
        elif max(cluster.gpus) < least or not _fits(jobs, cluster):
            continue
        else:
            found = known or simulate(jobs, cluster, job_seconds)
        if not found.waited and machines.cores is None:
            known = found  # nothing waits, so more devices change nothing
        first = rows[0]["seconds"] if rows else found.makespan
        rows.append(
            {
                "gpus": devices,
                "seconds": found.makespan,
                "utilisation": _ratio(busy, devices * found.makespan),
                "speedup": _ratio(first, found.makespan),
            }
        )
    return rows


def _fits(jobs: Jobs, cluster: Cluster) -> bool:
    return all(sum(found >= gpus for found in cluster.gpus) >= nodes for nodes, gpus, _ in jobs.demands)


def sizes(devices: int, cells: int) -> list[int]:
    """Return 1, 2, 4, ..., the number of cells where it is less, and the number of devices."""
    powers: Iterable[int] = (2**power for power in range(devices.bit_length()))
    return sorted({*(size for size in powers if size < devices), *({cells} if cells < devices else ()), devices})


def advice_of(figures: Figures) -> str:
    """Return one sentence: which part of the GPU-time is used, why not more, and what to do about it."""
    devices, cells, used = figures["nodes"] * figures["gpus_per_node"], figures["cells"], figures["utilisation"]
    if used >= WELL:
        return f"{used:.0%} of the GPU-time is used: take {_gpus(devices)} as planned."
    useful = figures["useful"]["at_80_percent"] or figures["useful"]["at_50_percent"]
    options = [f"take {_gpus(useful)}"] if 0 < useful < devices else []
    worst = max(figures["idle"], key=lambda phase: float(phase["idle"]))["phase"]
    if worst == BEFORE:
        why = "problems and warm starts come before all iterations"
        options.append("make runs longer, or start from an existing policy")
    elif worst == AFTER:
        why = f"{cells} arms and seeds do not end together on {_gpus(devices)}"
        options.append("choose a number of GPUs that divides the number of arms and seeds")
    elif cells < devices:
        why = f"the stages of an arm and seed follow one another, and the run has {cells} of them"
        options += _spread(figures, devices)
    else:
        why = "stages without a GPU, and the latency of jobs, keep arms and seeds waiting"
        options.append("start more seeds side by side than there are GPUs")
    if figures["job_seconds"] and figures["granularity"] in ("stage", "group"):
        options.append("use fewer, longer jobs (`--granularity run`)")
    return f"{used:.0%} of the GPU-time is used, because {why}: {', or '.join(options)}."


def _spread(figures: Figures, devices: int) -> list[str]:
    """Return how the work of few arms and seeds can occupy more devices."""
    cells, shards = figures["cells"], figures["shards"]
    options = [f"run {devices // cells} times as many seeds side by side"] if devices >= 2 * cells else []
    sampling = sum(figures["stages"][name]["share"] for name in TABLES if name in figures["stages"])
    if sampling > HALF and shards * cells < devices and figures["granularity"] in ("stage", "group"):
        options.append(
            f"set generation.shards to {-(-devices // cells)} (sampling is {sampling:.0%} of the GPU-time, and only it "
            "is divided)"
        )
    return options or ["add seeds"]


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count:,} GPUs"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
