"""The makespan of small runs by hand: granularities, shards, phases, advice; profiles and demands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from extra_rl.config.experiment import Experiment
from extra_rl.errors import ConfigError
from extra_rl.planning import counts
from extra_rl.planning.makespan import Figures, Machines, Overhead, advice_of, makespan_of, sizes
from extra_rl.planning.makespan_report import assumptions_of, duration, lines_of_makespan
from extra_rl.planning.profile import GROUPS, Profile, demand_of, label_of, read_profile
from extra_rl.planning.stage_times import StageTimes, stage_times
from stages.graph import graph_of
from tests.conftest import ROOT
from tests.planning.test_counts import experiment, sections
from tests.planning.test_rate import iteration
from tests.planning.test_stage_times import record, rollouts

SLURM = read_profile(ROOT / "workflow" / "profiles" / "slurm" / "config.yaml")

SECONDS = {
    "select": 1.0,
    "generate": 8.0,
    "verify_generate": 2.0,
    "score_entropy_generate": 3.0,
    "choose_prefixes": 1.0,
    "regenerate": 1.0,
    "verify_regenerate": 1.0,
    "score_entropy_regenerate": 1.0,
    "novelty": 2.0,
    "advantage": 1.0,
    "update": 4.0,
    "summarize": 1.0,
}
CHAIN = 8 + 3 + 1 + 1 + 1 + 2 + 1 + 4
"""Generate, score_entropy, choose_prefixes, regenerate, one of the two stages after it, novelty, advantage, update."""


@pytest.fixture
def times(tmp_path: Path) -> StageTimes:
    """An iteration of 40 rollouts of 10 tokens; prepare 2 s, warm start 10 s, an evaluation 5 s, compare 1 s."""
    folder = iteration(tmp_path / "run/grpo/s0/iteration_0000", SECONDS, 0)
    rollouts(folder, "generate", [10] * 40)
    record(tmp_path / "run/prepare/train.run.json", 2.0)
    record(tmp_path / "run/compare.run.json", 1.0)
    record(tmp_path / "run/warm_start/warm_start.run.json", 10.0)
    record(tmp_path / "run/warm_start/evaluate.run.json", 5.0)
    rollouts(tmp_path / "run/warm_start", "evaluate", [10] * 12)
    return stage_times(tmp_path)


def planned(**changes: Any) -> Experiment:
    """One seed, one iteration and one evaluation of 12 samples."""
    return experiment(
        **{"iterations": 1, "prepare": {"final_per_level": 2}, "evaluate": {"samples": 1}, "compare": {"ks": [1]}}
        | changes
    )


def makespan(times: StageTimes, made: Experiment, machines: Machines, *overhead: Any) -> Figures:
    return makespan_of(made, graph_of(made), times, SLURM, machines, Overhead(*(overhead or ("stage",))))


def test_one_seed_is_a_chain(times: StageTimes) -> None:
    """Two devices: prepare, warm start, the iteration, its evaluation, compare; the other evaluation runs alongside."""
    made = planned()
    found = makespan(times, made, Machines(1, 2))
    assert found["seconds"] == 2 + 10 + CHAIN + 5 + 1
    assert found["lower_bounds"]["critical_path"] == found["seconds"]
    busy = 10 + 5 + 8 + 3 + 1 + 1 + 2 + 4 + 5  # warm start, its evaluation, the six stages with a device, evaluation
    assert found["gpu_seconds"]["busy"] == busy
    assert found["lower_bounds"]["work"] == busy / 2
    assert found["utilisation"] == pytest.approx(busy / (2 * found["seconds"]))
    assert found["stages"]["evaluate"] == {"seconds": 10.0, "gpu_seconds": 10.0, "share": 10 / busy}
    assert found["stages"]["update"]["seconds"] == 4.0
    assert found["jobs"] == counts.jobs(made.run, made.arms) - 1  # without the target `all`


def test_one_device_also_has_to_evaluate_the_warm_start(times: StageTimes) -> None:
    found = makespan(times, planned(), Machines(1, 1))
    assert found["seconds"] == 2 + 10 + 5 + CHAIN + 5 + 1


def test_seeds_side_by_side(times: StageTimes) -> None:
    """Two seeds on three devices take as long as one; on one device everything with a device runs in turn."""
    two = planned(seeds=[0, 1])
    assert makespan(times, two, Machines(1, 3))["seconds"] == 2 + 10 + CHAIN + 5 + 1
    assert makespan(times, two, Machines(3, 1))["seconds"] == 2 + 10 + CHAIN + 5 + 1
    alone = makespan(times, two, Machines(1, 1))
    assert alone["seconds"] >= alone["lower_bounds"]["work"] == 10 + 5 + 2 * (8 + 3 + 1 + 1 + 2 + 4 + 5)


def test_shards_divide_sampling_only(times: StageTimes) -> None:
    four, rest = planned(generation={"shards": 4}), CHAIN - 8 - 1 + 5 + 1
    assert makespan(times, four, Machines(1, 5))["seconds"] == 2 + 10 + 8 / 4 + 1 / 4 + rest
    # The evaluation of the warm start has one of four devices, so the fourth shard waits for the others.
    assert makespan(times, four, Machines(1, 4))["seconds"] == 2 + 10 + 2 * 8 / 4 + 1 / 4 + rest
    assert makespan(times, four, Machines(1, 1))["seconds"] == 2 + 10 + 5 + 8 + 1 + rest


def test_latency_and_start_of_every_job(times: StageTimes) -> None:
    """The chain has ten jobs before the evaluation: 12 with it and compare, one with the report."""
    plain = makespan(times, planned(), Machines(1, 2))["seconds"]
    chain = ["prepare", "warm_start", *"gscrvnau", "evaluate", "compare", "report"]
    assert makespan(times, planned(), Machines(1, 2), "stage", 7.0)["seconds"] == plain + 7 * len(chain)
    assert makespan(times, planned(), Machines(1, 2), "stage", 0.0, 0.5)["seconds"] == plain + 0.5 * len(chain)


def test_groups_of_the_profile_are_jobs(times: StageTimes) -> None:
    """An iteration is sample, judge_generate, judge_regenerate and learn; stages within one follow one another."""
    found = makespan(times, planned(), Machines(1, 2), "group", 100.0)
    inside = (1 + 8) + (2 + 3 + 1) + (1 + 1 + 1) + (2 + 1 + 4 + 1)
    # prepare, warm start, four jobs, evaluation, compare, report
    assert found["seconds"] == 2 + 10 + inside + 5 + 1 + 9 * 100
    assert found["jobs"] == 3 + 4 + 3


def test_a_run_is_one_job(times: StageTimes) -> None:
    """The allocation holds a device for the whole seed; the latency counts once."""
    two = planned(seeds=[0, 1], generation={"shards": 2})
    found = makespan(times, two, Machines(1, 3), "run", 100.0)
    inside = sum(SECONDS.values()) + 5
    assert found["seconds"] == 2 + 10 + inside + 1 + 5 * 100  # prepare, warm start, run, compare, report
    assert found["jobs"] == 3 + 2 + 2
    assert found["gpu_seconds"]["allotted"] == 10 + 5 + 2 * inside
    assert found["gpu_seconds"]["busy"] == 10 + 5 + 2 * (8 + 3 + 1 + 1 + 2 + 4 + 5)


def test_an_iteration_as_one_job_has_no_shards(times: StageTimes) -> None:
    one = planned()
    assert makespan(times, one, Machines(1, 2), "iteration")["jobs"] == 3 + 1 + 3
    # The processes of the chain: prepare, warm start, iteration, evaluation, compare, report.
    plain, started = (makespan(times, one, Machines(1, 2), "iteration", 0.0, s)["seconds"] for s in (0.0, 7.0))
    assert started == plain + 7 * 6
    whole, started = (makespan(times, one, Machines(1, 2), "run_by_iteration", 0.0, s)["seconds"] for s in (0.0, 7.0))
    assert (whole, started) == (plain, plain + 7 * 6)
    assert makespan(times, one, Machines(1, 2), "run", 0.0, 7.0)["seconds"] == plain + 7 * (6 + 11)
    with pytest.raises(ConfigError, match=r"generation.shards: 2 needs another"):
        makespan(times, planned(generation={"shards": 2}), Machines(1, 2), "iteration")


def test_phases_add_up(times: StageTimes) -> None:
    found = makespan(times, planned(), Machines(1, 2))
    whole = found["seconds"]
    assert [phase["seconds"] for phase in found["idle"]] == [12, CHAIN + 5, 1]
    # Before: one of two devices, and only in the last 10 of 12 s.
    assert found["idle"][0]["idle"] == pytest.approx((2 * 12 - 10) / (2 * whole))
    assert sum(phase["idle"] for phase in found["idle"]) == pytest.approx(1 - found["utilisation"])


def test_the_table_of_devices(times: StageTimes) -> None:
    found = makespan(times, planned(seeds=[0, 1, 2]), Machines(4, 2))
    rows = {row["gpus"]: row for row in found["scaling"]}
    assert list(rows) == [1, 2, 3, 4, 8]
    assert rows[8]["seconds"] == rows[4]["seconds"] == found["seconds"] <= rows[2]["seconds"] < rows[1]["seconds"]
    assert rows[1]["speedup"] == 1.0
    assert rows[8]["speedup"] == pytest.approx(rows[1]["seconds"] / rows[8]["seconds"])
    busy = found["gpu_seconds"]["busy"]
    assert all(row["utilisation"] == pytest.approx(busy / (n * row["seconds"])) for n, row in rows.items())
    for name, least in (("at_80_percent", 0.8), ("at_50_percent", 0.5)):
        assert found["useful"][name] == max((n for n in rows if rows[n]["utilisation"] >= least), default=0)


def test_jobs_of_several_devices(times: StageTimes) -> None:
    made = planned(update={"processes": 4}, sampling={"backend": "vllm", "engine": {"tensor_parallel": 2}})
    found = makespan(times, made, Machines(1, 4))
    assert found["stages"]["update"]["gpu_seconds"] == 4 * 4.0
    assert found["stages"]["generate"]["gpu_seconds"] == 2 * 8.0
    assert [row["gpus"] for row in found["scaling"]] == [4]  # an update does not fit on fewer
    with pytest.raises(ConfigError, match=r"needs 4 GPU\(s\) on each of 1 node\(s\)"):
        makespan(times, made, Machines(3, 2))


@pytest.mark.parametrize("machines", [Machines(0, 1), Machines(1, 0), Machines(1, 1, 0)])
def test_machines_without_anything_are_refused(times: StageTimes, machines: Machines) -> None:
    with pytest.raises(ConfigError, match="expected at least 1"):
        makespan(times, planned(), machines)


def test_sizes() -> None:
    assert sizes(64, 12) == [1, 2, 4, 8, 12, 16, 32, 64]
    assert sizes(1, 3) == [1]
    assert sizes(6, 6) == [1, 2, 4, 6]
    assert Machines(3, 4, 2).of(6).gpus == (4, 2)


def figures(**changes: Any) -> Figures:
    idle = {"before the first iteration": 0.0, "iterations": 0.7, "after the first arm and seed has ended": 0.1}
    idle |= changes.pop("idle", {})
    return {
        "nodes": 2,
        "gpus_per_node": 4,
        "cells": 2,
        "shards": 1,
        "granularity": "stage",
        "job_seconds": 0.0,
        "utilisation": 0.2,
        "useful": {"at_80_percent": 1, "at_50_percent": 2},
        "stages": {"generate": {"share": 0.6}},
        "idle": [{"phase": name, "idle": value} for name, value in idle.items()],
    } | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"utilisation": 0.8}, "80% of the GPU-time is used: take 8 GPUs as planned."),
        (
            {},
            "2 of them: take 1 GPU, or run 4 times as many seeds side by side, or set generation.shards to 4",
        ),
        ({"shards": 4}, "the run has 2 of them: take 1 GPU, or run 4 times as many seeds side by side."),
        ({"stages": {"generate": {"share": 0.1}}, "cells": 5}, "take 1 GPU, or add seeds."),
        (
            {"idle": {"before the first iteration": 0.9}},
            "warm starts come before all iterations: take 1 GPU, or make runs",
        ),
        (
            {"idle": {"after the first arm and seed has ended": 0.9}},
            "do not end together on 8 GPUs: take 1 GPU, or choose",
        ),
        ({"cells": 9, "useful": {"at_80_percent": 0, "at_50_percent": 0}}, "waiting: start more seeds side by side"),
        ({"job_seconds": 30.0}, "or use fewer, longer jobs (`--granularity run`)."),
    ],
)
def test_advice(changes: dict[str, Any], said: str) -> None:
    assert said in advice_of(figures(**changes))


def test_demands_of_rules() -> None:
    vllm = sections(sampling={"backend": "vllm", "engine": {"tensor_parallel": 2}}, update={"processes": 6, "nodes": 3})
    found = {rule: demand_of(rule, vllm, SLURM) for rule in ("generate", "evaluate_iteration", "update", "verify")}
    assert found == {
        "generate": (1, 2, 1),
        "evaluate_iteration": (1, 2, 1),
        "update": (3, 2, 2),
        "verify": (1, 0, 1),
    }
    threads = sections(compute={"threads": 5}, sampling={"engine": {"tensor_parallel": 2}})
    assert demand_of("generate", threads, SLURM) == (1, 1, 5)  # transformers samples on one device
    assert demand_of("generate", vllm, Profile("none", {}, {})) == (1, 0, 1)


def test_the_profile_of_slurm() -> None:
    """It names no groups: they are those of the rules."""
    assert set(SLURM.gpus.values()) <= {0, 1}
    assert not SLURM.groups
    rules = "".join((ROOT / "workflow" / "rules" / name).read_text() for name in ("iteration.smk", "shards.smk"))
    found = re.findall(r"^rule (\w+):(?:(?!^rule ).)*?in_group\(\"([\w{}]+)\"", rules, re.MULTILINE | re.DOTALL)
    assert {rule: f"{group}_{{iteration}}" for rule, group in found} == GROUPS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("set-resources: {generate: {gpu: many}}", "generate: gpu: 'many' is not a number"),
        ("set-resources: [generate:gpu=1]", "expected `rule: {gpu: 1"),
        ("groups: [update]", "'update': expected rule=name"),
    ],
)
def test_a_profile_that_cannot_be_read(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config.yaml: ") as error:
        read_profile(path)
    assert said in str(error.value)


def test_unknown_granularities_are_refused() -> None:
    with pytest.raises(ConfigError, match="granularity 'job': unknown; expected one of stage, group, iteration, run"):
        label_of("job", SLURM)


def test_lines(times: StageTimes) -> None:
    found = makespan(times, planned(), Machines(1, 2), "group", 30.0)
    found |= {"measured": {"source": "results/x", "iterations": 3}, "profile": "p.yaml"}
    lines = lines_of_makespan(found)
    text = "\n".join(lines)
    assert "makespan on 1 node(s) x 2 GPU(s): 5.23 min expected" in text
    assert "10 jobs, at most 2 at once: light stages share a job with a heavy one" in text
    assert max(map(len, lines)) <= 140
    notes = "\n".join(assumptions_of(found))
    assert "3 measured iteration(s) of results/x" in notes
    assert "30 s from the moment" in notes
    assert "Not measured, and 0 s: report." in notes


def test_durations() -> None:
    assert [duration(s) for s in (0.5, 59, 90, 7199, 7200, 200_000)] == [
        *("0.5 s", "59 s", "1.5 min", "120 min", "2 h", "2.31 days"),
    ]
