"""A disk that takes no more: one message with the file and what to do, no temporary file, the previous file whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from extra_rl.errors import DISK_FAULTS, InputError, disk_fault
from extra_rl.run import lock
from extra_rl.run.progress import Console
from extra_rl.tables.files import write_whole
from stages import command
from tests.conftest import ROOT


@pytest.mark.parametrize("code", sorted(DISK_FAULTS))
def test_each_fault_names_the_file_and_a_way_out(code: int) -> None:
    fault = disk_fault(OSError(code, os.strerror(code)), Path("results/tiny/x.parquet"))
    assert isinstance(fault, InputError)
    assert str(fault).startswith(f"results/tiny/x.parquet: cannot be written ({os.strerror(code)}). ")
    assert str(fault).endswith("run again: what is finished is kept, and the run goes on from there.")


def test_other_errors_of_the_system_are_none() -> None:
    assert disk_fault(FileNotFoundError(errno.ENOENT, "no such file")) is None
    assert disk_fault(OSError("without a number")) is None


def failing(code: int) -> Callable[[Path], None]:
    def write(tmp: Path) -> None:
        tmp.write_text("half of the")
        raise OSError(code, os.strerror(code))

    return write


def test_a_full_disk_leaves_the_previous_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_text("previous")
    with pytest.raises(InputError, match=r"table\.parquet: cannot be written .*The disk is full: make room"):
        write_whole(path, failing(errno.ENOSPC))
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("table.parquet", "previous")]


WRITER = """
import resource, sys
from pathlib import Path
import polars as pl
from extra_rl.errors import ExtraError
from extra_rl.tables import contracts, write_table
from tests.run.small_run import TABLE
rows = TABLE.sample(60_000, with_replacement=True)
rows = rows.with_columns(rollout_id=pl.format("extra/s0/i0/0/{}", pl.int_range(pl.len())))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_table(rows, Path(sys.argv[1]), contracts.Verdicts, {})
except ExtraError as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_a_write_that_the_kernel_cuts_short_is_one_message(tmp_path: Path) -> None:
    """A real fault of the system in the middle of a file: the limit of a process on the size of its files."""
    path = tmp_path / "generate.parquet"
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"InputError: {path}: cannot be written (File too large). ")
    assert list(tmp_path.iterdir()) == []


def test_a_results_folder_that_cannot_be_written_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **named: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path))

    monkeypatch.setattr(lock.os, "open", refused)
    with pytest.raises(InputError, match=r"\.lock: cannot be written \(Permission denied\)\. Correct the permissions"):
        lock.hold(tmp_path)
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Name another folder"):
        lock.hold(tmp_path / "file" / "results")


def test_a_log_that_cannot_take_the_error_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(tmp_path / "log")

    class Full:
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        close = flush = lambda self: self.write("")

    monkeypatch.setattr(console, "_handle", Full())
    with pytest.raises(InputError, match="the stage's own"), console:
        raise InputError("the stage's own")


def test_a_stage_on_a_full_disk_says_so_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plan(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/part")

    monkeypatch.setattr(command, "plan", plan)
    assert command.main(["verify"]) == 2
    assert capsys.readouterr().err.startswith("verify: InputError: /tmp/part: cannot be written (No space left")
