"""The graph of a plan is Snakemake's own, job by job and edge by edge; and how stages become jobs, by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from extra_rl.errors import ConfigError
from extra_rl.planning import counts
from extra_rl.planning.graph import Chain, Graph, Jobs, Load, Node, Shared, jobs_of, merge
from extra_rl.planning.profile import Profile, label_of
from stages.experiment import experiment_of
from stages.graph import graph_of
from tests.conftest import ROOT, environment, new_run

DAG = """
import json, sys
from snakemake.cli import main
import snakemake.dag

def named(job):
    return [job.rule.name, *sorted(dict(job.wildcards).items())]

def d3dag(self):
    print("DAG" + json.dumps([[named(job), [named(other) for other in self._dependencies[job]]] for job in self.jobs]))

snakemake.dag.DAG.d3dag = d3dag
main(sys.argv[1:])
"""
"""Print each job of the real DAG with the jobs that it depends on."""

Names = dict[tuple[Any, ...], set[tuple[Any, ...]]]


def frozen(value: Any) -> Any:
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def of_snakemake(config: Path) -> Names:
    """Job of the real DAG -> the jobs that it depends on, without the target `all`."""
    command = [sys.executable, "-c", DAG, "--d3dag", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += ["--directory", str(config.parent), "--configfile", str(config)]
    env = {**environment(), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    lines = [line for line in done.stdout.splitlines() if line.startswith("DAG")]
    assert lines, done.stdout + done.stderr
    found = {frozen(job): set(map(frozen, others)) for job, others in json.loads(lines[0].removeprefix("DAG"))}
    del found[("all",)]
    return found


def of_graph(graph: Graph) -> Names:
    """The same of a plan's graph."""
    found: Names = {}

    def wildcards(node: Node, **values: str) -> tuple[Any, ...]:
        if node.iteration >= 0:
            values["iteration"] = f"{node.iteration:04d}"
        if node.of:
            values["of"] = node.of
        if node.shard:
            values["shard"] = node.shard
        return (node.rule, *sorted(values.items()))

    def shared(key: str) -> tuple[Any, ...]:
        start = key.removeprefix("evaluate_")
        return wildcards(graph.shared[key].node, **({"start": start} if start.startswith("warm_start") else {}))

    for key, one in graph.shared.items():
        found[shared(key)] = {shared(other) for other in one.needs}
        for arm, indices in one.cells.items():
            for seed in graph.starts:
                found[shared(key)] |= {
                    wildcards(graph.chains[arm].nodes[index], arm=arm, seed=str(seed)) for index in indices
                }
    for arm, chain in graph.chains.items():
        for seed, start in graph.starts.items():
            names = [wildcards(node, arm=arm, seed=str(seed)) for node in chain.nodes]
            for name, needs, keys in zip(names, chain.needs, chain.shared, strict=True):
                found[name] = {names[other] for other in needs} | {shared(start.get(key, key)) for key in keys}
    return found


EVERYTHING: dict[str, Any] = {
    "iterations": 4,
    "seeds": [0, 3],
    "warm_starts": [0, 7],
    "evaluate_every": 2,
    "report": {"every": 2},
    "generation": {"shards": 3},
    "tracking": ["jsonl"],
    "arms": {
        "grpo": {"audit": {"judge": "string"}},
        "extra": {"preset": "prototype"},
        "cheap": {
            "preset": "prototype",
            "choose_prefixes": {
                "scores_from": "sampler",
                "cut": "before_peak_surprisal",
                "rank": "low_mean_surprisal",
                "when": "next_iteration",
            },
            "score_entropy": {"rows": "signal"},
            "advantage": {"group": "joined"},
        },
    },
}


