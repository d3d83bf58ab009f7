"""The paths of an experiment's files and the ids of its rollouts; no other module spells these names out.

    results/<name>/<arm>/s<seed>/iteration_<0000>/<table>.parquet
    {arm}/s{seed}/i{iteration}/{group}/{n}      a rollout; group: `5`, or `i12.5` of a continuation

A run is one arm with one seed. Nothing here reads a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ITERATIONS = "*/s*/iteration_*"
"""Glob pattern of every iteration's folder, below `results/<name>`."""

_ITERATION = re.compile(r"iteration_(\d+)", re.ASCII)
_SEED = re.compile(r"s(\d+)", re.ASCII)
_ROLLOUT = re.compile(r"([\w][\w.+-]*)/s(\d+)/i(\d+)/((?:i\d+\.)?\d+)/(\d+)", re.ASCII)


def iteration_name(number: int) -> str:
    """Name of an iteration's folder: `iteration_0012`."""
    return f"iteration_{number:04d}"


def iteration_span(first: int, last: int) -> str:
    """The folders of several iterations in shell notation: `iteration_{0007..0012}`."""
    return iteration_name(first) if first == last else f"iteration_{{{first:04d}..{last:04d}}}"


def results_folder_of(path: Path) -> Path | None:
    """The folder `results/<name>` of a file in an iteration's folder or below it; None for a file elsewhere."""
    for folder in path.absolute().parents:
        if _ITERATION.fullmatch(folder.name) and _SEED.fullmatch(folder.parent.name):
            return folder.parents[2]
    return None


@dataclass(frozen=True)
class RunFolder:
    """The folder of one arm and seed, `results/<name>/<arm>/s<seed>`."""

    path: Path

    @classmethod
    def below(cls, results: Path) -> list[Self]:
        """Every run that has a folder below `results/<name>`, by name."""
        return [cls(path) for path in sorted(results.glob("*/s*")) if _SEED.fullmatch(path.name)]

    @property
    def arm(self) -> str:
        return self.path.parent.name

    @property
    def seed(self) -> int:
        """The experiment seed; ValueError where the folder is not named after one."""
        found = _SEED.fullmatch(self.path.name)
        if found is None:
            raise ValueError(f"{self.path} is not the folder of a run")
        return int(found[1])

    def iteration(self, number: int) -> Path:
        """Folder of an iteration, which need not exist."""
        return self.path / iteration_name(number)

    def iterations(self, with_table: str = "generate") -> dict[int, Path]:
        """Iteration -> folder, ascending, for the iterations in which the table exists."""
        folders = (IterationFolder.at(path) for path in self.path.glob("iteration_*"))
        found = {folder.number: folder.path for folder in folders if folder and folder.table(with_table).is_file()}
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class IterationFolder:
    """The folder of one iteration of a run."""

    path: Path
    number: int

    @classmethod
    def at(cls, path: Path) -> Self | None:
        """The folder at a path; None where the path is not named like an iteration."""
        found = _ITERATION.fullmatch(path.name)
        return cls(path, int(found[1])) if found else None

    def table(self, name: str) -> Path:
        return self.path / f"{name}.parquet"

    def sibling(self, number: int) -> Path:
        """Folder of another iteration of the same run, which need not exist."""
        return self.path.with_name(iteration_name(number))


@dataclass(frozen=True)
class RolloutId:
    """The parts of a rollout's id: where it was sampled, and its number in the group.

    group: `5` for fresh rollouts, `i12.5` for continuations that were sampled for group 5 of iteration 12.
    """

    arm: str
    seed: int
    iteration: int
    group: str
    n: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse an id; None where the text is not one."""
        found = _ROLLOUT.fullmatch(text)
        return cls(found[1], int(found[2]), int(found[3]), found[4], int(found[5])) if found else None

    def __str__(self) -> str:
        return f"{place_name(self.arm, self.seed, self.iteration)}/{self.group}/{self.n}"

    @property
    def group_id(self) -> str:
        """Id of its group; for a continuation, of the group that it was sampled for."""
        iteration, _, name = self.group.rpartition(".")
        where = int(iteration[1:]) if iteration else self.iteration
        return f"{place_name(self.arm, self.seed, where)}/{name}"

    def folder(self, results: Path) -> Path:
        """Folder of the iteration in which it was sampled. results: `results/<name>`."""
        return self.run(results).iteration(self.iteration)

    def run(self, results: Path) -> RunFolder:
        return RunFolder(results / self.arm / f"s{self.seed}")


def place_name(arm: str, seed: int, iteration: int) -> str:
    """`{arm}/s{seed}/i{iteration}`, the beginning of the ids of an iteration's groups and rollouts."""
    return f"{arm}/s{seed}/i{iteration}"


def continuation_group(group_id: str, place: str) -> str:
    """Beginning of the ids of continuations that are sampled at `place` for a group: `{place}/i12.5`."""
    _, iteration, group = group_id.rsplit("/", 2)
    return f"{place}/{iteration}.{group}"


def without_arm(rollout_id: str) -> str:
    """The part of an id that arms share; the noise of a rollout is drawn from it."""
    return rollout_id.partition("/")[2]
