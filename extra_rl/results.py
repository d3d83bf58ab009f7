"""The paths of an experiment's files and the ids of its rollouts; no other module spells these names out.

    results/<name>/<arm>/s<seed>/iteration_<0000>/<table>.parquet
    {arm}/s{seed}/i{iteration}/{group}/{n}      a rollout; group: `5`, or `i12.5` of a continuation, or `i12.r3.5` of a
                                                replay that iteration 12 chose, of a rollout of group 5 of iteration 3

A run is one arm with one seed. Nothing here reads a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ITERATIONS = "*/s*/iteration_*"
"""Glob pattern of every iteration's folder, below `results/<name>`."""

CELL_MARK = "cell.json"
"""File in the folder of an arm and seed that is one job: written when its last iteration is finished."""

SHARDS = "shards"
"""Folder within an iteration's of the tables of shards."""

PREPARED = ("train", "held_out", "dropped", "sources")
"""Tables of `prepare/`."""

COMPARED = ("compare", "compare_seeds", "compare_differences")
"""Tables that lie directly below `results/<name>`."""

_ITERATION = re.compile(r"iteration_(\d+)", re.ASCII)
_SEED = re.compile(r"s(\d+)", re.ASCII)
_ROLLOUT = re.compile(r"([\w][\w.+-]*)/s(\d+)/i(\d+)/((?:i\d+\.(?:r\d+\.)?)?\d+)/(\d+)", re.ASCII)
_START = re.compile(r"warm_start(?:_(\d+))?", re.ASCII)
_SHARD = re.compile(r"_\d+of\d+$", re.ASCII)
_NAME = re.compile(r"(?:([\w][\w.+-]*)/)?s(\d+)(?:/i(\d+))?/(\w+)", re.ASCII)


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

    @classmethod
    def of(cls, results: Path, arm: str, seed: int) -> Self:
        """The run of an arm and seed, whose folder need not exist."""
        return cls(results / run_name(arm, seed))

    @property
    def name(self) -> str:
        """`{arm}/s{seed}`."""
        return f"{self.arm}/{self.path.name}"

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

    def gaps(self, with_table: str) -> list[int]:
        """Iterations that have a folder but not the table, although a later iteration has it: the file is gone."""
        last = max(self.iterations(with_table), default=-1)
        folders = (IterationFolder.at(path) for path in self.path.glob("iteration_*"))
        return sorted(f.number for f in folders if f and f.number < last and not f.table(with_table).is_file())


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

    group: `5` for fresh rollouts, `i12.5` for continuations that were sampled for group 5 of iteration 12, `i12.r3.5`
    for a group of replays that iteration 12 chose.
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
        iteration, _, name = self.group.partition(".") if self.group.startswith("i") else ("", "", self.group)
        where = int(iteration[1:]) if iteration else self.iteration
        return f"{place_name(self.arm, self.seed, where)}/{name}"

    def folder(self, results: Path) -> Path:
        """Folder of the iteration in which it was sampled. results: `results/<name>`."""
        return self.run(results).iteration(self.iteration)

    def run(self, results: Path) -> RunFolder:
        return RunFolder(results / self.arm / f"s{self.seed}")


def run_name(arm: str, seed: int) -> str:
    """`{arm}/s{seed}`: the folder of a run below `results/<name>`, and its name in messages and tables."""
    return f"{arm}/s{seed}"


def place_name(arm: str, seed: int, iteration: int) -> str:
    """`{arm}/s{seed}/i{iteration}`, the beginning of the ids of an iteration's groups and rollouts."""
    return f"{run_name(arm, seed)}/i{iteration}"


def continuation_group(group_id: str, place: str) -> str:
    """Beginning of the ids of continuations that are sampled at `place` for a group: `{place}/i12.5`."""
    _, iteration, group = group_id.rsplit("/", 2)
    return f"{place}/{iteration}.{group}"


REPLAYED = r"/r\d+\.\d+$"
"""Regular expression for the ids of groups of replays (`replay_group`)."""


def replay_group(group_id: str, place: str) -> str:
    """Id of the group of replays, chosen at `place`, of a rollout of group `group_id`: `{place}/r3.5`."""
    _, iteration, group = group_id.rsplit("/", 2)
    return f"{place}/r{iteration[1:]}.{group}"


def replayed_group(replay_group_id: str) -> str:
    """Id of the group whose rollout a group of replays continues: the inverse of `replay_group`."""
    run, _, name = replay_group_id.rsplit("/", 2)
    iteration, group = name.removeprefix("r").split(".")
    return f"{run}/i{iteration}/{group}"


def without_arm(rollout_id: str) -> str:
    """The part of an id that arms share; the noise of a rollout is drawn from it."""
    return rollout_id.partition("/")[2]


def file_name(path: Path) -> str | None:
    """The name by which footers call a table or a policy's manifest, from where it lies in a run's results.

    `extra/s0/i1/generate` for `.../extra/s0/iteration_0001/generate.parquet`, `s0/train` for what all arms share; None
    for a path that is not laid out like a run.
    """
    folder, stem = path.parent, path.stem
    if path.name == "manifest.json" and folder.name == "policy":
        folder, stem = folder.parent, folder.name
    elif path.suffix != ".parquet":
        return None
    elif folder.name == SHARDS:
        folder = folder.parent
    iteration = IterationFolder.at(folder)
    if iteration is not None and _SEED.fullmatch(folder.parent.name):
        run = RunFolder(folder.parent)
        return f"{place_name(run.arm, run.seed, iteration.number)}/{stem}"
    start = _START.fullmatch(folder.name)
    if start is not None:
        return f"s{start[1] or 0}/{stem}"
    return f"s0/{stem}" if folder.name == "prepare" or stem in COMPARED else None


def named_file(results: Path, name: str) -> Path | None:
    """Where the file of that name lies below `results/<name>`, the inverse of `file_name`; None for no such name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    arm, seed, iteration, stem = found.groups()
    if (arm is None) != (iteration is None):
        return None
    if arm is not None:
        folder = RunFolder.of(results, arm, int(seed)).iteration(int(iteration))
        folder = folder / SHARDS if _SHARD.search(stem) else folder
    elif stem in PREPARED:
        folder = results / "prepare"
    else:
        folder = results if stem in COMPARED else results / start_folder(int(seed))
    return folder / "policy" / "manifest.json" if stem == "policy" else folder / f"{stem}.parquet"


def start_folder(seed: int) -> str:
    """Folder of an initial policy: `warm_start` of seed 0, the only one of most runs, else `warm_start_<seed>`."""
    return f"warm_start_{seed}" if seed else "warm_start"


def is_start_folder(name: str) -> bool:
    """Whether a folder of this name is that of an initial policy."""
    return _START.fullmatch(name) is not None
