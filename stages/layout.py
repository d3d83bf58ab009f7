"""Paths in a run's results, and the input functions of the rules: which files of which iteration feed a rule."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from extra_rl.config.derived import derive
from extra_rl.config.experiment import Experiment
from extra_rl.config.judges import is_generated
from extra_rl.errors import InputError
from extra_rl.problems.files import files_of
from extra_rl.problems.frames import is_saved
from extra_rl.results import CELL_MARK, iteration_name, run_name, start_folder
from extra_rl.sampling.shards import shard_names
from stages.pipeline import unread


class Wildcards(Protocol):
    """Wildcards of the rules of an iteration."""

    arm: str
    seed: str
    iteration: str


class Layout:
    """Paths of an experiment, relative to the working directory.

    by_run: whether an arm and seed is one job of a cluster; its files are then no outputs of rules.
    """

    def __init__(self, experiment: Experiment, by_run: bool = False) -> None:
        self._experiment, self._by_run = experiment, by_run
        self.results = f"results/{experiment.run.name}"
        self.here = f"{self.results}/{{arm}}/s{{seed}}/iteration_{{iteration}}"  # the layout of results.RunFolder
        """Folder of one iteration, with Snakemake's wildcards."""
        self.shards = shard_names(experiment.run.generation.shards)

    def iteration(self, arm: str, seed: str | int, iteration: int) -> str:
        return f"{self.results}/{arm}/s{seed}/{iteration_name(iteration)}"

    def previous(self, *names: str) -> Callable[[Wildcards], str | list[str]]:
        """Input function: files of the previous iteration; none for the first."""

        def find(wildcards: Wildcards) -> str | list[str]:
            number = int(wildcards.iteration)
            if not number:
                return []
            paths = [f"{self.iteration(wildcards.arm, wildcards.seed, number - 1)}/{name}" for name in names]
            return paths if len(paths) > 1 else paths[0]

        return find

    def wanted(self, stage: str, role: str, found: Callable[[Wildcards], str | list[str]]) -> Callable[[Any], Any]:
        """Input function: the files of `found`; none where the stage does not read the role under the arm's section."""

        def find(wildcards: Wildcards) -> str | list[str]:
            iteration = int(wildcards.iteration)
            section = self._experiment.at(wildcards.arm, iteration)[stage]
            derived = derive(self._experiment, stage, wildcards.arm, iteration)
            return [] if role in unread(stage, section, derived) else found(wildcards)

        return find

    def table(self, name: str) -> Callable[[Wildcards], str]:
        """Input function: a table of the same iteration; its name may contain wildcards."""
        return lambda wildcards: f"{self.here}/{name}.parquet".format(**dict(wildcards))  # type: ignore[call-overload]

    def parents(self, name: str) -> Callable[[Wildcards], str | list[str]]:
        """Input function: a table of the rollouts that contain the parents of continuations.

        For continuations in `generate` it is of the previous iteration, for those in `regenerate` of the same one.
        """
        here, before = self.table(name), self.previous(f"{name}.parquet")
        return lambda wildcards: before(wildcards) if dict(wildcards)["of"] == "generate" else here(wildcards)  # type: ignore[call-overload]

    def parents_policy(self, wildcards: Wildcards) -> str | list[str]:
        """Input function: the policy that sampled the parents of continuations."""
        here = dict(wildcards)["of"] == "regenerate"  # type: ignore[call-overload]
        return self.policy(wildcards) if here else self.previous_policy(wildcards)

    def previous_policy(self, wildcards: Wildcards) -> str | list[str]:
        """Input function: the policy that the previous iteration sampled from; none for the first iteration."""
        number = int(wildcards.iteration)
        if number < 2:
            return self.initial(wildcards) if number else []
        return f"{self.iteration(wildcards.arm, wildcards.seed, number - 2)}/policy/manifest.json"

    def policy(self, wildcards: Wildcards) -> str:
        """Input function: the policy that an iteration samples from."""
        found = self.previous("policy/manifest.json")(wildcards)
        return str(found) if found else self.initial(wildcards)

    def initial(self, wildcards: Wildcards) -> str:
        """Input function: the policy that all arms of the seed start from."""
        start = start_folder(self._experiment.run.warm_start_of(int(wildcards.seed)))
        return f"{self.results}/{start}/policy/manifest.json"

    def starts(self) -> dict[str, int]:
        """Folder of every initial policy -> its seed."""
        return {start_folder(start): start for start in self._experiment.run.starts}

    def start(self, wildcards: Any) -> str:
        """Params function: name of the folder of the seed's initial policy."""
        return start_folder(self._experiment.run.warm_start_of(int(wildcards.seed)))

    def worked_solutions(self) -> list[str]:
        """The training problems, where the warm start imitates their solutions; generated tasks create solutions."""
        section = self._experiment.common["warm_start"]
        files = section["steps"] > 0 and not is_generated(section["task"]["name"])
        return [f"{self.results}/prepare/train.parquet"] if files else []

    def shard_tables(self) -> dict[str, str]:
        """Role (`shard:0of4`) -> table of a shard of the stage `of`, with Snakemake's wildcards."""
        return {f"shard:{shard}": f"{self.here}/shards/{{of}}_{shard}.parquet" for shard in self.shards}

    def sources(self) -> dict[str, str]:
        """Role -> local file of problems, where it exists: `prepare` reports others.

        The role is `source:name`, and `source:name:number` for each of several files.
        """
        task = self._experiment.common["prepare"]["task"]
        named = {name: source["path"] for key in ("train", "benchmarks") for name, source in task[key].items()}
        found: dict[str, str] = {}
        for name, path in named.items():
            if path and Path(path).is_file():
                found[f"source:{name}"] = path
            elif path:
                found |= {f"source:{name}:{number:04d}": str(file) for number, file in enumerate(local_files(path))}
        return found

    def finals(self, name: str) -> dict[str, str]:
        """`{arm}/s{seed}` -> a table of its last iteration."""
        run = self._experiment.run
        return {
            run_name(arm, seed): f"{self.iteration(arm, seed, run.iterations - 1)}/{name}.parquet"
            for arm in self._experiment.arms
            for seed in run.seeds
        }

    def targets(self) -> list[str]:
        """Files of a whole run; of the part of one arm and seed, all that it makes."""
        made = [
            *self.manifests(),
            *self.extra_evaluations(),
            *self.audits(),
            *self.tracked(),
        ]
        if self._experiment.cell:
            finals = [*self.finals("evaluate").values(), *self.finals("summarize").values()]
            return [*made, *finals, *self.refreshed_reports()]
        end = [f"{self.results}/{name}" for name in ("compare.parquet", "summary.json", "report.html")]
        return [*(self.cells() if self._by_run else made), *end]

    def cells(self) -> list[str]:
        """The mark of every finished arm and seed, where each is one job; [] otherwise."""
        cells = [(arm, seed) for arm in self._experiment.arms for seed in self._experiment.run.seeds]
        return [f"{self.results}/{run_name(*cell)}/{CELL_MARK}" for cell in cells] if self._by_run else []

    def compared(self) -> list[str]:
        """Files that the comparison waits for. Where an arm and seed is one job, its mark stands for its tables."""
        starts = [f"{self.results}/{start}/evaluate.parquet" for start in self.starts()]
        finals = [*self.finals("evaluate").values(), *self.finals("summarize").values()]
        return [*starts, *(self.cells() if self._by_run else finals)]

    def reported(self) -> list[str]:
        """Files that the last report waits for in addition to the comparison."""
        return [] if self._by_run else [*self.extra_evaluations(), *self.refreshed_reports()]

    def evaluated(self) -> dict[str, str]:
        """Label -> evaluation that the comparison reads: of the warm starts and of every final policy."""
        return {start: f"{self.results}/{start}/evaluate.parquet" for start in self.starts()} | self.finals("evaluate")

    def extra_evaluations(self) -> list[str]:
        """Evaluations in addition to the final ones: every k-th iteration (`evaluate_every`)."""
        return self._every(self._experiment.run.evaluate_every, "evaluate.parquet")

    def refreshed_reports(self) -> list[str]:
        """Marks of the reports that are written during the run (`report.every`); [] without."""
        return self._every(self._experiment.run.report.every, "refresh_report.done")

    def _every(self, every: int, name: str) -> list[str]:
        """A file of every k-th iteration before the last one, of all arms and seeds; [] for k = 0."""
        run = self._experiment.run
        return [
            f"{self.iteration(arm, seed, iteration)}/{name}"
            for arm in self._experiment.arms
            for seed in run.seeds
            for iteration in range(run.first_iteration, run.iterations - 1)
            if every and (iteration + 1) % every == 0
        ]

    def audits(self) -> list[str]:
        """Disagreements of the second judge, for the arms that name one (`audit.judge`)."""
        run = self._experiment.run
        return [
            f"{self.iteration(arm, seed, iteration)}/audit_{of}.parquet"
            for arm, sections in self._experiment.arms.items()
            if sections["audit"]["judge"] != "none"
            for seed in run.seeds
            for iteration in range(run.first_iteration, run.iterations)
            for of in ("generate", "regenerate")
        ]

    def tracked(self) -> list[str]:
        """Outputs of the tracking jobs: of every iteration and of every evaluation; none without a tracker."""
        run = self._experiment.run
        if not run.tracking.to:
            return []
        cells = [(arm, seed) for arm in self._experiment.arms for seed in run.seeds]
        evaluated = [*self.extra_evaluations(), *self.finals("evaluate").values()]
        return [
            *(f"{self.results}/{arm}/s{seed}/track_warm_start.json" for arm, seed in cells),
            *(
                f"{self.iteration(arm, seed, iteration)}/track.json"
                for iteration in range(run.first_iteration, run.iterations)
                for arm, seed in cells
            ),
            *(path.removesuffix("evaluate.parquet") + "track_evaluation.json" for path in evaluated),
        ]

    def manifests(self) -> list[str]:
        """Policies of all iterations, in ascending order, so that Snakemake walks a deep chain from its start."""
        run = self._experiment.run
        return [
            f"{self.iteration(arm, seed, iteration)}/policy/manifest.json"
            for iteration in range(run.first_iteration, run.iterations)
            for arm in self._experiment.arms
            for seed in run.seeds
        ]


def local_files(path: str) -> list[Path]:
    """Return the files that a source's folder or pattern stands for, none where it cannot be read."""
    if is_saved(Path(path)):
        return sorted(file for file in Path(path).rglob("*") if file.is_file() and file.suffix in (".arrow", ".json"))
    try:
        return files_of(path)
    except InputError:  # `prepare` raises it again, where it is reported
        return []


def as_inputs(role: str, paths: Mapping[str, str]) -> str:
    """`role:label=path` words for a stage's --input."""
    return " ".join(f"{role}:{label}={path}" for label, path in paths.items())


def by_role(files: Any) -> str:
    """`role=path` words of a job's inputs or outputs (Snakemake's named list), quoted for the shell.

    A role without a file is left out: nothing precedes iteration 0, and with some sections a file is not read.
    Snakemake reserves the name `update`, so this role is called `update_` in a rule.
    """
    words = []
    for role, paths in files.items():
        for path in [paths] if isinstance(paths, str) else paths:
            words.append(shlex.quote(f"{role.rstrip('_')}={path}"))
    return " ".join(words)
