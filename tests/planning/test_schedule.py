"""Makespans by hand: chains, forks, one and two devices, nodes, cores, latency."""

from __future__ import annotations

import itertools
import random

import pytest

from extra_rl.errors import ConfigError
from extra_rl.planning.graph import Demand, Jobs
from extra_rl.planning.schedule import Cluster, Schedule, simulate

GPU, CPU = (1, 1, 1), (1, 0, 1)


def jobs(*rows: tuple[float, Demand, tuple[int, ...]], ranks: tuple[int, ...] = (), local: bool = False) -> Jobs:
    """Jobs from (seconds, demand, the jobs that it waits for)."""
    made = Jobs()
    for number, (seconds, demand, needs) in enumerate(rows):
        if demand not in made.demands:
            made.demands.append(demand)
        made.seconds.append(seconds)
        made.demand.append(made.demands.index(demand))
        made.rank.append(ranks[number] if ranks else 0)
        made.needs.append(len(needs))
        made.successors.append([])
        made.busy.append(seconds * demand[0] * demand[1])
        made.cell.append(0)
        made.local.append(local)
        for other in needs:
            made.successors[other].append(number)
    return made


CHAIN = jobs((3.0, GPU, ()), (1.0, CPU, (0,)), (2.0, GPU, (1,)))
FORK = jobs((1.0, GPU, ()), (4.0, GPU, (0,)), (3.0, GPU, (0,)), (2.0, GPU, (0,)), (1.0, CPU, (1, 2, 3)))
"""One job, then jobs of 4, 3 and 2 seconds, then one that waits for all three."""


@pytest.mark.parametrize("devices", [1, 2, 5])
def test_a_chain_takes_the_sum_on_any_number_of_devices(devices: int) -> None:
    found = simulate(CHAIN, Cluster((devices,)))
    assert (found.makespan, found.starts, found.ends, found.waited) == (6.0, [0, 3, 4], [3, 4, 6], False)


@pytest.mark.parametrize(
    ("devices", "makespan", "waited"),
    [(1, 1 + 9 + 1, True), (2, 1 + 5 + 1, True), (3, 1 + 4 + 1, False), (4, 1 + 4 + 1, False)],
)
def test_a_fork(devices: int, makespan: float, waited: bool) -> None:
    """Two devices: 4 s on one, 3 + 2 s on the other."""
    found = simulate(FORK, Cluster((devices,)))
    assert (found.makespan, found.waited) == (makespan, waited)


def test_the_critical_path_has_no_limit() -> None:
    assert simulate(FORK, None).makespan == 6.0
    assert simulate(FORK, None, job_seconds=0.5).makespan == 7.5  # three jobs in a row


def test_latency_holds_no_device() -> None:
    """Two independent jobs of 3 s on one device, each after 1 s: 1 + 3 + 3. In a chain: 1 + 3 + 1 + 3."""
    assert simulate(jobs((3.0, GPU, ()), (3.0, GPU, ())), Cluster((1,)), 1.0).makespan == 7.0
    assert simulate(jobs((3.0, GPU, ()), (3.0, GPU, (0,))), Cluster((1,)), 1.0).makespan == 8.0
    assert simulate(jobs((3.0, CPU, ()), (3.0, CPU, (0,)), local=True), Cluster((1,)), 1.0).makespan == 6.0


def test_jobs_of_earlier_iterations_start_first() -> None:
    rows = ((1.0, GPU, ()), (1.0, GPU, ()), (1.0, GPU, ()))
    for cluster in (Cluster((1,)), Cluster((1,), cores=4)):
        assert simulate(jobs(*rows, ranks=(2, 0, 1)), cluster).starts == [2.0, 0.0, 1.0]


