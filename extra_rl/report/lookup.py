"""Find a rollout by its id; an error lists what exists instead."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from extra_rl.errors import InputError
from extra_rl.report.facts import rollouts_of_groups
from extra_rl.results import ITERATIONS, RolloutId, RunFolder

FORM = (
    "{arm}/s{seed}/i{iteration}/{group}/{n}, for example extra/s0/i12/5/3 or, of a continuation, extra/s0/i13/i12.5/0"
)


def place_of(rollout_id: str) -> RolloutId:
    """Return the parts of an id. Raises InputError where the text is no id."""
    found = RolloutId.parse(rollout_id)
    if found is None:
        raise InputError(f"{rollout_id[:200]!r} is not the id of a rollout. Ids have the form {FORM}.")
    return found


def results_with(place: RolloutId, parent: Path) -> Path:
    """Return the only run below `parent` with the iteration. Raises InputError where there is none, or several."""
    runs = sorted(folder for folder in parent.glob("*") if any(folder.glob(ITERATIONS)))
    found = [folder for folder in runs if (place.folder(folder) / "generate.parquet").is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"Several runs have that iteration: {_listed(found)}. Name one with --results.")
    near = [folder for folder in runs if (folder / place.arm).is_dir()] or runs
    if len(near) == 1:
        refuse_unknown(place, near[0])
    where = f"Runs: {_listed(near)}" if near else f"{parent} contains no run"
    raise InputError(f"No run below {parent} has {place.folder(Path())}. {where}; name a run with --results.")


def refuse_unknown(place: RolloutId, results: Path) -> None:
    """Raise InputError where the iteration's rollouts are missing, with what the nearest folder contains."""
    if (place.folder(results) / "generate.parquet").is_file():
        return
    if not results.is_dir():
        raise InputError(f"{results}: no such folder. Name the folder of a run with --results (results/<name>).")
    arm, run = results / place.arm, place.run(results).path
    if not arm.is_dir():
        arms = sorted({folder.parents[1].name for folder in results.glob(ITERATIONS)})
        raise InputError(f"{results} has no arm {place.arm}; its arms: {', '.join(arms) or 'none'}.")
    if not run.is_dir():
        seeds = sorted(folder.name for folder in arm.glob("s*") if folder.is_dir())
        raise InputError(f"{arm} has no seed s{place.seed}; its seeds: {', '.join(seeds) or 'none'}.")
    numbers = list(RunFolder(run).iterations())
    has = f"it has {len(numbers)}, from {numbers[0]} to {numbers[-1]}" if numbers else "it has none"
    raise InputError(f"{run} has no rollouts of iteration {place.iteration}; {has}.")


class Found(NamedTuple):
    """A rollout, the other rollouts of its group with continuations, and those of the run that it refers to."""

    row: dict[str, Any]
    siblings: list[dict[str, Any]]
    others: dict[str, dict[str, Any]]


def find(rollout_id: str, results: Path) -> Found:
    """Return the rollout with its facts (`facts.rollouts_of_groups`). Raises InputError where there is none."""
    place = place_of(rollout_id)
    refuse_unknown(place, results)
    folder = place.folder(results)
    ids = pl.concat(_ids(folder)).collect()
    group = ids.filter(pl.col("rollout_id") == rollout_id)["group_id"].to_list()
    if not group:
        raise InputError(f"{folder} has no rollout {rollout_id}. {_existing(ids, place)}")
    folders = place.run(results).iterations()
    rows = rollouts_of_groups({i: f for i, f in folders.items() if _has_group(f, group[0])}, group)
    by_id = {row["rollout_id"]: row for row in rows}
    row = by_id[rollout_id]
    wanted = {row["parent_rollout_id"], row["nearest_rollout_id"]} - by_id.keys() - {None}
    others = {name: found for name in sorted(wanted) if (found := _elsewhere(name, folders))}
    return Found(row, [other for other in rows if other is not row], by_id | others)


def _ids(folder: Path) -> list[pl.LazyFrame]:
    files = (folder / f"{source}.parquet" for source in ("generate", "regenerate"))
    return [pl.scan_parquet(file, glob=False).select("rollout_id", "group_id") for file in files if file.is_file()]


def _has_group(folder: Path, group: str) -> bool:
    return any(not ids.filter(pl.col("group_id") == group).head(1).collect().is_empty() for ids in _ids(folder))


def _elsewhere(rollout_id: str, folders: dict[int, Path]) -> dict[str, Any] | None:
    """Return a rollout of another group of the same run, None where it is missing."""
    place = place_of(rollout_id)
    folder = folders.get(place.iteration)
    if folder is None:
        return None
    rows = rollouts_of_groups({place.iteration: folder}, [place.group_id])
    return next((row for row in rows if row["rollout_id"] == rollout_id), None)


def _existing(ids: pl.DataFrame, place: RolloutId) -> str:
    names = [place_of(name) for name in ids["rollout_id"]]
    same = [name for name, found in zip(ids["rollout_id"], names, strict=True) if found.group == place.group]
    if same:
        return f"Group {place.group} has {same[0]} to {same[-1]}."
    groups = list(dict.fromkeys(found.group for found in names))
    if not groups:
        return "The iteration is empty: its token budget was spent."
    return f"It has {len(ids)} rollouts of groups {_listed(groups)}."


def _listed(items: Iterable[object], most: int = 8) -> str:
    names = [str(item) for item in items]
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[: most - 1])}, ... {names[-1]}"
