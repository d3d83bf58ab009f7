"""Worker folders under /tmp: those of dead processes go at the next start, those in use and those of others stay."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from extra_rl.worker.leftovers import NEW, PREFIX, YOUNG_SECONDS, make_folder, remove_abandoned

OWNER = "import sys; from pathlib import Path; from extra_rl.worker.leftovers import make_folder\n"
OWNER += "print(make_folder(Path(sys.argv[1])), flush=True); input()"


def age(folder: Path) -> None:
    old = folder.stat().st_mtime - 2 * YOUNG_SECONDS
    os.utime(folder, (old, old))


def test_a_folder_goes_once_its_owner_was_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    folder = Path(owner.stdout.readline().strip())
    (folder / "socket").touch()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert remove_abandoned(tmp_path) == []
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    mine = make_folder(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


def test_a_folder_in_which_a_worker_listens_stays() -> None:
    """A worker of an earlier version holds no lock. The path of a socket may have 107 bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        folder = Path(place) / f"{PREFIX}old"
        folder.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(folder / "socket"))
            listener.listen()
            assert remove_abandoned(Path(place)) == []
        assert remove_abandoned(Path(place)) == [folder]


def test_folders_that_are_being_made_and_other_names_stay(tmp_path: Path) -> None:
    new, other = tmp_path / f"{NEW}{PREFIX}abc", tmp_path / "something-else"
    new.mkdir()
    other.mkdir()
    age(other)
    assert remove_abandoned(tmp_path) == []
    age(new)
    assert remove_abandoned(tmp_path) == [new]
    assert other.is_dir()