def test_cores_limit_jobs_without_a_device() -> None:
    rows = [(2.0, CPU, ()) for _ in range(5)]
    assert simulate(jobs(*rows), Cluster((1,))).makespan == 2.0
    assert simulate(jobs(*rows), Cluster((1,), cores=2)).makespan == 6.0
    assert simulate(jobs(*rows), Cluster((1, 1), cores=2)).makespan == 4.0
    wide = jobs((2.0, (1, 0, 8), ()), (2.0, CPU, ()))
    assert simulate(wide, Cluster((1,), cores=2)).makespan == 4.0  # a job takes all cores at most


def test_a_job_of_two_devices_needs_them_on_one_node() -> None:
    pair = (1, 2, 1)
    alone = jobs((2.0, pair, ()), (2.0, pair, ()))
    assert simulate(alone, Cluster((2,))).makespan == 4.0
    assert simulate(alone, Cluster((4,))).makespan == 2.0
    assert simulate(alone, Cluster((2, 1, 1))).makespan == 4.0  # four devices, of which one node has two
    # The job of one device goes where it leaves the whole node free.
    assert simulate(jobs((2.0, GPU, ()), (2.0, pair, ())), Cluster((2, 1))).makespan == 2.0


def test_a_job_of_two_nodes() -> None:
    both = jobs((2.0, (2, 2, 1), ()), (1.0, GPU, ()))
    assert simulate(both, Cluster((2, 2))).makespan == 3.0
    assert simulate(both, Cluster((2, 2, 2))).makespan == 2.0


def test_smaller_jobs_pass_one_that_does_not_fit() -> None:
    found = simulate(jobs((3.0, GPU, ()), (1.0, (1, 2, 1), ()), (1.0, GPU, ())), Cluster((2,)))
    assert found.starts == [0.0, 3.0, 0.0]


@pytest.mark.parametrize("demand", [(1, 3, 1), (3, 1, 1)])
def test_a_job_that_never_fits_is_refused(demand: Demand) -> None:
    with pytest.raises(ConfigError, match=r"needs .* GPU.*tensor_parallel"):
        simulate(jobs((1.0, demand, ())), Cluster((2, 2)))


def plainly(made: Jobs, devices: int) -> Schedule:
    """The same rule without queues: at every end, look at all jobs again."""
    before = [[j for j in range(len(made)) if i in made.successors[j]] for i in range(len(made))]
    starts, ends = [-1.0] * len(made), [float("inf")] * len(made)
    time = 0.0
    while min(starts) < 0:
        for job in sorted(range(len(made)), key=lambda job: (made.rank[job], job)):
            gpus = made.demands[made.demand[job]][1]
            used = sum(
                made.demands[made.demand[other]][1]
                for other in range(len(made))
                if 0 <= starts[other] <= time < ends[other]
            )
            if starts[job] < 0 and all(ends[other] <= time for other in before[job]) and used + gpus <= devices:
                starts[job], ends[job] = time, time + made.seconds[job]
        later = [end for end, start in zip(ends, starts, strict=True) if start >= 0 and end > time]
        time = min(later, default=time)
    return Schedule(starts, ends, max(ends), False)


@pytest.mark.parametrize(("seed", "devices"), list(itertools.product(range(20), (1, 2, 3))))
def test_random_graphs_agree_with_a_plain_simulation_and_the_bounds(seed: int, devices: int) -> None:
    draw = random.Random(seed)
    rows = [
        (
            float(draw.randint(1, 9)),
            draw.choice((GPU, GPU, CPU)),
            tuple(j for j in range(i) if draw.random() < 0.15),
        )
        for i in range(25)
    ]
    made = jobs(*rows, ranks=tuple(draw.randint(0, 3) for _ in rows))
    found = simulate(made, Cluster((devices,)))
    assert found.starts == plainly(made, devices).starts
    assert found.starts == simulate(made, Cluster((devices,), cores=10**6)).starts  # the general way
    critical, work = simulate(made, None).makespan, sum(made.busy) / devices
    assert max(critical, work) <= found.makespan <= critical + work
