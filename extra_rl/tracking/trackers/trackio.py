"""Trackio: its SQLite file in the results folder; no server, no thread.

`TRACKIO_DIR=results/NAME/tracking/trackio trackio show`
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from extra_rl.tracking.record import COLUMNS, Record, TrackedRun


def send(run: TrackedRun, records: Sequence[Record], before: int, state: dict[str, Any]) -> dict[str, Any]:
    """Write the records in one transaction. Each has an id, so that a record that is there already is not repeated."""
    os.environ["TRACKIO_DIR"] = str(run.folder)  # read when trackio is imported
    from trackio.sqlite_storage import SQLiteStorage

    created = state.get("created") or _iso(records[0].time)
    SQLiteStorage.bulk_log(
        project=run.project,
        run=run.name,
        run_id=run.identifier,
        metrics_list=[_values(run, record) for record in records],
        steps=[record.step for record in records],
        timestamps=[_iso(record.time) for record in records],
        config={**run.config, "_Username": None, "_Created": created, "_Group": run.group},
        log_ids=[f"{run.identifier}/{record.key}/{record.digest}" for record in records],
    )
    return {"created": created}


def _values(run: TrackedRun, record: Record) -> dict[str, Any]:
    """The numbers and the table of a record. Trackio shows cells as HTML, so the texts are escaped."""
    import trackio

    if not record.rollouts:
        return dict(record.metrics)
    rows = [[html.escape(cell) if isinstance(cell, str) else cell for cell in row] for row in record.rollouts]
    table = trackio.Table(columns=list(COLUMNS), data=rows)
    return {**record.metrics, "rollouts": table._to_dict(project=run.project, run=run.name, step=record.step)}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
