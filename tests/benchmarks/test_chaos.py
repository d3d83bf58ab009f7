"""benchmarks/chaos.py: which processes a kill hits, what counts as left behind or different, and the figures."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import chaos, chaos_processes, chaos_run
from benchmarks.chaos_processes import MARK, deliver, hit_by, marked, survivors
from benchmarks.chaos_run import ChaosRun, Delivered, Outcome, differences, draw


@dataclass
class Fake:
    pid: int
    parent: int
    words: list[str]

    def cmdline(self) -> list[str]:
        return self.words

    def ppid(self) -> int:
        return self.parent


SNAKEMAKE: Any = Fake(1, 0, ["python", "snakemake"])
SHELL = Fake(2, 1, ["/bin/bash", "-c", "set -euo pipefail; python -m stages --job {}"])
CLIENT = Fake(3, 2, ["python", "-m", "stages", "--job", "{}"])
WORKER = Fake(4, 1, ["python3", "-m", "extra_rl.worker", "--socket", "/tmp/x"])
JOB = Fake(5, 4, WORKER.words)
SERVER = Fake(6, 7, ["python", "-m", "extra_rl.sampling.vllm.keeper"])


@pytest.mark.parametrize(
    ("target", "pids"),
    [
        ("snakemake", [1]),
        ("group", [1, 2, 3]),
        ("worker", [4]),
        ("job", [5]),
        ("client", [3]),
        ("engine", [6]),
        ("everything", [1, 2, 3, 4, 5, 6]),
    ],
)
def test_what_a_kill_hits(monkeypatch: pytest.MonkeyPatch, target: str, pids: list[int]) -> None:
    monkeypatch.setattr(chaos_processes, "group_of", lambda process: 1 if process.pid <= 3 else process.pid)
    family: Any = [SHELL, CLIENT, WORKER, JOB, SERVER]
    assert [process.pid for process in hit_by(target, SNAKEMAKE, family)] == pids


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[psutil.Process]:
    with subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: str(tmp_path)}) as process:
        yield psutil.Process(process.pid)
        process.kill()


def test_a_kill_hits_only_what_lives(sleeper: psutil.Process, tmp_path: Path) -> None:
    assert marked(str(tmp_path)) == [sleeper]
    assert marked(str(tmp_path / "other")) == []
    assert survivors([sleeper], 0.0) == [sleeper]
    assert deliver([sleeper], signal.SIGKILL)
    assert survivors([sleeper], 5.0) == []
    assert not deliver([sleeper], signal.SIGKILL)


def test_the_kills_of_a_run_follow_from_the_seed() -> None:
    kills = [draw(random.Random(f"0 {number}"), chaos_processes.TARGETS, 16) for number in range(40)]
    assert kills == [draw(random.Random(f"0 {number}"), chaos_processes.TARGETS, 16) for number in range(40)]
    drawn = {(kill.signal, kill.target) for run in kills for kill in run}
    assert drawn == {(how, target) for how in chaos_run.SIGNALS for target in chaos_processes.TARGETS}
    assert {len(run) for run in kills} <= set(range(1, 17))


def results(folder: Path) -> Path:
    place = folder / "results" / chaos_run.NAME
    (place / "logs").mkdir(parents=True)
    (place / "table.parquet").write_text("table")
    (place / "logs" / "x.log").write_text(str(folder))
    (place / "metrics.jsonl").write_text("")
    return place


def test_differences_are_bytes_names_and_records_that_came_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, found = results(tmp_path / "expected"), results(tmp_path / "found")
    assert differences(expected, found) == []  # a log holds times
    (found / "table.parquet").write_text("other")
    (found / ".x.tmp").touch()
    (expected / "more.parquet").touch()
    assert differences(expected, found) == ["missing: more.parquet", "left: .x.tmp", "differs: table.parquet"]
    monkeypatch.setattr(chaos_run, "read_records", lambda path: [Record("a")] * (1 + (path.parent == found)))
    assert "differs: metrics.jsonl" in differences(expected, found)


@dataclass
class Record:
    key: str


def test_what_is_left_behind_is_found(sleeper: psutil.Process, tmp_path: Path) -> None:
    run = ChaosRun(tmp_path, "plain", None, 0.0)
    results(tmp_path)
    assert [fault.split(":")[0] for fault in run._left_behind()] == ["processes left"]  # `sleeper`, which it kills
    assert survivors([sleeper], 5.0) == []
    for name in ("tmp/torchinductor_root", "cache/snakemake/source-cache"):
        (tmp_path / name).mkdir(parents=True)  # what every run leaves there
    assert run._left_behind() == []
    left = [
        *("tmp/snakemakeabc/.extra-claim", ".snakemake/incomplete/abc", ".snakemake/shell_tmp.abc"),
        *(f"results/{chaos_run.NAME}/{name}" for name in (".t.parquet.0123456789ab.tmp", "policy/.tmp8a6ZDQ")),
    ]
    for name in left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    socket = tmp_path / "extra-worker-abc" / "socket"
    socket.parent.mkdir()
    run._sockets.add(socket)
    expected = {f"left: {path}" for path in (socket, *(tmp_path / name for name in left))}
    assert set(run._left_behind()) == expected


def outcomes() -> list[Outcome]:
    def kill(how: str, target: str, hit: bool = True, end_s: float = 1.0) -> Delivered:
        return Delivered(how, target, hit=hit, end_s=end_s)

    twice = [kill("SIGKILL", "worker", end_s=4.0), kill("SIGTERM", "job")]
    return [
        Outcome("plain", [kill("SIGKILL", "worker"), kill("SIGINT", "job", hit=False)], 15.0),
        Outcome("plain", twice, 40.0, ["left: x", "differs: y"]),
        Outcome("plain", [], 10.0),
    ]


def test_the_figures_of_all_runs() -> None:
    found = chaos.totals(outcomes(), {"plain": 10.0})
    expected = {
        "runs": 3,
        "runs that were hit": 2,
        "kills drawn": 4,
        "kills that hit a living process": 3,
        "most kills of one run": 2,
        "runs that survived": 2,
        "files that differ or are missing": 1,
        "left behind": 1,
        "seconds lost per kill, median": 15.0,  # 5, and twice 30 / 2
        "seconds lost per kill, 90th percentile": 15.0,
        "undisturbed seconds": {"plain": 10.0},
    }
    assert found == expected
    rows = chaos.table(outcomes())[2:]
    assert rows == [
        "| SIGKILL | worker | 2 | 2 | 1 | 2.5 s, 4.0 s | 0 |",
        "| SIGTERM | job | 1 | 1 | 0 | 1.0 s, 1.0 s | 0 |",
        "| SIGINT | job | 1 | 0 | 0 |  | 0 |",
    ]


def test_a_run_that_did_not_survive_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command, with runs that take no time."""

    def until_finished(run: ChaosRun, kills: Any = ()) -> Outcome:
        run.outcome.seconds = 10.0
        run.outcome.kills = [Delivered(kill.signal.name, kill.target, hit=True) for kill in kills]
        run.outcome.faults = ["left: x"] if kills and bad else []
        run.outcome.outputs = ["what it printed"]
        return run.outcome

    monkeypatch.setattr(ChaosRun, "until_finished", until_finished)
    monkeypatch.setattr(chaos.tempfile, "mkdtemp", lambda prefix: str(tmp_path / prefix))
    for bad, code in ((False, 0), (True, 1)):
        written = tmp_path / f"{bad}.json"
        assert chaos.main(["--kills", "20", "--json", str(written)]) == code
        report = json.loads(written.read_text())
        assert report["totals"]["kills that hit a living process"] >= 20
        assert bool(report["runs"][0]["outputs"]) == bad
        assert (tmp_path / "chaos-").exists() == bad
