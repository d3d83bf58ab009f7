"""The graph of a run's stages, and the jobs that they become at a granularity.

All seeds of an arm have the same graph, so it is stored once per arm (`Chain`) and repeated per seed.
`stages/graph.py` builds it from the files of the workflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from extra_rl.errors import ConfigError

START, EVALUATED_START = "warm_start", "evaluate_warm_start"
"""Keys in `Chain.shared` of the two nodes of the seed's own initial policy."""


@dataclass(frozen=True)
class Node:
    """One run of a stage.

    rule: of the workflow. name: of its record, `verify_generate`. iteration: -1 outside of iterations. of: wildcard of
    the stages that run twice. shard: `0of4`, or empty. fused: part of the one job of `granularity: iteration`. local:
    runs next to Snakemake, never as a cluster's job.
    """

    rule: str
    name: str
    iteration: int = -1
    of: str = ""
    shard: str = ""
    fused: bool = False
    local: bool = False


@dataclass
class Chain:
    """The stages of one arm and any of its seeds, in the order of the data flow.

    needs: for each node, the indices of the nodes that it waits for. shared: the keys of the shared nodes.
    """

    nodes: list[Node] = field(default_factory=list)
    needs: list[set[int]] = field(default_factory=list)
    shared: list[set[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Shared:
    """A node that all arms share: the shared nodes that it waits for, and for each arm the nodes of every seed."""

    node: Node
    needs: frozenset[str] = frozenset()
    cells: Mapping[str, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """The stages of a run.

    shared: key -> node, in the order of the data flow. chains: arm -> its stages. starts: seed -> keys of its initial
    policy and of the evaluation of that policy.
    """

    shared: dict[str, Shared]
    chains: dict[str, Chain]
    starts: dict[int, dict[str, str]]


@dataclass(frozen=True)
class Load:
    """What one run of a stage takes: seconds, and devices and cores on each of its nodes."""

    seconds: float
    gpus: int = 0
    cores: int = 1
    nodes: int = 1

    @property
    def gpu_seconds(self) -> float:
        """Return seconds times devices."""
        return self.seconds * self.gpus * self.nodes


LoadOf = Callable[[str, Node], Load]
"""(arm, node) -> load; the arm is empty for shared nodes."""
Label = Callable[[Node], str]
"""Node of a chain -> name of its job within the arm and seed; nodes of the same name are one job."""
Demand = tuple[int, int, int]
"""Nodes, and devices and cores on each of them."""


@dataclass
class Jobs:
    """The jobs of a run, as parallel lists.

    seconds: on the devices. demands: all kinds, and of each job the index of its kind. rank: jobs with a lower
    one start first. needs: how many jobs each waits for. successors: the jobs that wait for it. busy: GPU-seconds in
    which its stages compute. cell: index of the arm and seed, -1 for shared jobs.
    """

    demands: list[Demand] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    demand: list[int] = field(default_factory=list)
    rank: list[int] = field(default_factory=list)
    needs: list[int] = field(default_factory=list)
    successors: list[list[int]] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    cell: list[int] = field(default_factory=list)
    local: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of jobs."""
        return len(self.seconds)


@dataclass
class _Merged:
    """The jobs of one chain, in an order in which every job follows those that it waits for."""

    members: list[list[int]]
    needs: list[set[int]]
    shared: list[set[str]]
    job_of: list[int]


def jobs_of(
    graph: Graph,
    label_of: Callable[[str], Label],
    load: LoadOf,
    start_seconds: float = 0.0,
    processes: Callable[[Sequence[Node]], int] = len,
) -> Jobs:
    """Return the jobs of all arms and seeds.

    Args:
        graph: the stages.
        label_of: arm -> which of its stages form one job; the stages of a job run one after the other.
        load: of every stage.
        start_seconds: on the devices, of every process.
        processes: how many processes the stages of a job are.
    Raises ConfigError where jobs would wait for one another.
    """
    jobs = Jobs()
    indices: dict[str, int] = {}
    demands: dict[Demand, int] = {}

    def add(nodes: Sequence[Node], arm: str, rank: int, cell: int, waits: int) -> int:
        loads = [load(arm, node) for node in nodes]
        demand = max(x.nodes for x in loads), max(x.gpus for x in loads), max(x.cores for x in loads)
        jobs.demand.append(demands.setdefault(demand, len(demands)))
        jobs.seconds.append(sum(x.seconds for x in loads) + start_seconds * processes(nodes))
        jobs.busy.append(sum(x.gpu_seconds for x in loads))
        jobs.rank.append(rank)
        jobs.cell.append(cell)
        jobs.local.append(all(node.local for node in nodes))
        jobs.needs.append(waits)
        jobs.successors.append([])
        return len(jobs) - 1

    lasts: dict[str, list[int]] = {}
    for key, found in graph.shared.items():
        if any(found.cells.values()) or not lasts.keys().isdisjoint(found.needs):
            lasts[key] = []
            continue
        known = [indices[other] for other in found.needs]
        indices[key] = add([found.node], "", 0, -1, len(known))
        for other in known:
            jobs.successors[other].append(indices[key])
    cell = 0
    for arm, chain in graph.chains.items():
        merged = merge(chain, label_of(arm))
        ends = {key: sorted({merged.job_of[i] for i in graph.shared[key].cells.get(arm, frozenset())}) for key in lasts}
        template: tuple[int, int] | None = None
        for start in graph.starts.values():
            base = len(jobs)
            if template is None:
                for members, needs, shared in zip(merged.members, merged.needs, merged.shared, strict=True):
                    nodes = [chain.nodes[i] for i in members]
                    add(nodes, arm, nodes[0].iteration + 1, cell, len(needs) + len(shared))
                for number, needs in enumerate(merged.needs):
                    for other in needs:
                        jobs.successors[base + other].append(base + number)
                template = base, len(jobs)
            else:
                _repeat(jobs, template, cell)
            for number, shared in enumerate(merged.shared):
                for key in shared:
                    jobs.successors[indices[start.get(key, key)]].append(base + number)
            for key, found_ends in ends.items():
                lasts[key] += [base + number for number in found_ends]
            cell += 1
    for key, ended in lasts.items():
        waits_for = [*ended, *(indices[other] for other in graph.shared[key].needs)]
        indices[key] = add([graph.shared[key].node], "", 10**6, -1, len(waits_for))
        for other in waits_for:
            jobs.successors[other].append(indices[key])
    jobs.demands = list(demands)
    return jobs


def _repeat(jobs: Jobs, template: tuple[int, int], cell: int) -> None:
    """Append the jobs from `template[0]` up to `template[1]` again, for another seed."""
    first, last = template
    shift = len(jobs) - first
    for column in (jobs.demand, jobs.rank, jobs.needs):
        column.extend(column[first:last])
    jobs.seconds.extend(jobs.seconds[first:last])
    jobs.busy.extend(jobs.busy[first:last])
    jobs.local.extend(jobs.local[first:last])
    jobs.cell.extend([cell] * (last - first))
    jobs.successors.extend([s + shift for s in found if first <= s < last] for found in jobs.successors[first:last])


def merge(chain: Chain, label: Label) -> _Merged:
    """Return the jobs of a chain without the waits that follow from others. Raises ConfigError for a cycle."""
    number: dict[str, int] = {}
    of_node = [number.setdefault(label(node), len(number)) for node in chain.nodes]
    members: list[list[int]] = [[] for _ in number]
    needs: list[set[int]] = [set() for _ in number]
    shared: list[set[str]] = [set() for _ in number]
    for index, job in enumerate(of_node):
        members[job].append(index)
        needs[job] |= {of_node[other] for other in chain.needs[index]} - {job}
        shared[job] |= chain.shared[index]
    order = _in_order(dict(enumerate(needs)), list(number))
    place = {job: position for position, job in enumerate(order)}
    before: list[int] = []  # bits of all jobs that come before
    seen: list[set[str]] = []
    merged = _Merged([members[job] for job in order], [], [], [place[job] for job in of_node])
    for job in order:
        direct = {place[other] for other in needs[job]}
        indirect = 0
        for other in direct:
            indirect |= before[other]
        known = set().union(*(seen[other] for other in direct))
        merged.needs.append({other for other in direct if not indirect >> other & 1})
        merged.shared.append(shared[job] - known)
        before.append(indirect | sum(1 << other for other in direct))
        seen.append(known | shared[job])
    return merged


def _in_order(needs: Mapping[int, set[int]], names: Sequence[str]) -> list[int]:
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        cycle = ", ".join(names[job] for job in error.args[1])
        raise ConfigError(f"these groups of the profile wait for one another: {cycle}. Split one of them.") from None
