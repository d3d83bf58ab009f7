"""Frames of `extra watch` at several widths, and text that must not control the terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from extra_cli.main import main
from extra_rl.results import iteration_name
from extra_rl.watch.frame import frame
from extra_rl.watch.notes import notes_of
from extra_rl.watch.spark import ASCII, BLOCKS, sparkline
from extra_rl.watch.state import Follower
from tests.conftest import ROOT, environment
from tests.watch.folders import NOW, finish, lock, log, make

HOSTILE = "\x1b[2J\x1b]0;owned\x07 [bold]x[/bold] \u202e \r\b"


def lines(root: Path, width: int, height: int | None = None, *, plain: bool = False) -> list[str]:
    state = Follower(root).look(NOW)
    made = frame(state, notes_of(state), width, height, plain=plain)
    assert all(line.cell_len <= width for line in made)
    return [line.plain.rstrip() for line in made]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    cells = ("grpo/s0", "extra/s0")
    root = make(tmp_path / "run", cells)
    for cell in cells:
        for number in range(6):
            finish(root, cell, number, at=NOW - 60 + number, pass_rate=number / 8, mean_reward=0.5)
    log(
        root / "extra" / "s0" / iteration_name(6),
        "generate",
        "  extra/s0/i6 generate: rollouts 12/96 (12%), 3m00s left",
    )
    lock(root)
    return root


@pytest.mark.parametrize("width", [40, 60, 100, 149, 150, 200])
def test_every_width_shows_progress_and_figures_of_each_arm(root: Path, width: int) -> None:
    text = "\n".join(lines(root, width))
    for cell in ("grpo/s0", "extra/s0"):
        assert cell in text
    assert text.count("6/40") == 2
    assert text.count("62.5%") == 2  # the pass rate of the last iteration
    assert re.search("\u2581.*\u2588", text)
    if width >= 60:
        assert text.count("60% of 10,000 tokens") == 2
    assert "i6 generate" in text


def test_the_progress_of_a_stage_is_shown(root: Path) -> None:
    assert "  i6 generate: rollouts 12/96 (12%), 3m00s left" in lines(root, 60)


def test_plain_characters_only(root: Path) -> None:
    assert "\n".join(lines(root, 60, plain=True)).isascii()


def test_arms_that_do_not_fit_are_counted_and_those_that_run_are_shown(tmp_path: Path) -> None:
    cells = tuple(f"arm{n}/s0" for n in range(12))
    root = make(tmp_path / "run", cells)
    for cell in cells:
        finish(root, cell, 0)
    log(root / "arm11" / "s0" / iteration_name(1), "update")
    lock(root)
    shown = lines(root, 60, height=24)
    assert len(shown) <= 24
    assert any(line.startswith("arm11/s0") for line in shown)
    assert sum(line.startswith("arm") for line in shown) == 4
    assert any(line.startswith("and 8 more") for line in shown)
    assert sum(line.startswith("arm") for line in lines(root, 60)) == 12


def test_no_text_of_a_log_or_a_name_controls_the_terminal(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    finish(root, "grpo/s0", 0)
    log(root / "grpo" / "s0" / iteration_name(1), "generate", f"  {HOSTILE}")
    log(root / "grpo" / "s0" / iteration_name(1), "update", f"ValueError: {HOSTILE}")
    evil = f"evil\x1b[31m{chr(0x202E)}"
    (root / evil / "s0" / iteration_name(0)).mkdir(parents=True)
    (root / "context.json").unlink()
    lock(root)
    for width in (60, 200):
        text = "\n".join(lines(root, width))
        assert not set(text) & set("\x1b\x07\r\b\u202e")
        assert "\\u{1b}" in text
        assert "[bold]" in text  # no markup is read


def test_a_folder_that_does_not_exist_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny").mkdir()
    (text,) = lines(tmp_path / "tinny", 400)
    assert text.startswith("waiting for ")
    assert text.endswith("Folders in " + f"{tmp_path}: tiny.")
    assert main(["watch", str(tmp_path / "tinny"), "--once"]) == 2
    assert "no such folder yet" in capsys.readouterr().err


def test_one_frame_without_a_terminal(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    assert main(["watch", str(root)]) == 0
    out = capsys.readouterr().out
    assert "12/80 iterations, 60% of the budget (20,000 tokens)" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("value", ["0", "-1", "nan", "x"])
def test_a_time_between_looks_is_positive(root: Path, value: str) -> None:
    with pytest.raises(SystemExit):
        main(["watch", str(root), "--every", value])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_terminal_shows_frames_until_it_is_interrupted(root: Path, number: int, code: int) -> None:
    """In a real pseudo-terminal: a second frame shows what has finished meanwhile, and the screen is given back."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "extra_cli.main", "watch", str(root), "--every", "0.2"]
    env = environment() | {"TERM": "xterm", "COLUMNS": "80", "LINES": "30", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=follower, stderr=follower, stdin=follower, env=env, start_new_session=True
    )
    os.close(follower)
    seen = read_until(leader, "6/40")
    finish(root, "grpo/s0", 6)
    seen += read_until(leader, "7/40")
    process.send_signal(number)
    seen += read_until(leader, None)
    assert process.wait(timeout=30) == code
    assert "Traceback" not in seen
    assert seen.count("\x1b[?1049h") == seen.count("\x1b[?1049l") == 1


def read_until(leader: int, text: str | None) -> str:
    """Read from a terminal until a text appears, or until its end."""
    found, end = "", time.monotonic() + 60
    while time.monotonic() < end:
        try:
            part = os.read(leader, 65536)
        except OSError:  # its other end is closed
            break
        found += part.decode(errors="replace")
        if not part or (text is not None and text in found):
            return found
    assert text is None, f"{text} did not appear: {found}"
    return found


def test_sparklines() -> None:
    assert sparkline([0.0, 0.5, 1.0], 8) == BLOCKS[0] + BLOCKS[4] + BLOCKS[7]
    assert sparkline([1.0, None, float("nan"), 1.0], 8) == BLOCKS[7] + "  " + BLOCKS[7]
    assert sparkline([0.0, 0.0], 8) == BLOCKS[0] * 2
    assert sparkline([], 8) == ""
    assert sparkline([0, 2, 2, 2], 2, ASCII) == ASCII[4] + ASCII[7]  # means of halves: 1 and 2
    assert len(sparkline([1.0] * 500, 20)) == 20


def test_an_advice_is_given_once(tmp_path: Path) -> None:
    cells = ("grpo/s0", "extra/s0")
    root = make(tmp_path / "run", cells)
    for cell in cells:
        finish(root, cell, 0, rollouts=40, truncated=30)
    text = " ".join(lines(root, 400))
    assert text.count("75% of the rollouts were cut off") == 2
    assert text.count("Raise sampling.max_response_tokens") == 1
