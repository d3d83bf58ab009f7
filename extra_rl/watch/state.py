"""The state of a run at one moment: progress in iterations and in budget, time left, jobs, and what needs attention."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from extra_rl.errors import InputError
from extra_rl.results import RunFolder
from extra_rl.run.context import CONTEXT_FILE, Horizon, RunContext
from extra_rl.watch.cells import Cell, Iteration, stamp_of
from extra_rl.watch.jobs import Job, Owner, jobs_of_cell, shared_jobs

Phase = Literal["absent", "empty", "running", "stopped", "finished", "unknown"]
"""unknown: the run's process, if any, is on another machine, or no lock names one."""

PACE = 24
"""Finished iterations, of all arms and seeds, over which the present pace is measured."""
RECENT = 5
"""Iterations over which the tokens per iteration are averaged."""


@dataclass(frozen=True)
class Progress:
    """How far an arm and seed is. spent, budget, unit: of the budget that ends it first; budget 0: none, or unknown.

    total: iterations of the run; 0: unknown. left: iterations that it still has to compute; None where the length of
    the run is unknown.
    """

    cell: Cell
    done: int
    total: int
    spent: float
    budget: float
    unit: str
    left: float | None
    jobs: tuple[Job, ...] = ()
    held_out: tuple[int, float] | None = None


@dataclass(frozen=True)
class State:
    """What a frame shows. seconds_left: None where it is not known. changed: when a file last changed; 0: never.

    damaged: files that cannot be read -> why. other: cells with a folder that the present configuration does not have.
    """

    results: Path
    now: float
    phase: Phase
    owner: Owner | None = None
    horizon: Horizon = field(default_factory=Horizon)
    cells: tuple[Progress, ...] = ()
    other: tuple[str, ...] = ()
    jobs: tuple[Job, ...] = ()
    seconds_left: float | None = None
    changed: float = 0.0
    damaged: dict[Path, str] = field(default_factory=dict)

    @property
    def every_job(self) -> list[Job]:
        """Return all unfinished jobs: of the whole run, then of its arms and seeds."""
        return [*self.jobs, *(job for cell in self.cells for job in cell.jobs)]


class Follower:
    """Looks at a results folder again and again; each look reads only what is new."""

    def __init__(self, results: Path) -> None:
        """Raise InputError where `results` is a file. The folder need not exist yet."""
        if results.exists() and not results.is_dir():
            raise InputError(f"{results} is a file. Name the folder of a run (results/<name>).")
        self.results = results
        self.read = 0
        """Summaries that the last look has read."""
        self._cells: dict[str, Cell] = {}

    def look(self, now: float | None = None) -> State:
        """Return the present state. now: seconds since 1970, the clock by default."""
        now = time.time() if now is None else now
        self.read = 0
        if not self.results.is_dir():
            self._cells.clear()
            return State(self.results, now, "absent")
        damaged: dict[Path, str] = {}
        context = self._context(damaged)
        owner = Owner.of(self.results)
        cells = self._refreshed(context.cells)
        for cell in cells:
            damaged |= cell.damaged
        every = context.retention.evaluate_every if context.retention else 0
        planned = [cell for cell in cells if not context.cells or cell.name in context.cells]
        progress = tuple(progress_of(cell, context.horizon, jobs_of_cell(cell, owner), every) for cell in planned)
        jobs = tuple(shared_jobs(self.results, owner))
        phase = self._phase(progress, context.horizon, owner, [*jobs, *(job for one in progress for job in one.jobs)])
        changed = max(
            [
                *(cell.iterations[-1].finished for cell in cells if cell.iterations),
                *(job.changed for job in jobs),
                *(job.changed for one in progress for job in one.jobs),
                owner.since if owner else 0.0,
            ],
            default=0.0,
        )
        return State(
            self.results,
            now,
            phase,
            owner,
            context.horizon,
            progress,
            tuple(cell.name for cell in cells if cell not in planned),
            jobs,
            seconds_left(progress, owner.since if owner else 0.0),
            changed,
            damaged,
        )

    def _context(self, damaged: dict[Path, str]) -> RunContext:
        path = self.results / CONTEXT_FILE
        try:
            return RunContext.read(path)
        except FileNotFoundError:
            return RunContext()
        except (InputError, OSError) as error:
            damaged[path] = str(error)
            return RunContext()

    def _refreshed(self, names: Sequence[str]) -> list[Cell]:
        """Return the cells in the order of the configuration, then others by name; forget those that are gone."""
        there = {run.name: run for run in RunFolder.below(self.results)}
        there |= {name: RunFolder(self.results / name) for name in names if name not in there}
        order = [*names, *sorted(there.keys() - set(names))]
        self._cells = {name: self._cells.get(name) or Cell(there[name], name) for name in order}
        for cell in self._cells.values():
            self.read += cell.refresh()
        return list(self._cells.values())

    def _phase(self, cells: Sequence[Progress], horizon: Horizon, owner: Owner | None, jobs: Sequence[Job]) -> Phase:
        complete = bool(horizon.iterations) and all(one.done >= horizon.iterations for one in cells)
        if cells and complete and stamp_of(self.results / "summary.json") and not jobs:
            return "finished"
        if owner is None:
            return "unknown" if cells else "empty"
        return {True: "running", False: "stopped", None: "unknown"}[owner.alive]  # type: ignore[return-value]


def progress_of(cell: Cell, horizon: Horizon, jobs: Sequence[Job], evaluate_every: int) -> Progress:
    """Return how far an arm and seed is, and how many iterations it still has to compute.

    Args:
        cell: its finished iterations.
        horizon: iterations and budgets of the run; 0: unknown.
        jobs: its unfinished jobs.
        evaluate_every: of the run.
    """
    rows = cell.iterations
    last = rows[-1] if rows else None
    budgets = [
        (float(horizon.token_budget), "sampled_tokens", "tokens"),
        (horizon.compute_budget, "compute", "FLOP"),
    ]
    left = float(horizon.iterations - cell.done) if horizon.iterations else None
    shown = (0.0, 0.0, "tokens") if last is None else (float(last.get("total_sampled_tokens") or 0), 0.0, "tokens")
    share = -1.0
    for budget, column, unit in budgets:
        if not budget:
            continue
        spent = float(last.get(f"total_{column}") or 0) if last else 0.0
        if spent / budget > share:
            share, shown = spent / budget, (spent, budget, unit)
        step = _mean_step(rows, column)
        if left is not None and step:
            left = min(left, max(0.0, (budget - spent) / step))
    return Progress(cell, cell.done, horizon.iterations, *shown, left, tuple(jobs), cell.held_out(evaluate_every))


def _mean_step(rows: Sequence[Iteration], column: str) -> float:
    steps = [float(one.get(column) or 0) for one in rows if one.get("rollouts")][-RECENT:]
    return sum(steps) / len(steps) if steps else 0.0


def seconds_left(cells: Sequence[Progress], since: float) -> float | None:
    """Return the time left at the pace of the last iterations of all arms and seeds, however many run at once.

    None where the length of the run is unknown, or this run has not finished two iterations since it was started.
    since: when it was started, seconds since 1970.
    """
    left = [one.left for one in cells]
    times = sorted(one.finished for cell in cells for one in cell.cell.iterations[-PACE:])[-PACE:]
    times = [moment for moment in times if moment >= since]
    if not left or None in left or len(times) < 2:
        return None
    pace = (times[-1] - times[0]) / (len(times) - 1)
    return pace * sum(one for one in left if one is not None)
