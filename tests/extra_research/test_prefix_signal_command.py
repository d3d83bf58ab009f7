"""extra prefix-signal: from the files of finished iterations, against the task's own verdicts."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from extra_research.__main__ import main
from extra_research.commands.prefix_signal import replay_of, signals_of
from extra_research.contracts import PrefixSignal
from extra_research.finished import open_stage
from extra_rl.config.sections import TaskConfig
from extra_rl.tables import contracts, read_table
from extra_rl.tasks.signed_sum import TASK
from tests.conftest import Run, copy_of


def iteration(run: Run, number: int, arm: str = "extra") -> Path:
    return run.results / arm / "s0" / f"iteration_{number:04d}"


def test_sound_is_what_no_verdict_speaks_against(mini_run: Run) -> None:
    """A prefix that ends with a step is sound where the judge, given it without its last boundary, finds that no more
    than steps are missing."""
    folder = iteration(mini_run, 1)
    sound, _ = signals_of(folder, open_stage(folder, "choose_prefixes"))
    rows = read_table(folder / "generate.parquet", contracts.Rollouts)
    train = read_table(mini_run.results / "prepare" / "train.parquet", contracts.Problems)
    asked = sound.join(rows.select("rollout_id", "response"), on="rollout_id").join(train, on="problem_id")
    verdicts = pl.read_parquet(folder / "verify_generate.parquet")
    right = set(verdicts.filter(verdict="right")["rollout_id"])
    assert not right & set(asked["rollout_id"])
    seen = set()
    for row in asked.iter_rows(named=True):
        steps = row["response"].split(" ; ")[: row["steps"]]
        judged = TASK.judge(row["prompt"], row["answer"], " ; ".join(steps), finished=True)
        assert row["good"] == (judged.rule == "everything_used"), (row["prompt"], steps)
        seen.add(row["good"])
    assert seen == {True, False}


def test_rescued_is_what_the_next_iteration_found(mini_run: Run) -> None:
    found = []
    for number in range(2):
        folder = iteration(mini_run, number)
        _, continued = signals_of(folder, open_stage(folder, "choose_prefixes"))
        found.append(continued.select("rollout_id", "prefix_length", "good"))
        following = pl.read_parquet(iteration(mini_run, number + 1) / "generate.parquet").filter(origin="regenerated")
        verdicts = pl.read_parquet(iteration(mini_run, number + 1) / "verify_generate.parquet")
        by_hand = (
            following.join(verdicts, on="rollout_id")
            .group_by(rollout_id="parent_rollout_id", prefix_length="prefix_length")
            .agg(good=(pl.col("verdict") == "right").any())
        )
        keys = ["rollout_id", "prefix_length"]
        assert sorted(found[-1].rows()) == sorted(by_hand.select(*keys, "good").rows())
    assert 0 < sum(table["good"].sum() for table in found) < sum(map(len, found))


def test_the_table_is_written_and_shown(mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(mini_run, tmp_path / "copy")
    folders = [str(iteration(run, number)) for number in range(2)]
    assert main(["prefix-signal", *folders]) == 0
    path = run.results / "extra" / "s0" / "counterfactual" / "prefix_signal.parquet"
    table = read_table(path, PrefixSignal)
    parts = [signals_of(Path(folder), open_stage(Path(folder), "choose_prefixes")) for folder in folders]
    sound = table.filter(witness="sound")
    assert sound["steps"].to_list() == list(range(1, len(sound) + 1))
    assert sound["prefixes"].sum() == sum(len(cuts) for cuts, _ in parts)
    assert table.filter(witness="rescued")["prefixes"].to_list() == [sum(len(cuts) for _, cuts in parts)]
    assert table["mean_surprisal"].drop_nulls().is_between(0, 1).all()
    said = capsys.readouterr().out
    assert "mean surprisal" in said
    assert str(path) in said


def test_a_run_without_prefixes_and_whose_policies_are_gone_is_asked_too(mini_run: Run, tmp_path: Path) -> None:
    run = copy_of(mini_run, tmp_path / "copy")
    for weights in run.results.rglob("grpo/**/policy"):
        for file in weights.glob("model*"):
            file.unlink()
    assert main(["prefix-signal", str(iteration(run, 0, "grpo")), "--out", str(tmp_path / "out")]) == 0
    table = read_table(tmp_path / "out" / "prefix_signal.parquet", PrefixSignal)
    assert table.filter(witness="rescued")["prefixes"].to_list() == [0]
    assert table.filter(witness="sound")["prefixes"].sum() > 20


def test_mathematics_has_no_replay() -> None:
    assert replay_of(TaskConfig(name="math"), contracts.Problems.create_empty()) is None


def test_a_task_without_replay_is_asked_by_its_continuations_alone(
    mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extra_research.commands.prefix_signal.replay_of", lambda task, train: None)
    assert main(["prefix-signal", str(iteration(mini_run, 0)), "--out", str(tmp_path)]) == 0
    table = read_table(tmp_path / "prefix_signal.parquet", PrefixSignal)
    assert table["witness"].to_list() == ["rescued"]
    assert table["prefixes"].item() > 0


def test_nothing_to_look_at_is_an_error(
    mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("extra_research.commands.prefix_signal.replay_of", lambda task, train: None)
    assert main(["prefix-signal", str(iteration(mini_run, 0, "grpo")), "--out", str(tmp_path)]) == 2
    assert "name more iterations" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_iterations_of_several_runs_want_a_folder(mini_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    several = [str(iteration(mini_run, 0, arm)) for arm in ("grpo", "extra")]
    assert main(["prefix-signal", *several]) == 2
    assert "--out FOLDER" in capsys.readouterr().err
