"""MLflow: an SQLite file in the results folder, or a tracking server (`tracking.mlflow_uri`).

`mlflow ui --backend-store-uri sqlite:///results/NAME/tracking/mlflow/mlflow.db`
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extra_rl.run.lock import flock
from extra_rl.tracking.record import COLUMNS, Record, TrackedRun, flat

IDENTIFIER, SENT = "extra.run", "extra.records"
"""Tags: the run's identifier, and how many records it has received."""
LONGEST_VALUE, PARAMETERS_AT_ONCE, METRICS_AT_ONCE = 6000, 100, 900
"""Limits of MLflow."""


def send(run: TrackedRun, records: Sequence[Record], before: int, state: dict[str, Any]) -> dict[str, Any]:
    """Log the records that the run has not received, each as one batch."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the next tracking job is the next try
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # Jobs of several arms may make the file at once.
    path = run.folder / ".lock"
    with path.open("a") as lock:
        flock(lock, path, fcntl.LOCK_EX)
        from mlflow import MlflowClient

        uri = run.settings["mlflow_uri"] or f"sqlite:///{run.folder / 'mlflow.db'}"
        client = MlflowClient(tracking_uri=uri)
        experiment = _experiment(client, run, None if run.settings["mlflow_uri"] else run.folder / "artifacts")
        found = _run(client, experiment, run, records[0].time)
        number = int(found.data.tags.get(SENT, 0))
        for record in list(records)[max(0, number - before) :]:
            number += 1
            _log(client, found.info.run_id, record, number)
        client.set_terminated(found.info.run_id, end_time=round(records[-1].time * 1000))
    return {"run_id": found.info.run_id}


def _experiment(client: Any, run: TrackedRun, artifacts: Path | None) -> str:
    """Id of the experiment with the project's name, which is made where there is none."""
    found = client.get_experiment_by_name(run.project)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(run.project, artifact_location=str(artifacts) if artifacts else None))


def _run(client: Any, experiment: str, run: TrackedRun, started: float) -> Any:
    """The run with the identifier; a new one gets the configuration as parameters and as a file."""
    from mlflow.entities import Param

    query = f"tags.`{IDENTIFIER}` = '{run.identifier}'"
    there = client.search_runs([experiment], filter_string=query, max_results=1)
    if there:
        return there[0]
    tags = {IDENTIFIER: run.identifier, "group": run.group}
    if commit := run.config.get("code", {}).get("commit"):
        tags["mlflow.source.git.commit"] = commit
    made = client.create_run(experiment, start_time=round(started * 1000), run_name=run.name, tags=tags)
    client.log_dict(made.info.run_id, run.config, "config.json")
    values = [Param(_name(key), _text(value)) for key, value in flat(run.config).items()]
    for place in range(0, len(values), PARAMETERS_AT_ONCE):
        client.log_batch(made.info.run_id, params=values[place : place + PARAMETERS_AT_ONCE])
    return made


def _log(client: Any, run_id: str, record: Record, number: int) -> None:
    from mlflow.entities import Metric, RunTag

    if record.rollouts:
        table = {"columns": list(COLUMNS), "data": record.rollouts}
        client.log_dict(run_id, table, f"rollouts/iteration_{record.step:04d}.json")
    time = round(record.time * 1000)
    metrics = [Metric(_name(name), float(value), time, record.step) for name, value in record.metrics.items()]
    for place in range(0, len(metrics), METRICS_AT_ONCE):  # the count comes with the last, which completes the record
        tags = [RunTag(SENT, str(number))] if place + METRICS_AT_ONCE >= len(metrics) else []
        client.log_batch(run_id, metrics=metrics[place : place + METRICS_AT_ONCE], tags=tags)


def _name(name: str) -> str:
    """The name with the characters that MLflow allows."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value))[:LONGEST_VALUE]
