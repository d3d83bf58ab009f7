"""The tracking job: `python -m stages track`, for the rules of `workflow/rules/tracking.smk` (docs/tracking.md).

It is no stage: it makes no table, and no stage reads what it makes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from extra_rl.config.section import parse_config
from extra_rl.config.tracking import TrackingConfig
from extra_rl.run.progress import Console
from extra_rl.tables.files import write_whole
from extra_rl.tracking.collect import INITIAL
from extra_rl.tracking.job import TrackingJob, run_job


def main(argv: list[str]) -> None:
    """Log what is finished of one arm and seed; raise what cannot be read. An outage of a tracker is no error."""
    parser = argparse.ArgumentParser(prog="python -m stages track", description=__doc__)
    parser.add_argument("--settings", required=True, help="the section `tracking`, as JSON")
    parser.add_argument("--results", required=True, type=Path, metavar="FOLDER", help="results/<name>")
    parser.add_argument("--arm", required=True, help="folder of the arm")
    parser.add_argument("--seed", required=True, type=int, help="experiment seed")
    parser.add_argument("--start", required=True, help="name of the initial policy's folder")
    parser.add_argument("--step", type=int, default=INITIAL, help="the finished iteration; default: the initial policy")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="record of what was logged")
    parser.add_argument("--log", type=Path, help="also write the output to this file")
    given = parser.parse_args(argv)
    settings: TrackingConfig = parse_config(TrackingConfig, json.loads(given.settings), "tracking")
    job = TrackingJob(
        results=given.results,
        arm=given.arm,
        seed=given.seed,
        start=given.results / given.start,
        step=given.step,
        settings=settings.model_dump(),
        marker=given.output,
    )
    with Console(given.log) as console:
        ledger = run_job(job, console.say, console.note)
    logged = {name: [key for key, _ in entry.sent] for name, entry in ledger.trackers.items() if name in settings.to}
    text = json.dumps({"trackers": settings.to, "logged": logged, "behind": ledger.behind}, indent=1) + "\n"
    write_whole(given.output, lambda tmp: tmp.write_text(text))