@pytest.mark.parametrize("changes", [{"iterations": 2}, EVERYTHING], ids=["mini", "everything"])
def test_the_graph_is_that_of_snakemake(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = new_run(tmp_path, **changes).config
    experiment = experiment_of(yaml.safe_load(config.read_text()))
    expected, found = of_snakemake(config), of_graph(graph_of(experiment))
    assert expected.keys() == found.keys()
    assert {job: needs for job, needs in expected.items() if needs != found[job]} == {}
    if "tracking" not in changes:
        assert len(found) + 1 == counts.jobs(experiment.run, experiment.arms)


def test_an_iteration_as_one_job_waits_for_the_same(tmp_path: Path) -> None:
    """With `granularity: iteration` Snakemake has one job an iteration; the plan merges the stages into the same."""
    config = new_run(tmp_path, iterations=3, seeds=[0, 1], granularity="iteration").config
    experiment = experiment_of(yaml.safe_load(config.read_text()))
    expected = of_snakemake(config)
    graph = graph_of(experiment)
    merged = merge(graph.chains["extra"], label_of("iteration", PROFILE)("extra"))
    names = [
        "iteration" if graph.chains["extra"].nodes[members[0]].fused else graph.chains["extra"].nodes[members[0]].rule
        for members in merged.members
    ]
    assert names == ["iteration", "iteration", "iteration", "evaluate_iteration"]
    assert merged.needs == [set(), {0}, {1}, {2}]
    jobs = jobs_of(graph, label_of("iteration", PROFILE), lambda arm, node: Load(1.0))
    assert len(jobs) == len(expected)
    # Without the edges that follow from others: iteration 2 also reads the policy of iteration 0.
    assert ("iteration", ("arm", "extra"), ("iteration", "0000"), ("seed", "0")) in expected[
        ("iteration", ("arm", "extra"), ("iteration", "0001"), ("seed", "0"))
    ]


def test_iterations_before_the_window_are_there_already() -> None:
    base = {"name": "x", "arms": {"grpo": {}}, "model": {"context_tokens": 99}, "iterations": 7}
    chain = graph_of(experiment_of({**base, "first_iteration": 5})).chains["grpo"]
    assert {node.iteration for node in chain.nodes} == {5, 6}
    assert len(chain.nodes) == 2 * 12 + 1
    generate = next(i for i, node in enumerate(chain.nodes) if node.name == "generate")
    assert {chain.nodes[i].name for i in chain.needs[generate]} == {"select"}  # its policy is there


PROFILE = Profile("profile.yaml", {"b": 1}, {"a": "one_{arm}_{seed}_{iteration}", "b": "one_{arm}_{seed}_{iteration}"})


def graph(*chain: tuple[str, set[int]], seeds: int = 1) -> Graph:
    """A graph by hand: prepare, then per seed the nodes (rule, needs), then compare after the last node."""
    nodes = Chain(
        [Node(rule, rule, number) for number, (rule, _) in enumerate(chain)],
        [needs for _, needs in chain],
        [set() if needs else {"prepare"} for _, needs in chain],
    )
    prepare, compare = Shared(Node("prepare", "prepare")), Shared(Node("compare", "compare"))
    last = {"arm": frozenset({len(chain) - 1})}
    return Graph(
        {"prepare": prepare, "compare": Shared(compare.node, cells=last)},
        {"arm": nodes},
        {seed: {} for seed in range(seeds)},
    )


def test_jobs_of_two_seeds_by_hand() -> None:
    """prepare -> a -> b, once a seed -> compare; a and b have a job each."""
    made = jobs_of(
        graph(("a", set()), ("b", {0}), seeds=2),
        label_of("stage", PROFILE),
        lambda arm, node: Load(2.0, gpus=int(node.rule == "b"), cores=3),
        start_seconds=0.5,
    )
    assert made.seconds == [2.5] * 6
    assert made.successors == [[1, 3], [2], [5], [4], [5], []]
    assert made.needs == [0, 1, 1, 1, 1, 2]
    assert made.cell == [-1, 0, 0, 1, 1, -1]
    assert made.busy == [0, 0, 2.0, 0, 2.0, 0]
    assert [made.demands[kind] for kind in made.demand][1:3] == [(1, 0, 3), (1, 1, 3)]


@pytest.mark.parametrize(("granularity", "seconds"), [("group", [1.0, 1.0, 1.0, 1.0, 1.0]), ("run", [1.0, 3.0, 1.0])])
def test_stages_of_a_job_follow_one_another(granularity: str, seconds: list[float]) -> None:
    """A name of a group contains the iteration, so the two stages, of iterations 0 and 1, stay apart."""
    made = jobs_of(
        graph(("a", set()), ("b", {0}), ("c", {1})), label_of(granularity, PROFILE), lambda arm, node: Load(1.0)
    )
    assert made.seconds == seconds


def test_a_group_is_one_job_with_the_largest_demand_of_its_stages() -> None:
    chain = Chain([Node("a", "a", 0), Node("b", "b", 0)], [set(), {0}], [{"prepare"}, {"prepare"}])
    made = jobs_of(
        Graph({"prepare": Shared(Node("prepare", "prepare"))}, {"arm": chain}, {0: {}}),
        label_of("group", PROFILE),
        lambda arm, node: Load(4.0, gpus=int(node.rule == "b")),
    )
    assert (made.seconds, made.busy, made.needs) == ([4.0, 8.0], [0.0, 4.0], [0, 1])
    assert made.demands[made.demand[1]] == (1, 1, 1)


def test_waits_that_follow_from_others_are_dropped() -> None:
    chain = Chain(
        [Node(rule, rule) for rule in "abc"], [set(), {0}, {0, 1}], [{"prepare"}, {"prepare"}, {"prepare", "start"}]
    )
    merged = merge(chain, lambda node: node.rule)
    assert merged.needs == [set(), {0}, {1}]
    assert merged.shared == [{"prepare"}, set(), {"start"}]


def test_groups_that_wait_for_one_another_are_refused() -> None:
    chain = Chain([Node(rule, rule) for rule in "aba"], [set(), {0}, {1}], [set(), set(), set()])
    with pytest.raises(ConfigError, match=r"wait for one another: .*Split one"):
        merge(chain, lambda node: node.rule)


def test_jobs_are_parallel_lists() -> None:
    assert len(Jobs()) == 0
