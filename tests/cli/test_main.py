"""The command `extra`: show, doctor, progress, errors and the generated reference."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from extra_cli import doctor
from extra_cli.main import COMMANDS, main
from extra_rl.run.progress import Console, Progress, duration
from stages.reference import page
from tests.conftest import ROOT, Run


def test_show_lists_every_iteration_and_the_comparison(mini_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(mini_run.results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines[:6]] == ["extra/s0:"] * 3 + ["grpo/s0:"] * 3
    assert [line.split()[0] for line in lines[-3:]] == ["warm_start", "grpo", "extra"]
    assert "pass@4" in lines[-1]


def test_without_a_command_the_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed = capsys.readouterr()
    assert printed.err == ""
    for command in COMMANDS:
        assert re.search(rf"\n    {command}\s", printed.out)
    assert "extra COMMAND --help" in printed.out


def test_a_reader_that_has_read_enough_is_no_error(mini_run: Run) -> None:
    show = [sys.executable, "-m", "extra_cli.main", "show", str(mini_run.results)]
    done = subprocess.run(["bash", "-c", f"{shlex.join(show)} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True)
    assert (done.stdout, done.stderr) == (b"0\n", b"")


def test_show_of_nothing_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tmp_path)]) == 2
    assert "no finished iteration" in capsys.readouterr().err


def test_doctor_names_versions_and_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("polars", "no-such-package"))
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "polars 2." in said
    assert "no-such-package is MISSING" in said


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (185, "3m05s"), (3725, "1h02m")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_reports_units_done_and_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Console(tmp_path / "log") as console:
        progress = Progress(console, 4, "step", interval=0.0)
        progress.update(1, loss=0.125)
        Progress(console, 4, "silent", interval=60.0).update(1)
    printed = capsys.readouterr().out
    assert printed.startswith("  step 1/4 (25%), loss 0.125, ")
    assert "silent" not in printed
    assert (tmp_path / "log").read_text() == printed


def test_the_reference_is_up_to_date() -> None:
    assert (ROOT / "config" / "README.md").read_text() == page(), "run: python -m stages.reference > config/README.md"
