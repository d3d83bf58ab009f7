"""A cold command of a run ends when the run is killed, and one that finds its run dead does not begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from extra_rl.worker import tether
from tests.conftest import ROOT

# The run: it starts the command as Snakemake does, by a shell, and names itself in the environment.
RUN = """
import os, subprocess, sys
from extra_rl.worker import tether
os.environ[tether.RUN_VARIABLE] = tether.this_process()
subprocess.Popen(["bash", "-c", f'{sys.executable} -c "$COMMAND"; true'])
input()
"""
COMMAND = """
import os, subprocess, sys, time
from extra_rl.worker import tether
tether.end_with(os.environ[tether.RUN_VARIABLE])
own = subprocess.Popen(["sleep", "600"])
apart = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(os.getpid(), own.pid, apart.pid, flush=True)
time.sleep(600)
"""


def lives(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_command_and_what_it_started_end_with_the_run() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"COMMAND": COMMAND},
    ) as run:
        assert run.stdout
        command, own, apart = map(int, run.stdout.readline().split())
        try:
            assert all(map(lives, (command, own, apart)))
            run.send_signal(signal.SIGKILL)
            deadline = time.monotonic() + 10
            while (lives(command) or lives(own)) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not any(map(lives, (command, own)))
            assert lives(apart)  # an engine has its own way to end in order
        finally:
            os.kill(apart, signal.SIGKILL)


def test_a_command_does_not_begin_once_its_run_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    process = subprocess.Popen(["sleep", "600"])
    number, start, namespace = tether.this_process().split(" ", 2)
    named = f"{process.pid} {tether._start_of(process.pid)} {namespace}"
    process.kill()
    process.wait()
    with pytest.raises(SystemExit) as ended:
        tether.end_with(named)
    assert ended.value.code == tether.ENDED
    assert capsys.readouterr().err.startswith(f"extra: the run that started this command (process {process.pid}) has")
    with pytest.raises(SystemExit):
        tether.end_with(f"{number} {int(start) + 1} {namespace}")  # another process has the number now


@pytest.mark.parametrize("named", [None, "", "1 0 another-machine pid:[1]"])
def test_outside_of_a_run_and_on_another_machine_nothing_is_watched(named: str | None) -> None:
    tether.end_with(named)
