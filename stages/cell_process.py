"""An arm and seed in one process (`granularity: one_process`): `python -m stages cell ... --one-process`.

Every stage reads and writes the same files as a separate job, with its own record and log. A stage whose files are
finished does not run again, so an arm and seed that was interrupted continues with the unfinished stage. Whether a file
is finished follows from its footer: it was made by the job of today's configuration, from the files that lie there now.
Source: our decision (docs/decisions/0013-granularity.md).
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from extra_rl.config.experiment import Experiment
from extra_rl.errors import InputError
from extra_rl.results import file_name, iteration_name, start_folder
from extra_rl.run.execute import execute
from extra_rl.run.identity import Identity, differences, identity_of
from extra_rl.run.stage import Job
from extra_rl.tables.files import file_digest
from stages.experiment import job_json
from stages.iteration import files_of_step
from stages.layout import Layout
from stages.load import load
from stages.pipeline import NEXT_POLICY, STEPS

KEYS_SHOWN = 3
"""Changed keys that a note names."""
MISSING = "missing"
"""Why a stage runs that has not run yet, or whose file is gone or damaged."""


@dataclass(frozen=True)
class Task:
    """One run of a stage: its job, and role -> file of its inputs and outputs."""

    job: Job
    inputs: dict[str, Path]
    outputs: dict[str, Path]
    log: Path

    def run(self) -> None:
        """Run the stage; raise what it raises. Previous outputs are removed first, unless an input is missing."""
        if all(path.is_file() for path in self.inputs.values()):
            for path in self.outputs.values():
                path.unlink(missing_ok=True)
        module = load(self.job.stage)
        execute(module.STAGE, module.Config, module.run, self.job, self.inputs, self.outputs, self.log)


class Footers:
    """The identities of files, each read once until a stage writes the file again."""

    def __init__(self) -> None:
        self._known: dict[Path, Identity | None] = {}

    def of(self, path: Path) -> Identity | None:
        """Return the identity of a table or of a policy's manifest; None where it is missing or cannot be read."""
        if path not in self._known:
            try:
                self._known[path] = identity_of(path) if path.is_file() else None
            except InputError:
                self._known[path] = None
        return self._known[path]

    def forget(self, task: Task) -> None:
        """Read the footers of the outputs of a task again when they are needed."""
        for path in task.outputs.values():
            self._known.pop(path, None)


def run_cell(experiment: Experiment, arm: str, seed: int) -> None:
    """Run the stages of an arm and seed that are not finished, up to the evaluation of the last iteration.

    experiment: whole, or this part of it. Raises what a stage raises; the files of the stages before it stay.
    """
    footers, again, state = Footers(), False, GlobalState()
    for task in tasks_of(experiment, arm, seed):
        reason = "an earlier stage ran again" if again else why_to_run(task, footers)
        if not reason:
            continue
        if reason != MISSING and not again:
            again = True
            first = next(iter(task.outputs.values()))
            print(f"NOTE: {first} is made again, with all that follows: {reason}", file=sys.stderr, flush=True)
        state.restore()
        task.run()
        footers.forget(task)
        if task.job.stage == STEPS[-1].stage:
            gc.collect()  # models refer to themselves, so their memory would be freed late


def tasks_of(experiment: Experiment, arm: str, seed: int) -> Iterator[Task]:
    """Yield the runs of stages of an arm and seed in the order of the data flow, evaluations after their iteration."""
    run, layout = experiment.run, Layout(experiment)
    initial = f"{layout.results}/{start_folder(run.warm_start_of(seed))}/{NEXT_POLICY}"
    held_out = Path(layout.results) / "prepare" / "held_out.parquet"

    def policy_after(number: int) -> str:
        return f"{layout.iteration(arm, seed, number)}/{NEXT_POLICY}" if number >= 0 else initial

    for number in range(run.first_iteration, run.iterations):
        here = layout.iteration(arm, seed, number)
        before = layout.iteration(arm, seed, number - 1) if number else ""
        place = {"arm": arm, "seed": str(seed), "iteration": iteration_name(number).rpartition("_")[2]}
        given = {
            "train": f"{layout.results}/prepare/train.parquet",
            "initial": initial,
            "policy": policy_after(number - 1),
            "previous_policy": policy_after(number - 2) if number else "",
        }
        for step in STEPS:
            job = Job.from_json(job_json(experiment, step.stage, place))
            yield Task(job, *files_of_step(step, job, given, here, before))
        every = run.evaluate_every
        if number == run.iterations - 1 or (every and (number + 1) % every == 0):
            folder = Path(here)
            yield Task(
                Job.from_json(job_json(experiment, "evaluate", place)),
                {"held_out": held_out, "policy": folder / NEXT_POLICY},
                {name: folder / f"{name}.parquet" for name in ("evaluate", "evaluate_figures")},
                folder / "logs" / "evaluate.log",
            )


def why_to_run(task: Task, footers: Footers) -> str:
    """Return why a stage has to run; empty where its outputs are those that it would write.

    Every output must have the name of its place, and in its footer the job and the digests of the inputs. An input that
    is gone is not compared. Whether rows and weights are undamaged is checked by the stage that reads them.
    """
    made = [footers.of(path) for path in task.outputs.values()]
    if any(one is None or one.job == {} for one in made):
        return MISSING
    given = {path: footers.of(path) for path in task.inputs.values()}
    gone = {file_name(path) for path, one in given.items() if one is None}
    expected_job = json.loads(task.job.to_json())
    inputs = {one.name: one.digest or file_digest(one.path) for one in given.values() if one}
    for one in filter(None, made):
        if changed := differences(one.job, expected_job):
            more = len(changed) - KEYS_SHOWN
            return "; ".join(changed[:KEYS_SHOWN]) + (f" and {more} more keys" if more > 0 else "")
        if not _belongs(one, task):
            return f"{one.name} by its footer, which belongs elsewhere"
        recorded = {name: digest for name, digest in one.inputs.items() if name not in gone}
        others = sorted(name for name in {*inputs, *recorded} if inputs.get(name) != recorded.get(name))
        if others:
            return f"made from another version of {others[0]} than lies there now"
    return ""


def _belongs(one: Identity, task: Task) -> bool:
    """Whether a file is named after the place of its task."""
    role = next(role for role, path in task.outputs.items() if path == one.path)
    return one.name == f"{task.job.place}/{'policy' if role == 'next_policy' else one.path.stem}"


class GlobalState:
    """What a stage finds in a new process and may leave changed: torch's default random generator."""

    def __init__(self) -> None:
        import torch

        self._random = torch.random.get_rng_state()

    def restore(self) -> None:
        """Give the next stage the state that a separate process would have."""
        import torch

        torch.random.set_rng_state(self._random)
