"""Where things lie in a run's results, and which files of which iteration feed a rule."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from extra_rl.config.experiment import Experiment
from extra_rl.results import iteration_name, start_folder
from extra_rl.sampling.shards import shard_names
from extra_rl.tasks.base import TASKS
from stages.pipeline import unread


class Wildcards(Protocol):
    """What Snakemake gives an input function for the rules of an iteration."""

    arm: str
    seed: str
    iteration: str


class Layout:
    """Paths of an experiment, relative to the working directory."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self.results = f"results/{experiment.run.name}"
        self.here = f"{self.results}/{{arm}}/s{{seed}}/iteration_{{iteration}}"  # as results.RunFolder reads it
        """Folder of one iteration, with Snakemake's wildcards."""
        self.shards = shard_names(experiment.run.generation.shards)

    def iteration(self, arm: str, seed: str | int, iteration: int) -> str:
        return f"{self.results}/{arm}/s{seed}/{iteration_name(iteration)}"

    def previous(self, *names: str) -> Callable[[Wildcards], str | list[str]]:
        """Input function: files of the previous iteration, nothing for the first."""

        def find(wildcards: Wildcards) -> str | list[str]:
            number = int(wildcards.iteration)
            if not number:
                return []
            paths = [f"{self.iteration(wildcards.arm, wildcards.seed, number - 1)}/{name}" for name in names]
            return paths if len(paths) > 1 else paths[0]

        return find

    def wanted(self, stage: str, role: str, found: Callable[[Wildcards], str | list[str]]) -> Callable[[Any], Any]:
        """Input function: what `found` gives, nothing where the arm's section of the stage leaves the role unread."""

        def find(wildcards: Wildcards) -> str | list[str]:
            return [] if role in unread(stage, self._experiment.arms[wildcards.arm][stage]) else found(wildcards)

        return find

    def table(self, name: str) -> Callable[[Wildcards], str]:
        """Input function: a table of the same iteration; its name may hold wildcards."""
        return lambda wildcards: f"{self.here}/{name}.parquet".format(**dict(wildcards))  # type: ignore[call-overload]

    def parents(self, name: str) -> Callable[[Wildcards], str | list[str]]:
        """Input function: a table of the rollouts among which the parents of continuations are: of the iteration before
        for those in `generate`, of the same one for those in `regenerate`."""
        here, before = self.table(name), self.previous(f"{name}.parquet")
        return lambda wildcards: before(wildcards) if dict(wildcards)["of"] == "generate" else here(wildcards)  # type: ignore[call-overload]

    def parents_policy(self, wildcards: Wildcards) -> str | list[str]:
        """Input function: the policy that sampled them."""
        here = dict(wildcards)["of"] == "regenerate"  # type: ignore[call-overload]
        return self.policy(wildcards) if here else self.previous_policy(wildcards)

    def previous_policy(self, wildcards: Wildcards) -> str | list[str]:
        """Input function: the policy that the iteration before sampled from, nothing for the first."""
        number = int(wildcards.iteration)
        if number < 2:
            return self.initial(wildcards) if number else []
        return f"{self.iteration(wildcards.arm, wildcards.seed, number - 2)}/policy/manifest.json"

    def policy(self, wildcards: Wildcards) -> str:
        """Input function: the policy that an iteration samples from."""
        found = self.previous("policy/manifest.json")(wildcards)
        return str(found) if found else self.initial(wildcards)

    def initial(self, wildcards: Wildcards) -> str:
        """Input function: the policy that the seed's arms all begin with."""
        start = start_folder(self._experiment.run.warm_start_of(int(wildcards.seed)))
        return f"{self.results}/{start}/policy/manifest.json"

    def starts(self) -> dict[str, int]:
        """Folder of every initial policy -> its seed."""
        return {start_folder(start): start for start in self._experiment.run.warm_starts}

    def worked_solutions(self) -> list[str]:
        """The training problems, where the warm start imitates their solutions; generated tasks make their own."""
        section = self._experiment.common["warm_start"]
        files = section["steps"] > 0 and section["task"]["name"] not in TASKS
        return [f"{self.results}/prepare/train.parquet"] if files else []

    def shard_tables(self) -> dict[str, str]:
        """Role (`shard:0of4`) -> table of a shard of the stage `of`, with Snakemake's wildcards."""
        return {f"shard:{shard}": f"{self.here}/shards/{{of}}_{shard}.parquet" for shard in self.shards}

    def sources(self) -> dict[str, str]:
        """Role (`source:name`) -> local file of problems, where it exists: `prepare` reports others."""
        task = self._experiment.common["prepare"]["task"]
        named = {name: source["path"] for key in ("train", "benchmarks") for name, source in task[key].items()}
        return {f"source:{name}": path for name, path in named.items() if path and Path(path).is_file()}

    def finals(self, name: str) -> dict[str, str]:
        """`{arm}/s{seed}` -> a table of its last iteration."""
        run = self._experiment.run
        return {
            f"{arm}/s{seed}": f"{self.iteration(arm, seed, run.iterations - 1)}/{name}.parquet"
            for arm in self._experiment.arms
            for seed in run.seeds
        }

    def evaluated(self) -> dict[str, str]:
        """Label -> evaluation that the comparison reads: the warm starts', and every final policy's."""
        return {start: f"{self.results}/{start}/evaluate.parquet" for start in self.starts()} | self.finals("evaluate")

    def extra_evaluations(self) -> list[str]:
        """Evaluations besides the final ones: every k-th iteration, where the configuration asks for it."""
        run = self._experiment.run
        every = run.evaluate_every or run.iterations
        return [
            f"{self.iteration(arm, seed, iteration)}/evaluate.parquet"
            for arm in self._experiment.arms
            for seed in run.seeds
            for iteration in range(run.first_iteration, run.iterations - 1)
            if (iteration + 1) % every == 0
        ]

    def audits(self) -> list[str]:
        """Disagreements of the second judge, for the arms whose configuration names one."""
        run = self._experiment.run
        return [
            f"{self.iteration(arm, seed, iteration)}/audit_{of}.parquet"
            for arm, sections in self._experiment.arms.items()
            if sections["audit"]["judge"] != "none"
            for seed in run.seeds
            for iteration in range(run.first_iteration, run.iterations)
            for of in ("generate", "regenerate")
        ]

    def manifests(self) -> list[str]:
        """Every iteration's policy in ascending order: a deep chain is then walked from its start."""
        run = self._experiment.run
        return [
            f"{self.iteration(arm, seed, iteration)}/policy/manifest.json"
            for iteration in range(run.first_iteration, run.iterations)
            for arm in self._experiment.arms
            for seed in run.seeds
        ]


def as_inputs(role: str, paths: Mapping[str, str]) -> str:
    """`role:label=path` words for a stage's --input."""
    return " ".join(f"{role}:{label}={path}" for label, path in paths.items())


def by_role(files: Any) -> str:
    """`role=path` words of a job's inputs or outputs (Snakemake's named list), quoted for the shell.

    A role without a file is left out: nothing precedes iteration 0, and some sections leave a file unread. Snakemake
    reserves the name `update`, so that role is called `update_` in a rule.
    """
    words = []
    for role, paths in files.items():
        for path in [paths] if isinstance(paths, str) else paths:
            words.append(shlex.quote(f"{role.rstrip('_')}={path}"))
    return " ".join(words)
