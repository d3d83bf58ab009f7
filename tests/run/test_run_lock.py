"""The lock of a results folder: one holder, whom the error names, and release by the kernel."""

import errno
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from extra_rl.errors import InputError
from extra_rl.run import lock as run_lock

HOLD = """
import sys, time
from pathlib import Path
from extra_rl.run import lock as run_lock
run_lock.hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_one_holder_until_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "tiny"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=rf"tiny is being written by another run \(process {holder.pid} on "):
        run_lock.hold(folder)
    run_lock.hold(tmp_path / "results" / "other")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    run_lock.hold(folder)
    with pytest.raises(InputError, match="another run"):
        run_lock.hold(folder)


def refuse(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(run_lock.fcntl, "flock", flock)


@pytest.mark.parametrize("code", run_lock.REFUSED)
def test_a_file_system_without_locks_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.delenv(run_lock.UNLOCKED_VARIABLE, raising=False)
    refuse(monkeypatch, code)
    with pytest.raises(InputError, match=r"\.lock: its file system refuses locks .* or set EXTRA_NO_LOCK=1"):
        run_lock.hold(tmp_path)
    monkeypatch.setenv(run_lock.UNLOCKED_VARIABLE, "1")
    run_lock.release(run_lock.hold(tmp_path))


def test_other_errors_of_flock_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.EBADF)
    with pytest.raises(OSError, match="Bad file descriptor"):
        run_lock.hold(tmp_path)


def test_a_process_of_another_machine_that_did_not_note_its_end_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock, since = tmp_path / run_lock.LOCK_NAME, "since 2026-11-27 04:00:00"
    lock.write_text(f"process 12 on other-host, {since}\n")
    run_lock.release(run_lock.hold(tmp_path))
    said = capsys.readouterr().err
    assert "was process 12 on other-host (since 2026-11-27 04:00:00), which has not noted its end." in said
    assert "`ssh other-host ps -p 12`" in said
    for text in (
        f"process 12 on other-host, {since}, ended later",
        f"process 12 on {platform.node()}, {since}",
        "",
        "x",
    ):
        lock.write_text(text)
        run_lock.release(run_lock.hold(tmp_path))
        assert capsys.readouterr().err == "", text


ENDS = "import sys; from pathlib import Path; from extra_rl.run import lock; lock.hold(Path(sys.argv[1]))"


def test_a_process_that_ends_in_order_notes_it(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", ENDS, str(tmp_path)], check=True)
    text = (tmp_path / run_lock.LOCK_NAME).read_text()
    assert text.startswith("process ")
    assert ", ended " in text
    subprocess.run([sys.executable, "-c", f"{ENDS}; import os; os._exit(0)", str(tmp_path)], check=True)
    assert ", ended " not in (tmp_path / run_lock.LOCK_NAME).read_text()


MOUNTS = """\
22 1 0:20 / / rw,relatime - ext4 /dev/vda rw
30 22 0:31 / /nfs rw,relatime - nfs server:/export rw,vers=3,{nfs}
31 30 0:32 / /nfs/with\\040space rw - lustre mds@tcp:/scratch rw,{lustre}
"""


@pytest.mark.parametrize(
    ("folder", "nfs", "lustre", "said"),
    [
        ("/nfs/results", "nolock", "flock", "on nfs with the mount option nolock"),
        ("/nfs/results", "local_lock=none", "localflock", ""),
        ("/nfs/with space/results", "nolock", "localflock", "on lustre with the mount option localflock"),
        ("/nfs/with space/results", "nolock", "flock", ""),
        ("/results", "nolock", "localflock", ""),
    ],
)
def test_mounts_that_keep_locks_to_each_machine(tmp_path: Path, folder: str, nfs: str, lustre: str, said: str) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS.format(nfs=nfs, lustre=lustre))
    note = run_lock.note_of_local_locks(Path(folder), table)
    assert said in note
    assert bool(note) == bool(said)
    assert run_lock.note_of_local_locks(Path(folder), tmp_path / "no /proc here") == ""
