"""One tracking job: bring the records of an arm and seed up to date, then every tracker.

The records (`tracking/<arm>-s<seed>/metrics.jsonl`) are the reference; a tracker gets the records that it has not
received yet. So a kill, an outage, a new tracker and a repeated job lead to the same state, and nothing is logged
twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from extra_rl.config.tracking import REFERENCE
from extra_rl.errors import InputError
from extra_rl.results import RunFolder
from extra_rl.run.records import read_json
from extra_rl.tracking.collect import keys_of, read_record
from extra_rl.tracking.metrics import lasting
from extra_rl.tracking.record import Record, TrackedRun
from extra_rl.tracking.store import (
    FOLDER,
    LEDGER,
    LOCK,
    RECORDS,
    RUN_FILE,
    Delivered,
    Ledger,
    append_records,
    cell_name,
    locked,
    read_records,
    replace_records,
)

Say = Callable[[str], None]
REASON_SHOWN = 200
"""Longest reason in a line on an outage, in characters."""
PORTION = 100
"""Records that a tracker gets at once, within `timeout_s`."""
QUICK_SECONDS, PAUSE = 10.0, 10.0
"""A tracker that failed after more seconds than the first is left alone for PAUSE times as long. Our decision."""


@dataclass(frozen=True)
class TrackingJob:
    """What a job is given.

    Args:
        results: `results/<name>`.
        arm: folder of the arm.
        seed: experiment seed.
        start: folder of its initial policy.
        step: the iteration that is finished, up to which everything is logged; -1: only the initial policy.
        settings: the section `tracking`.
        marker: the job's output.
    """

    results: Path
    arm: str
    seed: int
    start: Path
    step: int
    settings: Mapping[str, Any]
    marker: Path

    @property
    def name(self) -> str:
        """`tiny/extra/s0`."""
        return f"{self.results.name}/{self.arm}/s{self.seed}"

    @property
    def folder(self) -> Path:
        """Of the records of this arm and seed."""
        return self.results / FOLDER / cell_name(self.arm, self.seed)


def run_job(job: TrackingJob, say: Say, note: Say) -> Ledger:
    """Do the job and return what every tracker has received. An outage is one line, and no error.

    Args:
        say: prints a line for the user.
        note: writes a line to the log.
    Raises InputError where the tables of this iteration, or the records, cannot be read.
    """
    with locked(job.folder / LOCK):
        records = up_to_date(job, say)
        path = job.folder / LEDGER
        ledger = Ledger.read(path)
        trackers = [tracker for tracker in job.settings["to"] if tracker != REFERENCE]
        ledger.marker = str(job.marker)
        ledger.behind = {tracker: reason for tracker, reason in ledger.behind.items() if tracker in trackers}
        for tracker in trackers:
            if reason := deliver(job, tracker, records, ledger, say, note):
                ledger.behind[tracker] = reason
            else:
                ledger.behind.pop(tracker, None)
                ledger.outages.pop(tracker, None)
        ledger.write(path)
    return ledger


def up_to_date(job: TrackingJob, say: Say) -> list[Record]:
    """Return the records, after adding those of finished tables that were missing.

    The job's own step is read again. Where its numbers are others now, it and later iterations are replaced.
    """
    path = job.folder / RECORDS
    records = read_records(path)
    known = {record.key: record for record in records}
    run = RunFolder.of(job.results, job.arm, job.seed)
    added: list[Record] = []
    replaced: dict[str, Record] = {}
    for kind, step in keys_of(run, job.start, job.step):
        before = known.get(f"{kind}/{step}")
        if before is not None and step != job.step:
            continue
        try:
            record = read_record(job.results, run, job.start, (kind, step), job.settings)
        except InputError as error:
            if step == job.step:
                raise
            say(f"tracking {job.name}: iteration {step} is left out: {error}")
            continue
        if before is None:
            added.append(record)
        elif before.digest != record.digest and disagree(before, record):
            replaced[record.key] = record
    if replaced:
        first = min((r.step for r in replaced.values() if r.kind == "iteration"), default=None)
        kept = [r for r in records if first is None or r.step < first or r.key in replaced or r.step == first]
        records = [replaced.get(record.key, record) for record in kept] + added
        replace_records(path, records)
    elif added:
        records = records + added
        append_records(path, added)
    return records


def disagree(one: Record, other: Record) -> bool:
    """Whether a metric that both records have differs. One that only one has was added by another version."""
    numbers, others = lasting(one.metrics), lasting(other.metrics)
    return any(numbers[name] != others[name] for name in numbers.keys() & others.keys())


def deliver(job: TrackingJob, tracker: str, records: Sequence[Record], ledger: Ledger, say: Say, note: Say) -> str:
    """Send a tracker what it has not received yet; return why it has not received everything, "" where it has.

    Args:
        job: the tracking job.
        tracker: its name, or `module:function`.
        records: all records of the arm and seed.
        ledger: what all trackers have received; it is changed and written.
        say, note: as in `run_job`.
    """
    target = f"{job.settings['project']} {place_of(tracker, job.settings)}".strip()
    entry = ledger.trackers.get(tracker)
    if entry is None or entry.target != target:
        entry = ledger.trackers[tracker] = Delivered(target)
    digests = {record.key: record.digest for record in records}
    changed = [key for key, digest in entry.sent if digests.get(key, digest) != digest]
    if changed:
        entry = ledger.trackers[tracker] = Delivered(target, entry.attempt + 1)
        say(
            f"tracking {job.name}: {changed[0]} was made again with other numbers, so {tracker} begins the run "
            f"{run_of(job, tracker, entry.attempt).name}; the previous one stays as it is."
        )
    sent = dict(entry.sent)
    unsent = [record for record in records if record.key not in sent]
    if unsent and (pause := pause_left(job, ledger, tracker)):
        note(f"{tracker}: unavailable, tried again in {pause:.0f} s at the earliest")
        return ledger.behind.get(tracker, "unavailable")
    for place in range(0, len(unsent), PORTION):
        portion, started = unsent[place : place + PORTION], time.time()
        try:
            entry.state = send(job, tracker, entry, portion, note)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            reason = " ".join(str(error).split())[:REASON_SHOWN]
            known = ledger.behind.get(tracker) == reason and in_this_run(job, ledger, tracker)
            ledger.outages[tracker] = (time.time(), time.time() - started)
            (note if known else say)(
                f"tracking {job.name}: {tracker} has not received {len(unsent) - place} record(s) ({reason}). The run "
                "goes on; the next tracking job, or the same command again, sends them."
            )
            return reason
        entry.sent += [(record.key, record.digest) for record in portion]
        ledger.write(job.folder / LEDGER)
    return ""


def pause_left(job: TrackingJob, ledger: Ledger, tracker: str) -> float:
    """Seconds until a tracker is tried again that took long to fail; 0: now.

    So a tracker that hangs costs a run little. A run that was started after the outage tries at once.
    """
    when, seconds = ledger.outages.get(tracker, (0.0, 0.0))
    if seconds < QUICK_SECONDS or not in_this_run(job, ledger, tracker):
        return 0.0
    return max(0.0, when + PAUSE * seconds - time.time())


def in_this_run(job: TrackingJob, ledger: Ledger, tracker: str) -> bool:
    """Whether the last outage of a tracker was after the start of this run of the workflow, as far as is known."""
    about = job.results / FOLDER / RUN_FILE
    when = ledger.outages.get(tracker, (0.0, 0.0))[0]
    return not about.is_file() or about.stat().st_mtime < when


def place_of(tracker: str, settings: Mapping[str, Any]) -> str:
    """Where a tracker sends to, as far as the settings say."""
    if tracker == "wandb":
        return f"{settings['wandb_mode']} {settings['wandb_entity'] or ''}".strip()
    return settings["mlflow_uri"] or "" if tracker == "mlflow" else ""


def run_of(job: TrackingJob, tracker: str, attempt: int) -> TrackedRun:
    """The run as a tracker knows it."""
    config = about_run(job.results / FOLDER / RUN_FILE, job.arm)
    number = f"-{attempt}" if attempt > 1 else ""
    parts = (job.results.name, job.arm, f"s{job.seed}{number}", config.pop("id", ""))  # no arm contains a dot
    return TrackedRun(
        project=job.settings["project"],
        group=job.results.name,
        name=job.name + (f" ({attempt})" if attempt > 1 else ""),
        identifier=".".join(filter(None, parts)),
        cell=cell_name(job.arm, job.seed) + number,
        folder=(job.results / FOLDER / tracker.replace(":", "_")).absolute(),
        config=config | {"arm": job.arm, "seed": job.seed},
        settings=dict(job.settings),
    )


def about_run(path: Path, arm: str) -> dict[str, Any]:
    """The configuration that the workflow wrote for the trackers, with the sections of one arm; {} without the file."""
    if not path.is_file():
        return {}
    found = read_json(path)
    arms = found.pop("arms", {})
    return {**found, "sections": arms.get(arm, {})}


def send(job: TrackingJob, tracker: str, entry: Delivered, unsent: Sequence[Record], note: Say) -> dict[str, Any]:
    """Run the tracker's code in its own process, and return its new state.

    A tracker's library may hang, print, leave threads or fail in any way; none of it reaches this process.

    Args:
        job: the tracking job.
        tracker: its name, or `module:function`.
        entry: what the tracker has received; it is not changed.
        unsent: records to send.
        note: receives what the process prints, line by line.
    Raises RuntimeError with the tracker's own error, or where it takes longer than `timeout_s`.
    """
    limit = job.settings["timeout_s"]
    with tempfile.TemporaryDirectory(prefix="extra-tracking-") as scratch:
        request, answer = Path(scratch) / "request.json", Path(scratch) / "answer.json"
        run = asdict(run_of(job, tracker, entry.attempt))
        content = {
            "tracker": tracker,
            "run": run | {"folder": str(run["folder"])},
            "records": [asdict(record) for record in unsent],
            "before": len(entry.sent),
            "state": entry.state,
        }
        request.write_text(json.dumps(content))
        command = [sys.executable, "-m", "extra_rl.tracking.send", str(request), str(answer)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"no answer within tracking.timeout_s, {limit:g} s") from None
        for line in done.stdout.splitlines():
            note(f"{tracker}: {line}")
        found = json.loads(answer.read_text()) if answer.is_file() else {}
        if done.returncode or "state" not in found:
            last = (done.stdout.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(found.get("error") or f"its process ended with {done.returncode}: {last}")
        return dict(found["state"])
