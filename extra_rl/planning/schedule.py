"""List scheduling of jobs on nodes with devices: when each job would start, and when the last one ends.

Whenever something ends or becomes ready, every ready job that fits starts, jobs of earlier iterations first. This is
greedy, like Snakemake's scheduler with `scheduler: greedy`, whose order among ready jobs differs. The makespan of any
such schedule on m single devices is at most (2 - 1/m) times the best one (Graham 1966).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from extra_rl.errors import ConfigError
from extra_rl.planning.graph import Demand, Jobs


@dataclass(frozen=True)
class Cluster:
    """Nodes by their number of devices. cores: of each node; None: more than any jobs need."""

    gpus: tuple[int, ...]
    cores: int | None = None

    @property
    def devices(self) -> int:
        """Return the devices of all nodes."""
        return sum(self.gpus)


@dataclass(frozen=True)
class Schedule:
    """starts and ends: of every job, in seconds. makespan: the last end. waited: whether a job waited for a device."""

    starts: list[float]
    ends: list[float]
    makespan: float
    waited: bool


def simulate(jobs: Jobs, cluster: Cluster | None, job_seconds: float = 0.0) -> Schedule:
    """Schedule the jobs. Without a cluster nothing is scarce: the makespan is the length of the critical path.

    Args:
        jobs: in any order.
        cluster: its nodes.
        job_seconds: from the moment a job's inputs exist until it can start, without devices.
    Raises ConfigError for a job that needs more than the cluster has.
    """
    run = _Run(jobs, cluster, job_seconds)
    waited = _alike(run, cluster.devices) if cluster and _are_alike(jobs, cluster) else _general(run, cluster)
    return Schedule(run.starts, run.ends, max(run.ends, default=0.0), waited)


class _Run:
    """The state of a simulation.

    arrivals: a heap of (time, key) of the jobs that wait for a device from that time on. key: rank times the number of
    jobs, plus the job, so that the lowest key starts first.
    """

    def __init__(self, jobs: Jobs, cluster: Cluster | None, job_seconds: float) -> None:
        size = len(jobs)
        self.jobs = jobs
        self.missing, self.ready = list(jobs.needs), [0.0] * size
        self.starts, self.ends = [0.0] * size, [0.0] * size
        self.arrivals: list[tuple[float, int]] = []
        self.latency = job_seconds
        free = [cluster is None or (gpus == 0 and cluster.cores is None) for _, gpus, _ in jobs.demands]
        self.free = [free[kind] for kind in jobs.demand]
        for job in [job for job in range(size) if not jobs.needs[job]]:
            time = 0.0 if jobs.local[job] else job_seconds
            if self.free[job]:
                self.start(job, time)
            else:
                heappush(self.arrivals, (time, jobs.rank[job] * size + job))

    def start(self, job: int, time: float) -> float:
        """Fix the times of a job, and of all others that need no device and then wait for nothing else; return its end.

        The ends of jobs are known at their start, so later jobs arrive with the time at which they can start.
        """
        jobs, ready, missing, starts, ends = self.jobs, self.ready, self.missing, self.starts, self.ends
        seconds, successors, size = jobs.seconds, jobs.successors, len(self.missing)
        starts[job] = time
        ends[job] = first = time + seconds[job]
        stack = [job]
        while stack:
            job = stack.pop()
            end = ends[job]
            for other in successors[job]:
                if end > ready[other]:
                    ready[other] = end
                missing[other] -= 1
                if not missing[other]:
                    time = ready[other] if jobs.local[other] else ready[other] + self.latency
                    if self.free[other]:
                        starts[other] = time
                        ends[other] = time + seconds[other]
                        stack.append(other)
                    else:
                        heappush(self.arrivals, (time, jobs.rank[other] * size + other))
        return first


def _alike(run: _Run, free: int) -> bool:
    """Schedule jobs of one device each, where each of them is makes no difference; return whether a job waited."""
    arrivals, running, waiting = run.arrivals, list[float](), list[int]()
    size, waited = len(run.missing), False
    while arrivals or running:
        now = arrivals[0][0] if arrivals and (not running or arrivals[0][0] < running[0]) else running[0]
        while running and running[0] <= now:
            heappop(running)
            free += 1
        while arrivals and arrivals[0][0] <= now:
            heappush(waiting, heappop(arrivals)[1])
        while free and waiting:
            free -= 1
            heappush(running, run.start(heappop(waiting) % size, now))
            while arrivals and arrivals[0][0] <= now:
                heappush(waiting, heappop(arrivals)[1])
        waited = waited or bool(waiting)
    return waited


def _general(run: _Run, cluster: Cluster | None) -> bool:
    """Schedule jobs of any demand; return whether a job waited."""
    demand, size, waited = run.jobs.demand, len(run.missing), False
    nodes = _Nodes(run.jobs.demands, cluster or Cluster(()))
    arrivals, running = run.arrivals, list[tuple[float, int]]()
    waiting: list[list[int]] = [[] for _ in run.jobs.demands]
    while arrivals or running:
        now = arrivals[0][0] if arrivals and (not running or arrivals[0][0] < running[0][0]) else running[0][0]
        while running and running[0][0] <= now:
            nodes.give_back(heappop(running)[1])
        while arrivals and arrivals[0][0] <= now:
            key = heappop(arrivals)[1]
            heappush(waiting[demand[key % size]], key)
        kinds = {kind for kind, queue in enumerate(waiting) if queue}
        while kinds:
            kind = min(kinds, key=lambda kind: waiting[kind][0])
            job = waiting[kind][0] % size
            if nodes.take(job, kind):
                heappop(waiting[kind])
                heappush(running, (run.start(job, now), job))
            else:
                waited = True
            if job not in nodes.held or not waiting[kind]:
                kinds.discard(kind)
    return waited


def _are_alike(jobs: Jobs, cluster: Cluster) -> bool:
    """Whether no job needs more than one device, and cores are not counted."""
    return cluster.cores is None and all(count * gpus <= 1 for count, gpus, _ in jobs.demands)


class _Nodes:
    """Nodes with devices and cores, of which a job's share is on one node, or on N nodes in equal parts.

    A job takes the nodes with the fewest free devices among those that have enough, so that whole nodes stay free.
    """

    def __init__(self, demands: Sequence[Demand], cluster: Cluster) -> None:
        for count, gpus, _ in demands:
            if cluster.gpus and sum(found >= gpus for found in cluster.gpus) < count:
                raise ConfigError(
                    f"a job needs {gpus} GPU(s) on each of {count} node(s) (`gpu` of the profile, tensor_parallel, "
                    f"update.processes); the {len(cluster.gpus)} node(s) have {max(cluster.gpus)} each."
                )
        self.demands = demands
        self.gpus = list(cluster.gpus)
        self.cores = [cluster.cores if cluster.cores is not None else 10**9] * len(cluster.gpus)
        self.limit = cluster.cores if cluster.cores is not None else 10**9
        self.held: dict[int, tuple[list[int], int, int]] = {}

    def take(self, job: int, kind: int) -> bool:
        """Take what a job of this kind needs, if it is free."""
        count, gpus, cores = self.demands[kind]
        cores = min(cores, self.limit)
        fit = [i for i, (g, c) in enumerate(zip(self.gpus, self.cores, strict=True)) if g >= gpus and c >= cores]
        if len(fit) < count:
            return False
        chosen = [min(fit, key=self.gpus.__getitem__)] if count == 1 else sorted(fit, key=self.gpus.__getitem__)[:count]
        for node in chosen:
            self.gpus[node] -= gpus
            self.cores[node] -= cores
        self.held[job] = chosen, gpus, cores
        return True

    def give_back(self, job: int) -> None:
        chosen, gpus, cores = self.held.pop(job)
        for node in chosen:
            self.gpus[node] += gpus
            self.cores[node] += cores
