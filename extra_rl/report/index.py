"""One page over several runs: a line for each results folder, with a link to its report.

It reads footers, summaries of last iterations and figures of evaluations, so it also lists unfinished runs. The same
folders give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from extra_rl.errors import ExtraError, InputError
from extra_rl.report.sources import Cell, Sources
from extra_rl.results import ITERATIONS

INDEX = "index.html"


@dataclass(frozen=True)
class Line:
    """One run. scores: of each cell, k -> score. problem: why it cannot be read; "" where it can.

    link: "" without a report. unfinished: `6 of 40 iterations`; "" for a finished run.
    """

    name: str
    link: str = ""
    task: str = ""
    model: str = ""
    seeds: int = 0
    iterations: str = ""
    unfinished: str = ""
    started: str = ""
    ks: tuple[int, ...] = ()
    scores: tuple[tuple[Cell, dict[int, Any]], ...] = ()
    problem: str = ""


def build_index(folder: Path) -> tuple[Path, int]:
    """Write `index.html` into a folder of results folders; return its path and the number of runs.

    A run that cannot be read is listed with the reason. Raises InputError where there is no run.
    """
    from extra_rl.report.page import template
    from extra_rl.tables.files import write_whole

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Name the folder that contains results folders, such as results.")
    runs = sorted(path for path in folder.iterdir() if path.is_dir() and any(path.glob(ITERATIONS)))
    if not runs:
        raise InputError(f"{folder}: no run below it. Name the folder that contains results folders, such as results.")
    found = [line_of(run) for run in runs]
    html = template("index.html", styles=("page.css",)).render(name=folder.resolve().name, lines=found).encode()
    out = folder / INDEX
    write_whole(out, lambda tmp: tmp.write_bytes(html))
    return out, len(found)


def line_of(results: Path) -> Line:
    """Return the line of one run."""
    from extra_rl.report import answer, collect, provenance, setup, sources
    from extra_rl.report.page import readable

    report = results / "report.html"
    link = quote(f"{results.name}/report.html") if report.is_file() else ""
    try:
        with readable(results):
            found = sources.find(results)
            sections = provenance.sections(provenance.footers(found))
            evaluations = collect.evaluations(found)
            ks = answer.ks_of(found, evaluations)
            scores = answer.scores(evaluations, ks)
            facts = dict(setup.what_was_run(found, sections))
            started = provenance.dates(results)
    except (ExtraError, OSError, ValueError) as error:
        return Line(results.name, link, problem=str(error).splitlines()[0])
    return Line(
        results.name,
        link,
        facts.get("task", ""),
        facts.get("model", ""),
        len(found.seeds),
        facts.get("iterations", ""),
        found.unfinished(),
        started[0] if started else "",
        tuple(ks),
        _scores(found, scores),
    )


def _scores(found: Sources, scores: dict[str, dict[int, Any]]) -> tuple[tuple[Cell, dict[int, Any]], ...]:
    starts = [Cell(name, name.replace("_", " ")) for name in found.warm_starts]
    return tuple((cell, scores.get(cell.folder, {})) for cell in [*starts, *found.cells])
