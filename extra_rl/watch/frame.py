"""A frame of `extra watch`: the state of a run as lines for a terminal of any width.

Names and messages may come from a model or a data set: every text passes `report.text.visible`, and none is read as
rich's markup, so nothing of it can control the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from extra_rl.report.text import bounded, visible
from extra_rl.run.progress import duration
from extra_rl.watch.jobs import Job
from extra_rl.watch.notes import Note
from extra_rl.watch.spark import ASCII, BLOCKS, sparkline
from extra_rl.watch.state import Progress, State

if TYPE_CHECKING:
    from rich.text import Text

WIDE = 150
"""Columns from which the arms and seeds are a table; below, each has a few lines."""
NOTE_LETTERS = 400
"""Characters of a note that are shown; its log has the rest."""


class Figure(NamedTuple):
    """A figure with a sparkline. form: of its last value."""

    title: str
    column: str
    form: str


FIGURES = (
    Figure("pass", "pass_rate", ".1%"),
    Figure("reward", "mean_reward", ".3g"),
    Figure("entropy", "mean_entropy", ".3g"),
    Figure("length", "mean_length", ".0f"),
)
COLOURS = {"running": "green", "finished": "bold green", "stopped": "bold red", "unknown": "yellow"}


def frame(
    state: State, notes: Sequence[Note], width: int, height: int | None = None, *, plain: bool = False
) -> list[Text]:
    """Return the lines of a frame, none wider than `width`.

    Args:
        state: of the run.
        notes: shown below the arms and seeds.
        width: columns of the terminal.
        height: its lines; arms and seeds that do not fit are counted instead of shown. None: no limit.
        plain: draw with ASCII characters only.
    """
    levels = ASCII if plain else BLOCKS
    if state.phase == "absent":
        return _wrapped([_absent(state)], width)
    head = _wrapped(_head(state), width)
    tail = _wrapped(_notes(notes), width)
    cells = list(state.cells)
    size = 1 if width >= WIDE else _lines_of_cell(cells)
    hidden = 0
    if height is not None:
        if len(tail) > max(4, height // 2):
            tail = [*tail[: max(4, height // 2)], _text("... more notes (--once shows all)", "dim")]
        room = max(1, (height - len(head) - len(tail) - 4) // size)
        if len(cells) > room:
            shown = sorted(range(len(cells)), key=lambda i: (not cells[i].jobs, i))[:room]
            hidden = len(cells) - room
            cells = [cells[i] for i in sorted(shown)]
    body = _table(cells, width, levels) if width >= WIDE else _cards(cells, width, levels)
    if hidden:
        more = _text(f"and {hidden} more that do not fit here (--once shows all)", "dim")
        body.append(_cut(more, width))
    blank = [_text("")]
    return [*head, *(blank + body if body else []), *(blank + tail if tail else [])]


def _absent(state: State) -> Text:
    parent = state.results.parent
    names = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
    there = f" Folders in {parent}: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}." if names else ""
    return _text(f"waiting for {state.results}: no such folder yet.{there}", "yellow")


def _head(state: State) -> list[Text]:
    first = _text("")
    first.append_text(_text(str(state.results), "bold"))
    first.append_text(_text(f"  {state.phase}", COLOURS.get(state.phase, "")))
    if state.owner and state.phase in ("running", "unknown"):
        where = "" if state.owner.alive else f" on {state.owner.host}"
        begun, today = time.localtime(state.owner.since), time.localtime(state.now)
        since = time.strftime("%H:%M" if begun[:3] == today[:3] else "%Y-%m-%d %H:%M", begun)
        first.append_text(_text(f" (process {state.owner.process}{where}, since {since})", "dim"))
    if not state.cells:
        return [first, *_now(state)]
    done = sum(one.done for one in state.cells)
    total = state.horizon.iterations * len(state.cells)
    parts = [f"{done}/{total} iterations" if total else f"{done} iterations"]
    budgets = [one for one in state.cells if one.budget]
    if budgets:
        share = sum(min(one.spent, one.budget) for one in budgets) / sum(one.budget for one in budgets)
        parts.append(f"{share:.0%} of the budget ({_amount(sum(one.budget for one in budgets), budgets[0].unit)})")
    if state.phase != "finished" and state.seconds_left is not None:
        pace = "left" if state.phase == "running" else "of work left at the last pace"
        parts.append(f"about {duration(state.seconds_left)} {pace}")
    if state.changed:
        parts.append(f"last change {duration(state.now - state.changed)} ago")
    return [first, _text(", ".join(parts)), *_now(state)]


def _now(state: State) -> list[Text]:
    running = [job for job in state.jobs if job.state == "running"]
    return [_text(f"{job.stage}: {job.said or 'running'}", "cyan") for job in running]


def _cards(cells: Sequence[Progress], width: int, levels: str) -> list[Text]:
    lines: list[Text] = []
    half = (width - 3) // 2
    spark = max(4, min(24, half - 17))
    for one in cells:
        lines.append(_cut(_text(_title(one), "bold"), width))
        if one.cell.iterations:
            figures = [_figure(one, figure, spark, levels) for figure in FIGURES]
            for left, right in (figures[:2], figures[2:]):
                line = _text("  ")
                for figure, (value, drawn) in ((FIGURES[figures.index(part)], part) for part in (left, right)):
                    line.append_text(_text(f"{figure.title:<8}", "dim"))
                    line.append_text(_text(f"{value:>7} "))
                    line.append_text(_text(f"{drawn:<{spark}} ", "cyan"))
                lines.append(_cut(line, width))
        lines.append(_cut(_text(f"  {_doing(one)}", _colour(one)), width))
    return lines


def _lines_of_cell(cells: Sequence[Progress]) -> int:
    return max((4 if one.cell.iterations else 2 for one in cells), default=1)


def _table(cells: Sequence[Progress], width: int, levels: str) -> list[Text]:
    """Return a line per arm and seed, below a line of titles; the sparklines share the width that is left."""
    rows: list[list[tuple[str, str]]] = []
    for one in cells:
        total = f"/{one.total}" if one.total else ""
        row = [(one.cell.name, "bold"), (f"{one.done}{total}", ""), (_spent(one), "")]
        for figure in FIGURES:
            row += [(_figure(one, figure, 0, levels)[0], ""), ("", "cyan")]
        row += [(_groups(one), ""), (_held_out(one), ""), (_doing(one, short=True), _colour(one))]
        rows.append(row)
    titles = ["arm/seed", "iterations", "budget"]
    for figure in FIGURES:
        titles += [figure.title, ""]
    titles += ["groups +/~/-", "held out", "now"]
    widths = [
        max([_width(titles[i]), *(min(_width(visible(row[i][0], keep="")), 28) for row in rows)])
        for i in range(len(titles))
    ]
    sparks = range(4, 4 + 2 * len(FIGURES), 2)
    others = sum(widths) + 2 * len(widths) - len(FIGURES)
    spark = max(5, min(20, (width - others) // len(FIGURES)))
    for number, place in enumerate(sparks):
        widths[place] = spark
        for row, one in zip(rows, cells, strict=True):
            row[place] = (_figure(one, FIGURES[number], spark, levels)[1], "cyan")
    right = {1, 2, *range(3, 3 + 2 * len(FIGURES), 2)}
    lines = [_row([(title, "dim") for title in titles], widths, right)]
    lines += [_row(row, widths, right) for row in rows]
    return [_cut(line, width) for line in lines]


def _row(cells: Sequence[tuple[str, str]], widths: Sequence[int], right: set[int]) -> Text:
    line = _text("")
    for place, ((content, style), size) in enumerate(zip(cells, widths, strict=True)):
        cell = _text(content, style)
        if place < len(widths) - 1:
            cell = _cut(cell, size)
        pad = _text(" " * max(0, size - cell.cell_len))
        for part in (pad, cell) if place in right else (cell, pad):
            line.append_text(part)
        line.append(" " if 3 <= place < 3 + 2 * len(FIGURES) and place % 2 else "  ")
    line.rstrip()
    return line


def _figure(one: Progress, figure: Figure, width: int, levels: str) -> tuple[str, str]:
    """Return the last value and the sparkline of a figure."""
    rows = [row for row in one.cell.iterations if row.get("rollouts")]
    values = [row.get(figure.column) for row in rows]
    last = next((value for value in reversed(values) if value is not None), None)
    return ("-" if last is None else format(last, figure.form)), sparkline(values, width, levels)


def _title(one: Progress) -> str:
    parts = [one.cell.name]
    total = f"/{one.total}" if one.total else ""
    parts.append(f"{one.done}{total} iterations" + (f", {_spent(one)}" if one.cell.iterations else ""))
    return "  ".join(parts)


def _spent(one: Progress) -> str:
    """Return `17% of 250,000 tokens`; without a budget, what was spent."""
    if not one.budget:
        return f"{_amount(one.spent, one.unit)}"
    return f"{min(1.0, one.spent / one.budget):.0%} of {_amount(one.budget, one.unit)}"


def _amount(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if unit == "tokens" else f"{value:.3g} {unit}"


def _groups(one: Progress) -> str:
    """Return solved, mixed and unsolved groups of the last iteration that sampled."""
    rows = [row for row in one.cell.iterations if row.get("rollouts")]
    if not rows:
        return "-"
    return "/".join(str(rows[-1].get(name) or 0) for name in ("all_correct", "mixed", "all_incorrect"))


def _held_out(one: Progress) -> str:
    return "-" if one.held_out is None else f"{one.held_out[1]:.1f} (i{one.held_out[0]})"


def _doing(one: Progress, *, short: bool = False) -> str:
    """Return what an arm and seed does now: its unfinished jobs, or why it does nothing."""
    jobs = []
    for job in one.jobs:
        name = f"{job.place.rpartition('/')[2]} {job.stage}"
        jobs.append(name if job.state == "running" and (short or not job.said) else f"{name}: {_said(job)}")
    if jobs:
        return "; ".join(jobs)
    if one.total and one.done >= one.total:
        return "finished" if short or one.held_out is None else f"finished, held-out pass@1 {_held_out(one)}"
    return "waiting" if one.done else "not started"


def _colour(one: Progress) -> str:
    states = {job.state for job in one.jobs}
    return "bold red" if "failed" in states else "yellow" if "interrupted" in states else "green" if states else "dim"


def _said(job: Job) -> str:
    return job.state if job.state != "running" else job.said.removeprefix(f"{job.place} {job.stage}: ")


def _notes(notes: Sequence[Note]) -> list[Text]:
    """Return the notes, each advice once."""
    lines, given = [], {""}
    for note in notes:
        line = _text("")
        line.append_text(_text("ERROR " if note.error else "WARNING ", "bold red" if note.error else "bold yellow"))
        line.append_text(_text(f"{note.place}: ", "bold"))
        line.append_text(_text(bounded(note.text, NOTE_LETTERS)))
        if note.advice not in given:
            given.add(note.advice)
            line.append_text(_text(f" {note.advice}", "dim"))
        lines.append(line)
    return lines


def _text(content: str, style: str = "") -> Text:
    """Return untrusted text on one line, without control characters."""
    from rich.text import Text

    return Text(visible(content.replace("\n", " | "), keep=""), style=style, no_wrap=True)


def _width(content: str) -> int:
    from rich.cells import cell_len

    return cell_len(content)


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def _wrapped(lines: Sequence[Text], width: int) -> list[Text]:
    """Return the lines wrapped at `width`; continuation lines are indented."""
    from rich.console import Console

    console = Console(width=width)
    found: list[Text] = []
    for line in lines:
        line.no_wrap = False
        first, *rest = line.wrap(console, width - 2, no_wrap=False) or [line]
        found.append(first)
        for more in rest:
            indented = _text("  ")
            indented.append_text(more)
            found.append(indented)
    return found
