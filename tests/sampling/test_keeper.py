"""The keeper of a run's engine: its lock, and that nothing of the server outlives the run. Needs no vLLM."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from extra_rl.sampling.vllm import keeper, run_engine
from extra_rl.sampling.vllm.keeper import KEEPER_LOCK, is_locked, wait_until_free
from tests.conftest import ROOT
from tests.sampling.engines import RUN, lives, start_run, until

SERVER = "tests.sampling.sleeper"


class Kept:
    """A run with one engine, whose server is `tests.sampling.sleeper`. pids: of the server and its child."""

    def __init__(self, tmp_path: Path) -> None:
        self.run, self.folder = start_run(tmp_path)
        self.engine = self.folder / "engine-0"
        self.engine.mkdir(0o700)
        (self.engine / "views").mkdir()
        words, alive = ["--model", str(tmp_path / "pids")], self.folder / run_engine.ALIVE
        log = tmp_path / "engine-0.log"
        self.keeper = keeper.start(self.engine, alive, SERVER, words, log=log, variables={}, patience=0.2)
        until((tmp_path / "pids").exists)
        self.pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
        assert all(map(lives, self.pids))

    def has_ended(self) -> bool:
        return self.keeper.poll() is not None and not any(map(lives, self.pids))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run without engines yet, and its folder; the run ends with the test."""
    process, folder = start_run(tmp_path)
    yield process, folder
    process.communicate()  # the end of its standard input
    until(lambda: not folder.exists())


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.run.kill()
    made.run.wait()
    until(made.has_ended)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=["kill -9", "SIGTERM", "its end"])
def test_server_and_its_children_end_with_the_run(kept: Kept, how: signal.Signals | None) -> None:
    assert is_locked(kept.engine / KEEPER_LOCK)
    if how is None:
        assert kept.run.stdin
        kept.run.stdin.close()
    else:
        kept.run.send_signal(how)
    until(kept.has_ended)
    until(lambda: not kept.folder.exists())


def test_a_server_that_ends_takes_its_children_along_but_not_the_run(kept: Kept) -> None:
    os.kill(kept.pids[0], signal.SIGKILL)
    until(kept.has_ended)
    assert [path.name for path in kept.engine.iterdir()] == [KEEPER_LOCK]
    assert not is_locked(kept.engine / KEEPER_LOCK)
    assert is_locked(kept.folder / run_engine.ALIVE)


def test_a_killed_keeper_takes_the_server_along(kept: Kept) -> None:
    kept.keeper.kill()
    until(lambda: not lives(kept.pids[0]))
    os.kill(kept.pids[1], signal.SIGKILL)  # the child of a real server notices by itself that its parent has gone


def test_a_stopped_engine_leaves_an_empty_folder_and_no_keeper_that_could_still_remove_it(
    kept: Kept, tmp_path: Path
) -> None:
    run_engine.Engine(kept.engine, tmp_path / "log").stop()
    until(kept.has_ended, seconds=1)
    assert list(kept.engine.iterdir()) == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"], ids=["reused", "replaced"])
def test_a_keeper_that_is_still_starting_is_not_taken_for_dead(
    precision: str, run: tuple[subprocess.Popen[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage starts the engine and is interrupted before the keeper's first instruction; another stage takes the
    engine at this moment. It must find the keeper, reuse it or stop it, and never start a second one next to it."""
    monkeypatch.setattr(run_engine, "SERVER_MODULE", SERVER)
    _, folder = run
    first = run_engine.take(folder, tmp_path, "cpu")

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_engine.Engine, "becomes_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        first.start(tmp_path / "pids", {"dtype": "float32"}, {}, folder / run_engine.ALIVE)
    run_engine.give_back(first)
    second = run_engine.take(folder, tmp_path, "cpu")
    assert second.folder == first.folder
    monkeypatch.setattr(run_engine.Engine, "becomes_ready", lambda *_: True)
    reused = precision == "float32"
    assert second.loaded({"dtype": precision}) == ({"version": None} if reused else {})
    assert is_locked(second.folder / KEEPER_LOCK) is reused
    run_engine.give_back(second)


def test_an_engine_that_ends_while_it_is_waited_for_is_started_anew(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept.engine / "arguments.json").write_text("{}")

    def ended(engine: run_engine.Engine, lives: object) -> bool:
        return not keeper.stop(engine.folder, 30)

    monkeypatch.setattr(run_engine.Engine, "becomes_ready", ended)
    assert run_engine.Engine(kept.engine, tmp_path / "log").loaded({}) == {}
    assert list(kept.engine.iterdir()) == []


def test_a_removed_lock_is_free_only_once_its_holder_has_let_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("wb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert is_locked(path)
        assert not wait_until_free(path, 0.1)
    assert wait_until_free(path, 0.0)
    path.unlink()
    assert not is_locked(path)


def test_a_folder_is_found_as_long_as_its_run_lives(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_engine.find_folder() is None
    monkeypatch.setenv(run_engine.FOLDER_VARIABLE, str(kept.folder))
    assert run_engine.find_folder() == kept.folder
    assert kept.folder.stat().st_mode & 0o777 == 0o700
    kept.run.kill()
    kept.run.wait()
    assert run_engine.find_folder() is None


def test_folders_of_killed_runs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in use stay, and those that are being made: they have no lock yet, and another name."""
    monkeypatch.setattr(run_engine, "PLACE", tmp_path)
    new = f"{run_engine.NEW}{run_engine.PREFIX}"
    folders = {name: tmp_path / f"{run_engine.PREFIX}{name}" for name in ("killed", "held", "engine")}
    folders |= {name: tmp_path / f"{new}{name}" for name in ("being-made", "killed-while-made")}
    for name, folder in folders.items():
        (folder / "engine-0").mkdir(parents=True)
        (folder / run_engine.ALIVE).touch()
        (folder / "engine-0" / KEEPER_LOCK).touch()
        os.utime(folder, (time.time() - (0 if name == "being-made" else 120),) * 2)
    with (
        (folders["held"] / run_engine.ALIVE).open() as held,
        (folders["engine"] / "engine-0" / KEEPER_LOCK).open() as keeper,
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        fcntl.flock(keeper, fcntl.LOCK_EX)
        run_engine._remove_abandoned()
    assert {name for name, folder in folders.items() if folder.exists()} == {"held", "engine", "being-made"}


def test_a_run_without_engines_leaves_no_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, input="", capture_output=True, text=True, check=True
    )
    assert not Path(done.stdout.strip()).exists()


@pytest.mark.parametrize(
    ("change", "satisfied"),
    [({}, True), ({"max_model_len": 512}, True), ({"max_model_len": 2048}, False), ({"dtype": "bfloat16"}, False)],
)
def test_an_engine_satisfies_equal_arguments_and_shorter_contexts(change: dict[str, object], satisfied: bool) -> None:
    running = {"dtype": "float32", "max_model_len": 1024, "seed": 0}
    assert run_engine._satisfies(running, {**running, **change}) is satisfied
