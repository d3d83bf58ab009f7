"""The graph of a run's stages, from the same paths as the rules: which stage waits for which, without Snakemake.

A stage waits for the stages that write its inputs. Within an iteration these come from `stages.pipeline`, elsewhere
from `Layout`. `tests/planning/test_graph.py` compares the graph with Snakemake's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from extra_rl.config.derived import derive
from extra_rl.config.experiment import Experiment
from extra_rl.planning.graph import EVALUATED_START, START, Chain, Graph, Node, Shared
from extra_rl.results import PREPARED, run_name
from stages.layout import Layout
from stages.pipeline import STEPS, Step, inputs_of, outputs_of, stage_of, table, unread

AUDITED = ("generate", "regenerate")


class Place(dict[str, Any]):
    """Wildcards of the rules of an iteration: arm, seed and iteration."""

    def __init__(self, arm: str, seed: int, iteration: int) -> None:
        super().__init__(arm=arm, seed=str(seed), iteration=f"{iteration:04d}")
        self.arm, self.seed, self.iteration = arm, str(seed), f"{iteration:04d}"


class Task(NamedTuple):
    """A node, the files that it reads, and those that it writes."""

    node: Node
    inputs: list[str]
    outputs: list[str]


def graph_of(experiment: Experiment) -> Graph:
    """Return the graph of a run of which nothing is finished but the iterations before its window."""
    layout = Layout(experiment)
    targets = _targets(layout)
    seeds = experiment.run.seeds
    starts = {seed: layout.start(Place("", seed, 0)) for seed in seeds}
    shared = list(_first(layout))
    writers = {path: key for key, task in shared for path in task.outputs}
    own = {starts[seeds[0]]: START, f"evaluate_{starts[seeds[0]]}": EVALUATED_START}
    chains: dict[str, Chain] = {}
    places: dict[str, tuple[str, int]] = {}
    for arm in experiment.arms:
        chain, made = Chain(), dict[str, int]()
        for task in _of_arm(experiment, layout, targets, arm, seeds[0]):
            found = {path for path in task.inputs if path}
            chain.needs.append({made[path] for path in found if path in made})
            chain.shared.append({own.get(writers[path], writers[path]) for path in found if path in writers})
            made |= dict.fromkeys(task.outputs, len(chain.nodes))
            chain.nodes.append(task.node)
        chains[arm] = chain
        places |= {path: (arm, index) for path, index in made.items()}
    nodes: dict[str, Shared] = {}
    for key, task in [*shared, *_last(layout)]:
        ends: dict[str, set[int]] = {}
        for path in task.inputs:
            if path in places:
                ends.setdefault(places[path][0], set()).add(places[path][1])
        needs = frozenset(writers[path] for path in task.inputs if path in writers)
        nodes[key] = Shared(task.node, needs, {arm: frozenset(found) for arm, found in ends.items()})
        writers |= dict.fromkeys(task.outputs, key)
    return Graph(
        nodes, chains, {seed: {START: start, EVALUATED_START: f"evaluate_{start}"} for seed, start in starts.items()}
    )


def _targets(layout: Layout) -> frozenset[str]:
    """Return the files that only some iterations make: evaluations, audits, reports, and marks of tracking."""
    return frozenset(
        [
            *layout.extra_evaluations(),
            *layout.evaluated().values(),
            *layout.audits(),
            *layout.refreshed_reports(),
            *layout.tracked(),
        ]
    )


def _first(layout: Layout) -> Iterator[tuple[str, Task]]:
    """What all arms share before the first iteration: the problems, the initial policies and their evaluations."""
    results = layout.results
    held_out = f"{results}/prepare/held_out.parquet"
    outputs = [f"{results}/prepare/{name}.parquet" for name in PREPARED]
    yield "prepare", Task(Node("prepare", "prepare"), [], outputs)
    for start in layout.starts():
        here = f"{results}/{start}"
        policy = f"{here}/policy/manifest.json"
        node = Node("warm_start", "warm_start")
        yield start, Task(node, [held_out, *layout.worked_solutions()], [policy])
        node = Node("evaluate_warm_start", "evaluate")
        yield f"evaluate_{start}", Task(node, [held_out, policy], _evaluation(here))


def _last(layout: Layout) -> Iterator[tuple[str, Task]]:
    """What follows the last iteration of all arms and seeds: the comparison and the report."""
    compared = f"{layout.results}/compare.parquet"
    evaluated = layout.compared()
    yield "compare", Task(Node("compare", "compare"), evaluated, [compared])
    reported = [compared, *layout.extra_evaluations(), *layout.refreshed_reports()]
    yield "report", Task(Node("report", "report"), reported, [])


def _of_arm(experiment: Experiment, layout: Layout, targets: frozenset[str], arm: str, seed: int) -> Iterator[Task]:
    """The stages of an arm and seed, each after those that it waits for."""
    mark = f"{layout.results}/{run_name(arm, seed)}/track_warm_start.json"
    if mark in targets:
        start = layout.start(Place(arm, seed, 0))
        inputs = [f"{layout.results}/{start}/evaluate_figures.parquet"]
        yield Task(Node("track_warm_start", "track_warm_start", local=True), inputs, [mark])
    for number in range(experiment.run.first_iteration, experiment.run.iterations):
        yield from _of_iteration(experiment, layout, targets, Place(arm, seed, number))


def _of_iteration(experiment: Experiment, layout: Layout, targets: frozenset[str], place: Place) -> Iterator[Task]:
    number = int(place.iteration)
    here = layout.iteration(place.arm, place.seed, number)
    given = {
        "train": f"{layout.results}/prepare/train.parquet",
        "held_out": f"{layout.results}/prepare/held_out.parquet",
        "policy": layout.policy(place),
        "initial": layout.initial(place),
        "previous_policy": "".join(layout.previous_policy(place)),
    }
    previous = layout.iteration(place.arm, place.seed, number - 1) if number else ""
    sections = experiment.at(place.arm, number)
    for step in STEPS:
        leave_out = unread(step.stage, sections[step.stage], derive(experiment, step.stage, place.arm, number))
        inputs = list(inputs_of(step, given, here, previous, leave_out).values())
        outputs = list(outputs_of(step, here).values())
        if len(layout.shards) > 1 and stage_of(step.stage).shards:
            yield from _in_shards(layout, step, number, inputs, outputs, here)
        else:
            yield Task(Node(step.stage, step.name, number, step.of, fused=True), inputs, outputs)
    for of in AUDITED:
        step = Step("audit", of)
        outputs = list(outputs_of(step, here).values())
        if not targets.isdisjoint(outputs):
            inputs = list(inputs_of(step, given, here, previous).values())
            yield Task(Node("audit", step.name, number, of), inputs, outputs)
    yield from _after(given["held_out"], here, targets, number)


def _in_shards(
    layout: Layout, step: Step, number: int, inputs: list[str], outputs: list[str], here: str
) -> Iterator[Task]:
    tables = []
    for shard, path in zip(layout.shards, layout.shard_tables().values(), strict=True):
        made = path.replace(layout.here, here).format(of=step.stage)
        yield Task(Node(f"{step.stage}_shard", step.stage, number, shard=shard), inputs, [made])
        tables.append(made)
    yield Task(Node("gather", f"gather_{step.stage}", number, step.stage), tables, outputs)


def _after(held_out: str, here: str, targets: frozenset[str], number: int) -> Iterator[Task]:
    """The evaluation of an iteration's policy, its report, and the jobs of trackers."""
    evaluation = _evaluation(here)
    if evaluation[0] in targets:
        node = Node("evaluate_iteration", "evaluate", number)
        yield Task(node, [held_out, f"{here}/policy/manifest.json"], evaluation)
    others: Mapping[str, tuple[Node, str]] = {
        "refresh_report.done": (Node("refresh_report", "refresh_report", number), table(here, "summarize")),
        "track.json": (Node("track", "track", number, local=True), table(here, "summarize")),
        "track_evaluation.json": (Node("track_evaluation", "track_evaluation", number, local=True), evaluation[1]),
    }
    for name, (node, read) in others.items():
        if f"{here}/{name}" in targets:
            yield Task(node, [read], [f"{here}/{name}"])


def _evaluation(folder: str) -> list[str]:
    return [table(folder, "evaluate"), table(folder, "evaluate_figures")]
