"""Seconds of every stage of a planned run, from the records of finished iterations.

Like `rate`, times are scaled by response tokens; here every stage has its own time, and the time until a sampler was
ready (`opening_s`) is not scaled. A stage is scaled by the tokens of the table that it works on: those of `generate`,
of `regenerate`, or of both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extra_rl.config.experiment import Experiment
from extra_rl.errors import InputError
from extra_rl.planning import counts
from extra_rl.planning.counts import Sections
from extra_rl.planning.rate import EVALUATION, finished_iterations, rows_and_tokens
from extra_rl.results import IterationFolder, results_folder_of
from extra_rl.run.records import OPENING_SECONDS, read_record, records_by_stage

TABLES = ("generate", "regenerate")
"""Tables of rollouts of an iteration."""
ONCE = ("prepare", "compare", "report", "refresh_report", "track", "track_evaluation", "track_warm_start")
"""Count as 0 s where nothing measured them: most of them leave no record, and each is a small part of a run."""


@dataclass(frozen=True)
class Call:
    """One measured run of a stage.

    seconds: of all its shards. opening: of these, until samplers were ready. tokens: of the table that it works on.
    """

    seconds: float
    opening: float
    tokens: float


@dataclass
class Pool:
    """The measurements of some iterations.

    calls: name of a record -> its runs. rows, tokens, bounds: of each table of rollouts, in iterations that can have
    some; bounds are the upper bounds of the rows.
    """

    calls: dict[str, list[Call]] = field(default_factory=dict)
    rows: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TABLES, 0.0))
    tokens: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TABLES, 0.0))
    bounds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TABLES, 0.0))
    iterations: int = 0

    def add(self, other: Pool) -> None:
        """Add the measurements of another pool."""
        for name, calls in other.calls.items():
            self.calls.setdefault(name, []).extend(calls)
        for mine, theirs in ((self.rows, other.rows), (self.tokens, other.tokens), (self.bounds, other.bounds)):
            for table in TABLES:
                mine[table] += theirs[table]
        self.iterations += other.iterations


@dataclass
class StageTimes:
    """Measured times of a run. arms: arm -> its measurements; every: those of all arms; roots: folders of the runs."""

    source: Path
    arms: dict[str, Pool]
    every: Pool
    warm_start: dict[str, Any] | None
    once: dict[str, float]
    evaluated_rows: float = 0.0

    def seconds(self, name: str, tokens: float, arm: str = "", shards: int = 1) -> float:
        """Return the seconds of one run of a stage, or of one of its shards.

        The measurements of the arm are taken, or those of all arms where it has none of this kind.

        Args:
            name: of the stage's record.
            tokens: of the planned table; 0 for a stage that finds nothing to do.
            arm: empty for a stage that no arm owns.
            shards: equal parts, each of which opens a separate sampler.
        Raises InputError where nothing of this kind was measured.
        """
        for pool in (self.arms.get(arm, Pool()), self.every):
            calls = [call for call in pool.calls.get(name, []) if bool(call.tokens) == bool(tokens)]
            if not calls:
                continue
            if not tokens:
                return sum(call.seconds for call in calls) / len(calls) / shards
            opening = sum(call.opening for call in calls) / len(calls)
            work = sum(call.seconds - call.opening for call in calls) / sum(call.tokens for call in calls)
            return opening + max(0.0, work) * tokens / shards
        if not tokens or name in self.once or name in ONCE or name.startswith("gather_"):
            return self.once.get(name, 0.0)
        raise InputError(
            f"{self.source}: no finished iteration below it has a time of the stage {name} with tokens to work on, "
            "and the planned run needs it. Name a run in which this stage has finished with such work."
        )

    def mean_tokens(self, table: str, arm: str) -> float:
        """Return the mean response tokens of a table's rollouts; those of all tables where it has none."""
        for pool in (self.arms.get(arm, Pool()), self.every):
            if pool.rows[table]:
                return pool.tokens[table] / pool.rows[table]
        return sum(self.every.tokens.values()) / max(1.0, sum(self.every.rows.values()))

    def share(self, table: str, arm: str) -> float:
        """Return the measured part of the upper bound of a table's rollouts; 1 where it was not measured."""
        for pool in (self.arms.get(arm, Pool()), self.every):
            if pool.bounds[table] and pool.rows[table]:
                return min(1.0, pool.rows[table] / pool.bounds[table])
        return 1.0

    @property
    def unmeasured(self) -> list[str]:
        """Return the stages that run once and were not measured."""
        return [name for name in ONCE[:3] if name not in self.once]


