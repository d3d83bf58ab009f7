"""What needs attention in a run: failed jobs, standstill, damaged files, and warnings on the last iterations.

Each note states what is wrong, what it means and what to do. The limits are our decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from extra_rl.algorithms.mismatch import TOLERANCE
from extra_rl.report.summary_line import warnings
from extra_rl.results import iteration_name
from extra_rl.run.progress import duration
from extra_rl.run.records import tolerance_of_iteration
from extra_rl.watch.cells import Cell, Iteration
from extra_rl.watch.jobs import Job
from extra_rl.watch.state import State

STANDSTILL = 10.0
"""Minutes without any change after which a running run is called stalled."""
NO_SIGNAL = 3
"""Consecutive iterations without a mixed or a rescued group that are reported."""
TRUNCATED = 0.2
"""Share of rollouts cut off at the token limit that is reported."""
ENTROPY_LEFT, ENTROPY_OVER = 0.5, 3
"""Share of the entropy of the first iterations below which that of the last is reported; iterations in each mean."""


@dataclass(frozen=True)
class Note:
    """One thing to know. error: it has stopped a job, or lost a file. advice: what it means and what to do."""

    place: str
    text: str
    error: bool = False
    advice: str = ""


def notes_of(state: State, standstill: float = STANDSTILL) -> list[Note]:
    """Return the notes, errors first. standstill: minutes."""
    found = [
        *(note for job in state.every_job for note in _of_job(job)),
        *(
            Note(str(path), f"cannot be read ({reason}). `extra check {state.results}` tells what to do.", error=True)
            for path, reason in state.damaged.items()
        ),
        *_of_run(state, standstill),
        *(note for one in state.cells for note in of_cell(one.cell)),
    ]
    return sorted(found, key=lambda note: not note.error)


def _of_job(job: Job) -> Iterator[Note]:
    name = f"{job.place} {job.stage}".strip()
    if job.state == "failed":
        yield Note(name, f"failed: {job.said} Log: {job.log}", error=True)
    elif job.state == "interrupted":
        yield Note(name, f"was cut off when the run ended. Log: {job.log}")


def _of_run(state: State, standstill: float) -> Iterator[Note]:
    still = state.now - state.changed
    if state.phase == "stopped":
        yield Note(
            "run",
            f"its process ended before the run was finished (last change {duration(still)} ago). The same snakemake "
            "command continues it; what is there is kept.",
        )
    if state.phase in ("running", "unknown") and state.changed and still > 60 * standstill:
        waiting = "" if state.owner and state.owner.alive else ", if it still runs"
        yield Note(
            "run",
            f"stalled: no log and no summary has changed for {duration(still)}{waiting}. Jobs may wait in the queue of "
            "a cluster, or a stage takes long without a message: look at the last log and at the load of the machine.",
        )
    if state.other:
        yield Note("run", f"{', '.join(state.other)}: not part of the configuration that runs now, so it is not shown.")


def of_cell(cell: Cell) -> Iterator[Note]:
    """Yield the notes on the finished iterations of an arm and seed."""
    rows = [one for one in cell.iterations if one.get("rollouts")]
    if cell.gaps:
        numbers = ", ".join(map(str, cell.gaps))
        yield Note(
            cell.name,
            f"summarize.parquet of iteration {numbers} is gone.",
            advice="`extra check` prints the command that makes it again.",
        )
    if not rows:
        return
    last = rows[-1]
    place = f"{cell.name}/i{last.number}"
    dry = _without_signal(rows)
    if dry >= NO_SIGNAL:
        kinds = ("correct", "incorrect")
        correct, incorrect = (sum(one.get(f"all_{kind}") or 0 for one in rows[-dry:]) for kind in kinds)
        advice = "harder problems" if correct > incorrect else "easier problems, larger groups, or continued rollouts"
        yield Note(
            place,
            f"no signal for {dry} iterations: {incorrect} groups all incorrect, {correct} all correct, none mixed or "
            "rescued.",
            advice=f"Equal rewards give no advantage, so the policy does not improve. Try {advice}.",
        )
    cut = (last.get("truncated") or 0) / last.row["rollouts"]
    if cut > TRUNCATED:
        yield Note(
            place,
            f"{cut:.0%} of the rollouts were cut off at the token limit.",
            advice="They count as incorrect. Raise sampling.max_response_tokens, or ask for shorter responses.",
        )
    yield from _entropy(cell.name, rows)
    yield from (Note(place, text) for text in warnings(Lenient(last.row), _tolerance(cell, last)))


class Lenient(dict[str, object]):
    """A row in which columns that an older version did not write are None."""

    def __missing__(self, key: str) -> None:
        return None


def _without_signal(rows: list[Iteration]) -> int:
    """Return for how many of the last iterations no group was mixed or rescued, replayed ones included."""
    count = 0
    for one in reversed(rows):
        useful = one.get("mixed") or one.get("rescued_groups") or one.get("replayed_mixed")
        if useful or not one.get("groups"):
            break
        count += 1
    return count


def _entropy(name: str, rows: list[Iteration]) -> Iterator[Note]:
    values = [one.get("mean_entropy") for one in rows if one.get("mean_entropy") is not None]
    if len(values) < 2 * ENTROPY_OVER:
        return
    first, now = (sum(part) / ENTROPY_OVER for part in (values[:ENTROPY_OVER], values[-ENTROPY_OVER:]))
    if now < ENTROPY_LEFT * first:
        yield Note(
            name,
            f"the entropy fell from {first:.3g} to {now:.3g} nats.",
            advice="Rollouts of one problem become alike, so fewer groups are mixed. A larger update.clip_high, "
            "update.entropy_weight or a novelty bonus keeps it up.",
        )


def _tolerance(cell: Cell, last: Iteration) -> float:
    key = (last.number, last.finished)
    if cell.tolerance is None or cell.tolerance[0] != key:
        try:
            found = tolerance_of_iteration(cell.run.path / iteration_name(last.number))
        except (OSError, ValueError, KeyError):
            found = None  # records are no tables: without them the tolerance of float32 counts
        cell.tolerance = (key, TOLERANCE["float32"] if found is None else found)
    return cell.tolerance[1]
