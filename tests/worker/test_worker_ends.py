"""How jobs, clients and the worker end: by a signal, with their parent, or in the middle of an import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from extra_rl.worker import client
from extra_rl.worker.launch import LOG_NAME, Worker, start
from tests.worker.jobs import NEVER_COLD, PROJECT, ROOM, alive, gone, nap, outcome, wait_until


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_job_dies_with_its_client(worker: Worker, tmp_path: Path, how: signal.Signals) -> None:
    process, pids = nap(tmp_path / "pids")
    process.send_signal(how)
    process.communicate(timeout=5)
    assert gone(*pids)
    assert outcome("say", "x")[0] == 7


def test_interrupted_client_returns_only_after_its_job_has_ended(worker: Worker, tmp_path: Path) -> None:
    process, pids = nap(tmp_path / "pids")
    worker.process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    worker.process.send_signal(signal.SIGCONT)
    assert process.wait(5) == client.INTERRUPTED
    assert not alive(pids[0])
    assert process.communicate() == ("", "")


def test_an_interrupted_job_ends_without_a_traceback(worker: Worker, tmp_path: Path) -> None:
    process, pids = nap(tmp_path / "pids")
    os.kill(pids[0], signal.SIGINT)
    assert process.wait(30) == client.INTERRUPTED
    os.killpg(pids[0], signal.SIGKILL)  # what the job had started, which holds its output open
    assert gone(*pids)
    assert "Traceback" not in process.communicate()[1]


def test_job_killed_by_a_signal(worker: Worker, tmp_path: Path) -> None:
    assert outcome("nap", str(tmp_path / "pids"), "SIGSEGV")[0] == 128 + signal.SIGSEGV
    assert gone(*map(int, (tmp_path / "pids").read_text().split()))


@pytest.mark.parametrize("how", ["exit", "SIGINT", "SIGTERM", "SIGKILL"])
def test_worker_and_jobs_die_with_the_parent(tmp_path: Path, how: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, str(ROOM / "parent.py"), "exit" if how == "exit" else "wait"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    worker_pid, path, client_pid = parent.stdout.readline().split()
    pids = [int(pid) for pid in (worker_pid, *(tmp_path / "pids").read_text().split())]
    if how != "exit":
        os.kill(int(client_pid), signal.SIGSTOP)  # it would help to kill
        assert all(map(alive, pids))
        parent.send_signal(getattr(signal, how))
    assert gone(*pids)
    if how != "exit":
        os.kill(int(client_pid), signal.SIGKILL)
    parent.communicate(timeout=10)
    assert not Path(path).parent.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_fails_its_jobs_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    worker = start(tmp_path, preload=[], restarts=0)
    process, pids = nap(tmp_path / "pids")
    worker.process.send_signal(how)
    output, errors = process.communicate(timeout=5)
    assert (process.returncode, output) == (1, "")
    assert errors == "extra: the warm worker ended while probe was running; run the command again\n"
    assert gone(*pids)
    assert outcome("say", "x")[0] == NEVER_COLD
    worker.stop()
    assert not worker.socket.parent.exists()
    assert client.SOCKET_VARIABLE not in os.environ


def test_a_worker_that_is_killed_between_jobs_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    worker = start(tmp_path, preload=[], restarts=1)
    dead = worker.process
    dead.kill()
    assert wait_until(lambda: worker.process is not dead)
    assert worker.listens()
    assert outcome("say", "x")[0] == 7
    worker.process.kill()
    said: list[str] = []  # pieces: a line and its end are written one after the other
    assert wait_until(lambda: said.append(capfd.readouterr().err) or "".join(said).count("\n") == 2)
    assert outcome("say", "x")[0] == NEVER_COLD
    worker.stop()
    assert not worker.socket.parent.exists()
    assert "".join(said).splitlines() == [
        "extra: the warm worker ended (SIGKILL); a new one is started",
        f"extra: the warm worker ended (SIGKILL); stages run cold from here; see {tmp_path / LOG_NAME}",
    ]


def test_a_job_dies_even_if_worker_and_client_are_killed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    worker = start(tmp_path, preload=[], restarts=0)
    process, pids = nap(tmp_path / "pids")
    worker.process.send_signal(signal.SIGSTOP)  # or it would see the client go
    process.kill()
    process.wait()
    worker.process.kill()
    assert gone(pids[0])
    os.killpg(pids[0], signal.SIGKILL)  # its child survives this one case, in the job's group
    assert gone(*pids)
    process.communicate()
    worker.stop()


@pytest.mark.parametrize("how", ["the parent ends", "SIGTERM"])
def test_a_worker_ends_in_the_middle_of_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "endless_module.py").write_text(f"import time; open({str(begun)!r}, 'w').close(); time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    worker = start(tmp_path, preload=["endless_module"], restarts=0)
    assert wait_until(begun.exists)
    begin = time.monotonic()
    if how == "SIGTERM":
        worker.process.terminate()
        worker.process.wait(5)
        assert not worker.socket.exists()
    worker.stop()  # it kills a worker that does not end by itself within STOP_SECONDS
    assert time.monotonic() - begin < 5
    assert worker.process.returncode == 0
    assert not worker.socket.parent.exists()
