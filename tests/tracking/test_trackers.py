"""Every tracker with its real library, offline: what it has written is read back by that library.

Each is sent its records in two jobs, and once more as after a kill between the tracker and the ledger.
"""

from __future__ import annotations

import contextlib
import html
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from extra_rl.tracking.record import COLUMNS, Record
from extra_rl.tracking.store import read_records
from tests.conftest import Run, copy_of
from tests.tracking.places import Place


def needs(module: str) -> pytest.MarkDecorator:
    extra = "mlflow" if module == "mlflow" else module
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed (pip install 'extra-rl[{extra}]')")


def logged(mini_run: Run, workdir: Path, tracker: str) -> tuple[Place, list[Record]]:
    """An arm whose records a tracker has received: four in two jobs, the last again after a kill, then the fifth."""
    run = copy_of(mini_run, workdir)
    with contextlib.chdir(workdir):
        return _logged(run, tracker)


def _logged(run: Run, tracker: str) -> tuple[Place, list[Record]]:
    (run.results / "tracking").mkdir()
    about = {
        "id": "1a2b",
        "run": {"name": "mini"},
        "code": {"commit": "abc"},
        "arms": {"extra": {"update": {"learning_rate": 0.5}}},
    }
    (run.results / "tracking" / "run.json").write_text(json.dumps(about))
    place = Place(run, to=[tracker], rollouts=3)
    last = run.results / "extra" / "s0" / "iteration_0002"
    (last / "evaluate_figures.parquet").rename(last / "aside")
    for step in (-1, 1):
        assert place.job(step).behind == {}, place.noted
    ledger = place.ledger.read_bytes()
    assert place.job(2).behind == {}
    place.ledger.write_bytes(ledger)
    assert place.job(2).behind == {}
    (last / "aside").rename(last / "evaluate_figures.parquet")
    assert place.job(2).behind == {}, place.noted
    assert place.said == []
    assert not leftover(run.workdir)
    return place, read_records(place.records)


def leftover(workdir: Path) -> list[str]:
    """Command lines of processes that were started in the directory, but for this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if process.pid != os.getpid() and process.cwd() == str(workdir):
                found.append(" ".join(process.cmdline()))
    return found


def close(found: dict[str, float], expected: dict[str, float]) -> bool:
    return found.keys() == expected.keys() and found == pytest.approx(expected, rel=1e-6)


@needs("tensorboard")
def test_tensorboard(mini_run: Run, tmp_path: Path) -> None:
    place, records = logged(mini_run, tmp_path / "run", "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

    files = list((place.results / "tracking" / "tensorboard").rglob("*tfevents*"))
    assert [file.parent.name for file in files] == ["extra-s0"]
    read = EventAccumulator(str(files[0].parent), size_guidance={TENSORS: 0})
    read.Reload()
    found: dict[int, dict[str, float]] = {}
    for tag in read.Tags()["scalars"]:
        for event in read.Scalars(tag):
            assert event.wall_time > 1.7e9
            found.setdefault(event.step, {})
            if tag not in ("progress/iteration", "progress/tokens"):  # iteration and evaluation have both
                assert tag not in found[event.step], "logged twice"
            found[event.step][tag] = event.value
    for step in (-1, 0, 1, 2):
        expected = {k: v for record in records if record.step == step for k, v in record.metrics.items()}
        assert close(found.pop(step), expected), step
    assert not found
    assert [event.step for event in read.Tensors("rollouts")] == [0, 1]
    assert '"learning_rate": 0.5' in read.Tensors("config")[0].tensor_proto.string_val[0].decode()


@needs("tensorboard")
def test_tensorboard_half_an_event_is_cut_off(mini_run: Run, tmp_path: Path) -> None:
    place, records = logged(mini_run, tmp_path / "run", "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ledger = json.loads(place.ledger.read_text())
    entry = ledger["trackers"]["tensorboard"]
    (file,) = (place.results / "tracking" / "tensorboard").rglob("*tfevents*")
    whole = file.read_bytes()
    entry["sent"] = []
    entry["state"] = {"file": file.name, "size": 0}
    place.ledger.write_text(json.dumps(ledger))
    file.write_bytes(whole[: len(whole) // 2 + 5])
    place.job(2)
    assert file.read_bytes() == whole
    read = EventAccumulator(str(file))
    read.Reload()
    assert [event.step for event in read.Scalars("groups/fresh")] == [0, 1, 2]
    assert len(records) == 5


def wandb_messages(path: Path) -> Iterator[Any]:
    """The messages of a .wandb file: a header of seven bytes, then LevelDB's log format in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, place, message = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole message, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            message = b""
            yield record


