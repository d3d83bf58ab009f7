"""Temporary folders of a killed process go with the next claim; those of living processes and of others stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from extra_rl.run.claim import CLAIM, OLD_SECONDS, claim
from tests.conftest import ROOT

OWNER = "import sys; from pathlib import Path; from extra_rl.run.claim import claim\n"
OWNER += "print(claim(Path(sys.argv[1]), 'own*'), flush=True); input()"


def folder(path: Path) -> Path:
    path.mkdir()
    (path / "file").touch()
    return path


def test_a_claimed_folder_goes_once_its_owner_was_killed(tmp_path: Path) -> None:
    theirs, mine, later = (folder(tmp_path / f"own-{name}") for name in ("theirs", "mine", "later"))
    unclaimed, other = folder(tmp_path / "own-unclaimed"), folder(tmp_path / "other")
    (other / CLAIM).touch()
    command = [sys.executable, "-c", OWNER, str(theirs)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "[]\n"
        assert claim(mine, "own*") == []
        assert theirs.is_dir()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert claim(later, "own*") == [theirs]
    assert set(tmp_path.iterdir()) == {mine, later, unclaimed, other}
    assert [path.name for path in mine.iterdir() if path.name.startswith(CLAIM)] == [CLAIM]


def test_empty_folders_that_nobody_claimed_go_when_they_are_old(tmp_path: Path) -> None:
    names = ("own-old", "own-full", "own-new", "other")
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "own-full" / "file").touch()
    for name in set(names) - {"own-new"}:
        os.utime(tmp_path / name, (time.time() - 2 * OLD_SECONDS,) * 2)
    mine = folder(tmp_path / "own-mine")
    assert claim(mine, "own*") == [tmp_path / "own-old"]
    assert {path.name for path in tmp_path.iterdir()} == {"own-full", "own-new", "own-mine", "other"}


def test_where_nothing_can_be_locked_nothing_is_claimed(tmp_path: Path) -> None:
    assert claim(tmp_path / "missing" / "own", "own*") == []
