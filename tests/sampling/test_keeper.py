"""The keeper of a run's engine: nothing of the server outlives the run, however that ends. Needs no vLLM."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from extra_rl.sampling.vllm import run_engine
from tests.conftest import ROOT
from tests.sampling.engines import RUN, lives, start_run, until


class Kept:
    """A run with one engine, whose server is `tests.sampling.sleeper`."""

    def __init__(self, tmp_path: Path) -> None:
        self.run, self.folder = start_run(tmp_path)
        self.engine = self.folder / "engine-0"
        self.engine.mkdir(0o700)
        command = [
            sys.executable,
            "-m",
            "extra_rl.sampling.vllm.keeper",
            "--alive",
            str(self.folder / run_engine.ALIVE),
        ]
        command += [
            "--folder",
            str(self.engine),
            "--patience",
            "0.2",
            "--module",
            "tests.sampling.sleeper",
            "--",
            str(tmp_path / "pids"),
        ]
        self.keeper = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        until((tmp_path / "pids").exists)
        self.pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
        assert all(map(lives, self.pids))

    def is_gone(self) -> bool:
        return self.keeper.poll() is not None and not any(map(lives, self.pids))


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=["kill -9", "SIGTERM", "its end"])
def test_server_and_its_children_end_with_the_run(kept: Kept, how: signal.Signals | None) -> None:
    assert run_engine._is_locked(kept.engine / "keeper.lock")
    if how is None:
        assert kept.run.stdin
        kept.run.stdin.close()
    else:
        kept.run.send_signal(how)
    until(kept.is_gone)
    until(lambda: not kept.folder.exists())
    kept.run.wait()


def test_a_server_that_ends_takes_its_children_along_but_not_the_run(kept: Kept) -> None:
    os.kill(kept.pids[0], signal.SIGKILL)
    until(kept.is_gone)
    assert not kept.engine.exists()
    assert kept.folder.exists()
    kept.run.kill()
    kept.run.wait()


def test_a_killed_keeper_takes_the_server_along(kept: Kept) -> None:
    kept.keeper.kill()
    until(lambda: not lives(kept.pids[0]))
    kept.run.kill()
    kept.run.wait()
    os.kill(kept.pids[1], signal.SIGKILL)  # the child of a real server notices by itself that its parent has gone


def test_an_engine_is_stopped_on_request(kept: Kept, tmp_path: Path) -> None:
    run_engine.Engine(kept.engine, tmp_path / "log").stop()
    until(kept.is_gone)
    assert list(kept.engine.iterdir()) == []
    kept.run.kill()
    kept.run.wait()


def test_a_folder_is_found_as_long_as_its_run_lives(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_engine.find_folder() is None
    monkeypatch.setenv(run_engine.FOLDER_VARIABLE, str(kept.folder))
    assert run_engine.find_folder() == kept.folder
    assert kept.folder.stat().st_mode & 0o777 == 0o700
    kept.run.kill()
    kept.run.wait()
    assert run_engine.find_folder() is None
    until(kept.is_gone)


def test_folders_of_killed_runs_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_engine, "PLACE", tmp_path)
    for name, age in (("old", 120), ("new", 0), ("held", 120)):
        folder = tmp_path / f"{run_engine.PREFIX}{name}"
        folder.mkdir()
        (folder / run_engine.ALIVE).touch()
        os.utime(folder, (time.time() - age,) * 2)
    with (tmp_path / f"{run_engine.PREFIX}held" / run_engine.ALIVE).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        run_engine._remove_abandoned()
    assert {path.name.removeprefix(run_engine.PREFIX) for path in tmp_path.iterdir()} == {"new", "held"}


def test_a_run_without_engines_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, input="", capture_output=True, text=True, check=True
    )
    assert not Path(done.stdout.strip()).exists()


@pytest.mark.parametrize(
    ("change", "will_do"),
    [({}, True), ({"max_model_len": 512}, True), ({"max_model_len": 2048}, False), ({"dtype": "bfloat16"}, False)],
)
def test_what_an_engine_will_do_for(change: dict[str, object], will_do: bool) -> None:
    running = {"dtype": "float32", "max_model_len": 1024, "seed": 0}
    assert run_engine._will_do(running, {**running, **change}) is will_do
