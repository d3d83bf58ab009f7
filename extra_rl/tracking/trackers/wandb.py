"""Weights & Biases: offline files in the results folder, which `wandb sync` uploads, or online after a login.

`wandb sync results/NAME/tracking/wandb/wandb`
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extra_rl.tracking.record import COLUMNS, Record, TrackedRun

AXIS = "progress/iteration"
"""The x axis of all metrics. The library's own step is the number of the record, since evaluations come late."""


def send(run: TrackedRun, records: Sequence[Record], before: int, state: dict[str, Any]) -> dict[str, Any]:
    """Log the records in one session of the run.

    Offline every session is a folder with the same run id, and `wandb sync` joins them. A folder that `state` does not
    know is of a killed process and is removed. Online, the server knows how many records there are.
    """
    import wandb

    offline = run.settings["wandb_mode"] == "offline"
    folders = run.folder / "wandb"
    sessions = list(state.get("sessions", []))
    if offline:
        for folder in folders.glob(f"offline-run-*-{run.identifier}"):
            if folder.name not in sessions:
                shutil.rmtree(folder)
        _wait_for_a_free_name(folders, run.identifier)
    session = wandb.init(
        project=run.project,
        entity=run.settings["wandb_entity"],
        group=run.group,
        name=run.name,
        id=run.identifier,
        resume="allow",
        config=run.config,
        dir=str(run.folder),
        settings=wandb.Settings(
            mode=run.settings["wandb_mode"],
            console="off",
            silent=True,
            save_code=False,
            disable_git=True,
            init_timeout=run.settings["timeout_s"],
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            allow_val_change=True,
        ),
    )
    session.define_metric(AXIS)
    session.define_metric("*", step_metric=AXIS)
    there = 0 if offline else session.step - before
    for number, record in enumerate(records):
        if number >= there:
            session.log(_values(record), step=before + number)
    name = Path(session.dir).parent.name
    session.finish()
    wandb.teardown()  # ends the library's own process
    return {"sessions": [*sessions, name]} if offline else {}


def _values(record: Record) -> dict[str, Any]:
    import wandb

    table = {}
    if record.rollouts:
        table["rollouts"] = wandb.Table(columns=list(COLUMNS), data=record.rollouts)
    return {**record.metrics, **table, "_timestamp": record.time}


def _wait_for_a_free_name(folders: Path, identifier: str) -> None:
    """Wait until no session of the run began in this second: a folder's name has no smaller unit."""
    while (folders / f"offline-run-{time.strftime('%Y%m%d_%H%M%S')}-{identifier}").exists():
        time.sleep(0.05)
