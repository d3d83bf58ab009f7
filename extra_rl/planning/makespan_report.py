"""A makespan as lines for a terminal: where the GPU-time goes, how it scales, and what is assumed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from extra_rl.planning.makespan import Figures
from extra_rl.planning.tables import number, table

JOBS = {
    "stage": "every stage is a job",
    "group": "light stages share a job with a heavy one",
    "iteration": "every iteration is a job",
    "run": "every arm and seed is one job, its stages one after the other",
    "run_by_iteration": "every arm and seed is one job, an iteration one process",
    "one_process": "every arm and seed is one job and one process",
}
"""Granularity -> what a job is."""


def lines_of_makespan(found: Figures) -> list[str]:
    """Return all lines of a makespan."""
    bounds, gpu = found["lower_bounds"], found["gpu_seconds"]
    return [
        "",
        f"makespan on {found['nodes']:,} node(s) x {found['gpus_per_node']} GPU(s): {duration(found['seconds'])} "
        "expected",
        f"  {found['jobs']:,} jobs, at most {found['jobs_at_once']:,} at once: {JOBS[found['granularity']]}",
        f"  at least {duration(bounds['critical_path'])} for the longest chain of jobs, {duration(bounds['work'])} for "
        "all GPU work spread evenly",
        f"  GPU-time: {found['utilisation']:.0%} used by stages, {found['allotted']:.0%} allotted to jobs; "
        f"{number(gpu['busy'] / 3600)} of {number(gpu['available'] / 3600)} GPU-hours",
        f"  useful: {_useful(found)}",
        *_stages(found),
        *_scaling(found),
        *_idle(found),
        "",
        *textwrap.wrap(f"Advice: {found['advice']}", 118, subsequent_indent="  "),
    ]


def assumptions_of(found: Figures) -> list[str]:
    """Return what the makespan assumes, one note each."""
    cores = found["cores_per_node"]
    zero = ", ".join(found["unmeasured"])
    return [
        "Makespan: the stages of the workflow from an empty results folder (iterations before first_iteration are "
        "there). A job starts when its inputs exist and its devices are free, earlier iterations first; Snakemake's "
        "greedy scheduler is like that, but orders ready jobs otherwise.",
        f"Times: {found['measured']['iterations']:,} measured iteration(s) of {found['measured']['source']}, by stage "
        "and arm, scaled by response tokens like the hours above, apart from the time until a sampler was ready. "
        "Devices, software and the processes of one job are taken to be as measured. Shards are equal parts."
        + (f" Not measured, and 0 s: {zero}." if zero else ""),
        f"Devices of a job: `gpu` in {found['profile']}, and tensor_parallel and update.processes where they need "
        "more. " + (f"Cores: {cores} on each node." if cores else "Cores are not counted."),
        f"Latency: {number(found['job_seconds'])} s from the moment a job could start until it does (--job-seconds: "
        f"queue, polling, start of Snakemake), and {number(found['start_seconds'])} s for the start of each process, "
        "on its devices (--start-seconds).",
    ]


def duration(seconds: float) -> str:
    """Return seconds as text with three significant digits, in the unit that fits."""
    for size, unit in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def _useful(found: Figures) -> str:
    useful = found["useful"]
    parts = [
        f"{useful[name] or 'no number of'} GPU(s) at {least}% or more"
        for name, least in (("at_80_percent", 80), ("at_50_percent", 50))
    ]
    return ", ".join(parts) + ", of the numbers below"


def _stages(found: Figures) -> list[str]:
    rows: list[Sequence[str]] = [
        [name, duration(stage["seconds"]), f"{stage['share']:.1%}" if stage["gpu_seconds"] else "none"]
        for name, stage in found["stages"].items()
        if stage["seconds"]
    ]
    return table(["stage", "all arms and seeds", "of the GPU-time"], rows)


def _scaling(found: Figures) -> list[str]:
    rows = [
        [f"{row['gpus']:,}", duration(row["seconds"]), f"{row['utilisation']:.0%}", f"{row['speedup']:.2f}"]
        for row in found["scaling"]
    ]
    return table(["GPUs", "makespan", "used", "speed-up"], rows)


def _idle(found: Figures) -> list[str]:
    rows = [
        [phase["phase"], duration(phase["seconds"]), f"{phase['utilisation']:.0%}", f"{phase['idle']:.0%}"]
        for phase in found["idle"]
    ]
    return table(["phase", "takes", "used", "idle, of all GPU-time"], rows)
