"""Tracking jobs on a copy of the finished run, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extra_rl.config.tracking import TrackingConfig
from extra_rl.tracking.job import TrackingJob, run_job
from extra_rl.tracking.store import LEDGER, RECORDS, Ledger, read_records
from tests.conftest import Run


class Place:
    """An arm of a run, and what its jobs have said."""

    def __init__(self, run: Run, arm: str = "extra", **settings: Any) -> None:
        self.results, self.arm, self.settings, self.said = run.results, arm, settings, list[str]()
        self.noted: list[str] = []

    def job(self, step: int, **changes: Any) -> Ledger:
        settings = TrackingConfig.model_validate({**self.settings, **changes}).model_dump()
        start = self.results / "warm_start"
        marker = Path(f"{self.results.name}-{self.arm}-{step}.json")
        job = TrackingJob(self.results, self.arm, 0, start, step, settings, marker)
        return run_job(job, self.said.append, self.noted.append)

    @property
    def folder(self) -> Path:
        return self.results / "tracking" / f"{self.arm}-s0"

    @property
    def records(self) -> Path:
        return self.folder / RECORDS

    @property
    def ledger(self) -> Path:
        return self.folder / LEDGER

    def keys(self) -> list[str]:
        return [record.key for record in read_records(self.records)]
