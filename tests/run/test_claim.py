"""Temporary folders of a killed process go with the next claim; those of living processes and of others stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from extra_rl.run.claim import CLAIM, OLD_SECONDS, claim, may_be_in_use
from tests.conftest import ROOT

OWNER = "import sys; from pathlib import Path; from extra_rl.run.claim import claim\n"
OWNER += "print(claim(Path(sys.argv[1]), 'own*'), flush=True); input()"


def folder(path: Path) -> Path:
    path.mkdir()
    (path / "file").touch()
    return path


def test_a_claimed_folder_goes_once_its_owner_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, other = folder(tmp_path / "own-theirs"), folder(tmp_path / "other")
    monkeypatch.setattr("extra_rl.run.claim.may_be_in_use", lambda folder, changed: True)
    (other / CLAIM).touch()
    command = [sys.executable, "-c", OWNER, str(theirs)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "[]\n"
        mine, later, unclaimed = (folder(tmp_path / f"own-{name}") for name in ("mine", "later", "unclaimed"))
        assert claim(mine, "own*") == []
        assert theirs.is_dir()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert claim(later, "own*") == [theirs]
    assert set(tmp_path.iterdir()) == {mine, later, unclaimed, other}
    assert [path.name for path in mine.iterdir() if path.name.startswith(CLAIM)] == [CLAIM]


def test_a_folder_that_nobody_claimed_goes_once_no_living_process_can_have_made_it(tmp_path: Path) -> None:
    """The maker has its temporary folders there, and was killed before it claimed this one."""
    unclaimed = folder(tmp_path / "own-unclaimed")
    command = [sys.executable, "-c", "print(flush=True); input()"]
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=variables, **pipes) as maker:
        assert maker.stdout
        maker.stdout.readline()
        (unclaimed / "file").unlink()  # changed after the process began
        assert claim(folder(tmp_path / "own-mine"), "own*") == []
        os.utime(unclaimed, (time.time() - 600,) * 2)  # before it began
        assert not may_be_in_use(unclaimed, unclaimed.stat().st_mtime)
        os.utime(unclaimed, (time.time() + 1,) * 2)
        assert may_be_in_use(unclaimed, unclaimed.stat().st_mtime)
        maker.kill()
        maker.wait()
    assert claim(folder(tmp_path / "own-later"), "own*") == [unclaimed]


def test_on_a_network_file_system_another_machine_may_use_it(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("1 0 0:1 / / rw,relatime shared:1 - nfs4 server:/home rw,vers=4.2\n")
    assert may_be_in_use(tmp_path, 0.0, table)
    table.write_text("1 0 0:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n")
    assert not may_be_in_use(tmp_path, 0.0, table)


def test_empty_folders_that_nobody_claimed_go_when_they_are_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extra_rl.run.claim.may_be_in_use", lambda folder, changed: True)
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
