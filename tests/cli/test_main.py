"""The command `extra`, the lines that a run says, and the generated reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from extra_cli import doctor
from extra_cli.main import main
from extra_rl.report.summary_line import Horizon, summary_line
from extra_rl.run.progress import Console, Progress, duration
from stages.reference import page
from stages.terminal import is_noise
from tests.conftest import ROOT, Run

ROW = {
    "arm": "extra",
    "seed": 0,
    "iteration": 2,
    "rollouts": 48,
    "compute": 1e9,
    "mismatch_mean": None,
    "mismatch_max_ratio": None,
    "total_compute": 3e9,
    "mean_reward": 0.25,
    "pass_rate": 0.25,
    "all_incorrect": 3,
    "mixed": 2,
    "all_correct": 1,
    "mean_entropy": 0.5,
    "mean_length": 31.25,
    "truncated": 4,
    "verdict_gold_unparseable": 0,
    "verdict_error": 0,
    "verdict_timeout": 0,
    "regenerated_groups": 3,
    "rescued_groups": 1,
    "bonus_share": 0.043,
    "sampled_tokens": 1000,
    "total_sampled_tokens": 3000,
}


def test_show_lists_every_iteration_and_the_comparison(mini_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(mini_run.results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines[:6]] == ["extra/s0"] * 3 + ["grpo/s0"] * 3
    assert [line.split()[0] for line in lines[-3:]] == ["warm_start", "grpo", "extra"]
    assert "pass@4" in lines[-1]


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


def test_a_line_holds_what_a_reader_watches() -> None:
    line = summary_line(ROW, Horizon(10, 5000), {"generate": 6.0, "update": 3.0, "verify": 0.5, "select": 0.1})
    assert line.startswith("extra/s0 3/10 60%, 19s left | reward 0.25 pass 0.25 | groups 3 wrong 2 mixed 1 right")
    assert "entropy 0.5 length 31.2 cut off 4 | regenerated 3 rescued 1 | bonus 4.3%" in line
    assert line.endswith("generate 6.0s update 3.0s verify 0.5s")


def test_faults_are_said_only_when_there_are_any() -> None:
    faulty = ROW | {"verdict_gold_unparseable": 2, "verdict_timeout": 1}
    assert " | gold unparseable 2 timeouts 1 | " in summary_line(faulty, Horizon(10, 5000), {})
    assert "unparseable" not in summary_line(ROW, Horizon(10, 5000), {})


def test_without_a_budget_iterations_count() -> None:
    assert summary_line(ROW, Horizon(6, 0), {"generate": 10.0}).startswith("extra/s0 3/6 50%, 30s left")


def test_a_spent_budget_is_said() -> None:
    line = summary_line(ROW | {"rollouts": 0, "sampled_tokens": 0}, Horizon(10, 3000), {})
    assert line == "extra/s0 3/10 | budget spent (3,000 sampled tokens), nothing left to do"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (185, "3m05s"), (3725, "1h02m")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_says_how_far_and_how_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Console(tmp_path / "log") as console:
        progress = Progress(console, 4, "step", interval=0.0)
        progress.update(1, loss=0.125)
        Progress(console, 4, "silent", interval=60.0).update(1)
    said = capsys.readouterr().out
    assert said.startswith("  step 1/4 (25%), loss 0.125, ")
    assert "silent" not in said
    assert (tmp_path / "log").read_text() == said


def test_the_reference_is_up_to_date() -> None:
    assert (ROOT / "config" / "README.md").read_text() == page(), "run: python -m stages.reference > config/README.md"


def test_noise_is_noise_and_errors_are_not() -> None:
    assert is_noise("Select jobs to execute...")
    assert not is_noise("WorkflowError: missing input")