def stage_times(results: Path) -> StageTimes:
    """Return the times of the finished iterations below a folder: a run, an arm, a seed, or one iteration.

    Stages that run once are read from the results folder of these iterations. Raises InputError where no finished
    iteration below it has rollouts.
    """
    arms: dict[str, Pool] = {}
    every = Pool()
    folders = list(finished_iterations(results))
    for folder in folders:
        pool = _of_iteration(folder)
        if pool is not None:
            arms.setdefault(folder.path.parents[1].name, Pool()).add(pool)
            every.add(pool)
    if not every.iterations:
        raise InputError(f"{results}: no finished iteration with rollouts below it. Name a folder of results/<name>.")
    roots = sorted({root for folder in folders if (root := results_folder_of(folder.table("summarize")))})
    once, starts = dict[str, float](), list[dict[str, Any]]()
    for root in roots:
        for name, path in {"prepare": root / "prepare/train.run.json", "compare": root / "compare.run.json"}.items():
            if path.is_file():
                once[name] = float(read_record(path)["wall_s"])
        for path in sorted(root.glob("warm_start*/warm_start.run.json")):
            starts.append(read_record(path))
            every.add(_evaluation_of(path.parent))
    return StageTimes(results, arms, every, starts[0] if starts else None, once, _mean_rows(roots, folders))


def _of_iteration(folder: IterationFolder) -> Pool | None:
    """Return the measurements of an iteration; None where it has no rollouts."""
    found = {table: rows_and_tokens(folder.path, [f"{table}.parquet"]) for table in TABLES}
    if not sum(tokens for _, tokens in found.values()):  # an iteration after the budget
        return None
    records = records_by_stage(folder.path)
    pool = Pool(iterations=1)
    tokens = {table: float(found[table][1]) for table in TABLES}
    for name, (record, *shards) in records.items():
        if name == EVALUATION:
            continue
        runs = shards or [record]
        seconds = sum(run["wall_s"] for run in runs)
        opening = sum(run.get("figures", {}).get(OPENING_SECONDS, 0.0) for run in runs) / len(runs)
        pool.calls[name] = [Call(seconds - opening * (len(runs) - 1), opening, tokens_of(name, tokens))]
        if shards:
            pool.calls[f"gather_{name}"] = [Call(record["wall_s"], 0.0, tokens[name])]
    bounds = _bounds(records, folder.number)
    for table in TABLES:
        if bounds is None or bounds[table]:
            pool.rows[table], pool.tokens[table] = float(found[table][0]), tokens[table]
            pool.bounds[table] = bounds[table] if bounds else 0.0
    pool.add(_evaluation_of(folder.path))
    return pool


def _evaluation_of(folder: Path) -> Pool:
    """Return the evaluation in a folder; an empty pool without one."""
    record, table = folder / f"{EVALUATION}.run.json", f"{EVALUATION}.parquet"
    if not record.is_file() or not (folder / table).is_file():
        return Pool()
    found = read_record(record)
    opening = found.get("figures", {}).get(OPENING_SECONDS, 0.0)
    return Pool({EVALUATION: [Call(found["wall_s"], opening, float(rows_and_tokens(folder, [table])[1]))]})


def _mean_rows(roots: Iterable[Path], folders: Iterable[IterationFolder]) -> float:
    """Return the mean samples of the measured evaluations; 0 without one."""
    places = [*(path.parent for root in roots for path in root.glob("warm_start*/evaluate.parquet"))]
    places += [folder.path for folder in folders if folder.table(EVALUATION).is_file()]
    rows = [rows_and_tokens(place, [f"{EVALUATION}.parquet"])[0] for place in places]
    return sum(rows) / len(rows) if rows else 0.0