@needs("wandb")
def test_wandb(mini_run: Run, tmp_path: Path) -> None:
    place, records = logged(mini_run, tmp_path / "run", "wandb")
    folder = place.results / "tracking" / "wandb" / "wandb"
    sessions = sorted(folder.glob("offline-run-*"))
    assert [session.name.rpartition("-mini")[2] for session in sessions] == [".extra.s0.1a2b"] * 4
    rows, runs, axes, tables = {}, [], set(), 0
    for session in sessions:
        (file,) = session.glob("*.wandb")
        for message in wandb_messages(file):
            if message.HasField("run"):
                runs.append(message.run)
            if message.HasField("metric"):
                axes |= {(message.metric.glob_name, message.metric.step_metric)} - {("", "")}
            if message.HasField("history"):
                items = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in message.history.item}
                assert message.history.step.num not in rows, "logged twice"
                rows[message.history.step.num] = items
        tables += len(list(session.rglob("rollouts_*.table.json")))
    assert sorted(rows) == list(range(5))
    for number, record in enumerate(records):
        found = {name: value for name, value in rows[number].items() if name in record.metrics}
        assert close(found, record.metrics)
        assert rows[number]["_timestamp"] == pytest.approx(record.time)
    assert axes == {("*", "progress/iteration")}
    assert {(run.run_id, run.display_name, run.run_group, run.project) for run in runs} == {
        ("mini.extra.s0.1a2b", "mini/extra/s0", "mini", "extra-rl")
    }
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert config["sections"] == {"update": {"learning_rate": 0.5}}
    assert config["code"] == {"commit": "abc"}
    assert tables == 2  # iteration 2 has no rollouts: the budget was spent
    command = [sys.executable, "-m", "wandb", "sync", "--dry-run", str(folder)]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "Would sync 4 run(s)" in listed.stdout + listed.stderr


@needs("mlflow")
def test_mlflow(mini_run: Run, tmp_path: Path) -> None:
    place, records = logged(mini_run, tmp_path / "run", "mlflow")
    from mlflow import MlflowClient

    folder = place.results / "tracking" / "mlflow"
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("extra-rl")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "mini/extra/s0"
    assert run.data.tags["group"] == "mini"
    assert run.data.tags["mlflow.source.git.commit"] == "abc"
    assert run.data.tags["extra.records"] == "5"
    assert run.data.params["sections.update.learning_rate"] == "0.5"
    expected: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.metrics.items():
            expected.setdefault(name, []).append((record.step, value))
    assert run.data.metrics.keys() == expected.keys()
    for name in ("reward/mean", "tokens/sampled", "evaluation/mean/pass_at_4", "evaluation/L1/maj_at_2_high"):
        found = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        assert sorted(found) == [(step, pytest.approx(value)) for step, value in expected[name]], name
    tables = [artifact.path for artifact in client.list_artifacts(run.info.run_id, "rollouts")]
    assert tables == ["rollouts/iteration_0000.json", "rollouts/iteration_0001.json"]
    table = json.loads(next(folder.rglob("iteration_0001.json")).read_text())
    assert table == {"columns": list(COLUMNS), "data": records[2].rollouts}


READ_TRACKIO = """
import json, sys
import trackio
from trackio.sqlite_storage import SQLiteStorage
(run,) = trackio.Api().runs("extra-rl")
print(json.dumps([run.name, run.config, SQLiteStorage.get_logs("extra-rl", run.name)], default=str))
"""


@needs("trackio")
def test_trackio(mini_run: Run, tmp_path: Path) -> None:
    place, records = logged(mini_run, tmp_path / "run", "trackio")
    environment = {**os.environ, "TRACKIO_DIR": str(place.results / "tracking" / "trackio")}
    command = [sys.executable, "-c", READ_TRACKIO]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    name, config, logs = json.loads(done.stdout.splitlines()[-1])
    assert name == "mini/extra/s0"
    assert config["_Group"] == "mini"
    assert config["sections"] == {"update": {"learning_rate": 0.5}}
    assert [row["step"] for row in logs] == [-1, 0, 1, 2, 2]
    for row, record in zip(logs, records, strict=True):
        assert close({k: v for k, v in row.items() if k in record.metrics}, record.metrics)
        cells = [list(cells.values()) for cells in row.get("rollouts", {}).get("_value", [])]
        assert [[html.unescape(c) if isinstance(c, str) else c for c in line] for line in cells] == record.rollouts


@needs("trackio")
def test_trackio_shows_markup_as_text(tmp_path: Path) -> None:
    """It puts cells into its page as HTML."""
    from extra_rl.tracking.record import TrackedRun
    from extra_rl.tracking.trackers.trackio import _values

    run = TrackedRun("p", "g", "g/a/s0", "g.a.s0", "a-s0", tmp_path, {}, {})
    record = Record("iteration", 0, 0.0, "x", {}, [["a", "fresh", "p", "<script>1</script>", "right", 1.0, 0.0]])
    row = _values(run, record)["rollouts"]["_value"][0]
    assert row["response"] == "&lt;script&gt;1&lt;/script&gt;"


def test_a_removed_session_of_wandb_does_not_come_back(mini_run: Run, tmp_path: Path) -> None:
    """`wandb clean` removes what it has uploaded."""
    pytest.importorskip("wandb", reason="wandb is not installed")
    run = copy_of(mini_run, tmp_path / "run")
    place = Place(run, to=["wandb"], rollouts=0)
    place.job(0)
    folder = run.results / "tracking" / "wandb" / "wandb"
    (session,) = folder.glob("offline-run-*")
    shutil.rmtree(session)
    place.job(1)
    (session,) = folder.glob("offline-run-*")
    history = [m for m in wandb_messages(next(session.glob("*.wandb"))) if m.HasField("history")]
    assert [message.history.step.num for message in history] == [2]
