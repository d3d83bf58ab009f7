"""Faults of a user's own judge and task, found in child processes before the first job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from extra_rl.config.experiment import Experiment
from extra_rl.config.judges import JUDGES, who_judges
from extra_rl.config.mistakes import nearest
from extra_rl.errors import ConfigError
from extra_rl.judging.inspection import faults_of_function
from extra_rl.tasks.own import DEMONSTRATION, VOCABULARY, inspect_task
from extra_rl.user_code import digest, is_reference

Section = Mapping[str, Any]


def faults_of_own_task(experiment: Experiment) -> Iterator[str]:
    """Faults of `task.name: module:Class`: its import, its levels, and what a run needs of it."""
    common = experiment.common
    name = common["prepare"]["task"]["name"]
    if not is_reference(name):
        return
    try:
        found = inspect_task(name)
    except ConfigError as error:
        yield f"task.name: {error}"
        return
    sections = {"prepare.train_per_level": common["prepare"]["train_per_level"]}
    sections["warm_start.level_weights"] = common["warm_start"]["level_weights"]
    for key, levels in sections.items():
        for level in levels:
            if level not in found["levels"]:
                known = ", ".join(found["levels"])
                yield f"{key}: {name} has no level {level!r}; it has {known}{nearest(level, found['levels'])}"
    if not found["repeats"]:
        yield (
            f"task.name: {name}.sample returns different problems for the same generator. Take all random numbers from "
            "the argument `rng`, so that a run can be repeated"
        )
    arms = [common, *experiment.arms.values()]
    solutions = {
        "warm_start.steps": common["warm_start"]["steps"] > 0,
        "task.examples": common["prepare"]["task"]["examples"] > 0,
        "generate.source: demonstrations": any(arm["generate"]["source"] == "demonstrations" for arm in arms),
    }
    if not found["demonstrations"]:
        yield from (f"{key}: {name} {DEMONSTRATION}" for key, needed in solutions.items() if needed)
    model = common["prepare"]["model"]
    if model["source"] == "new" and model["tokenizer"] == "words" and not found["vocabulary"]:
        yield f"model.tokenizer: {name} {VOCABULARY}"


def faults_of_judge(sections: Mapping[str, Section]) -> Iterator[str]:
    """Faults of an arm's `task.judge: module:function`, or of the judge of its own task, with `verify.weights`."""
    verify = sections["verify"]
    task, verifier = verify["task"], verify["verifier"]
    own, judge = task["judge"] == "own", who_judges(task)
    if judge in JUDGES or not is_reference(judge):
        return
    try:
        source = digest(judge)
    except ConfigError as error:
        yield f"{'task.name' if own else 'task.judge'}: {error}"
        return
    yield from _faults(source, judge, tuple(verify["weights"]), task["correct_at"], verifier["memory_mb"], own)


@lru_cache(maxsize=64)
def _faults(
    source: str, judge: str, weights: tuple[str, ...], correct_at: float, memory_mb: int, own: bool
) -> tuple[str, ...]:
    """`faults_of_function`, once for arms that agree. source: digest of the judge's files."""
    return tuple(faults_of_function(judge, weights, correct_at=correct_at, memory_mb=memory_mb, task=own))