def _bounds(records: Mapping[str, list[dict[str, Any]]], number: int) -> dict[str, float] | None:
    """Return the upper bounds of a measured iteration's rollouts from its jobs; None where these are not recorded."""
    jobs = [json.loads(run["job"]) for runs in records.values() for run in runs if "job" in run]
    sections = {job["stage"]: job["config"] for job in jobs}
    if not {"select", "generate", "choose_prefixes"} <= sections.keys():
        return None
    return rows_of(sections, number)


def rows_of(sections: Sections, number: int) -> dict[str, float]:
    """Return the upper bounds of the rollouts in each table of an iteration.

    Continuations are sampled by `regenerate`, or with `when: next_iteration` by `generate`, after the warm-up.
    """
    rollouts, prefixes = counts.at_most(sections), sections["choose_prefixes"]
    queued = prefixes["when"] == "next_iteration"
    continued = rollouts.regenerated if number >= prefixes["warmup_iterations"] + queued else 0
    return {
        "generate": float(rollouts.fresh + (continued if queued else 0)),
        "regenerate": float(0 if queued else continued),
    }


def tokens_of(name: str, tokens: Mapping[str, float]) -> float:
    """Return the tokens that a stage works on. tokens: of each table. name: of its record."""
    if name.endswith("regenerate"):
        return tokens["regenerate"]
    if name.endswith("generate") or name == "choose_prefixes":
        return tokens["generate"]
    return sum(tokens.values())


def planned_tokens(times: StageTimes, experiment: Experiment, arm: str) -> Iterator[dict[str, float]]:
    """Yield the expected response tokens of each table, iteration by iteration.

    Rollouts: the upper bound, times the share of it that the measured iterations had. Their length: the measured mean,
    at most the limit. After the iteration that reaches `select.token_budget` there are none.
    """
    sampled = 0.0
    for number in range(experiment.run.first_iteration, experiment.run.iterations):
        sections = experiment.at(arm, number)
        budget, limit = sections["select"]["token_budget"], counts.longest_response(sections)
        found = dict.fromkeys(TABLES, 0.0)
        if budget is None or sampled < budget:
            for table, rows in rows_of(sections, number).items():
                found[table] = rows * times.share(table, arm) * min(limit, times.mean_tokens(table, arm))
        sampled += sum(found.values())
        yield found


def evaluation_tokens(times: StageTimes, experiment: Experiment) -> float:
    """Return the expected tokens of one evaluation. Benchmarks of unknown size count as in the measured one."""
    section = experiment.common["evaluate"]
    known = counts.held_out(experiment.common).values()
    calls = times.every.calls.get(EVALUATION, [])
    rows = times.evaluated_rows if None in known else section["samples"] * sum(count or 0 for count in known)
    if not times.evaluated_rows:
        return float(rows * section["max_response_tokens"])
    mean = sum(call.tokens for call in calls) / len(calls) / times.evaluated_rows
    return float(rows * min(section["max_response_tokens"], mean))


def warm_start_seconds(times: StageTimes, sections: Sections) -> float:
    """Return the seconds of the warm start, by its steps and batch; unscaled where either has no steps.

    Raises InputError where none was measured.
    """
    record = times.warm_start
    if record is None:
        raise InputError(
            f"{times.source}: no record of warm_start next to its iterations (warm_start/warm_start.run.json), so its "
            "time is not known. Name the folder of a run that made its own initial policy."
        )
    seconds = float(record["wall_s"])
    measured = _examples(json.loads(record["job"])["config"]) if "job" in record else 0
    planned = _examples(sections["warm_start"])
    return seconds * planned / measured if planned and measured else seconds


def _examples(section: Mapping[str, Any]) -> int:
    """Return the demonstrations that a warm start is trained on: steps times batch."""
    return int(section.get("stop_at", 0) * section.get("batch", 0))
