"""What `extra watch` reads: progress, time left, jobs, and the state of a run, while files appear and vanish."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from extra_rl.errors import InputError
from extra_rl.results import iteration_name
from extra_rl.watch.state import Follower, State
from tests.watch.folders import NOW, finish, lock, log, make


def look(root: Path) -> State:
    return Follower(root).look(NOW)


def test_iterations_and_budget_are_counted_apart(tmp_path: Path) -> None:
    root = make(tmp_path / "run", ("grpo/s0", "extra/s0"))
    for number in range(6):
        finish(root, "grpo/s0", number, sampled_tokens=500, total_sampled_tokens=500 * (number + 1))
    one, other = look(root).cells
    assert (one.done, one.total, one.spent, one.budget, one.unit) == (6, 40, 3000, 10_000, "tokens")
    assert one.left == 14  # 7,000 tokens at 500 each come before the other 34 iterations
    assert (other.cell.name, other.done, other.left) == ("extra/s0", 0, 40)


def test_the_budget_that_is_spent_first_is_shown(tmp_path: Path) -> None:
    from extra_rl.run.context import Horizon, RunContext

    root = make(tmp_path / "run")
    RunContext(horizon=Horizon(40, 10_000, 1e12), cells=("grpo/s0",)).write(root)
    finish(root, "grpo/s0", 0, total_sampled_tokens=1000, compute=5e11, total_compute=5e11)
    (one,) = look(root).cells
    assert (one.spent, one.budget, one.unit, one.left) == (5e11, 1e12, "FLOP", 1.0)


def test_the_time_left_is_that_of_all_arms_at_the_pace_since_the_start(tmp_path: Path) -> None:
    root = make(tmp_path / "run", ("grpo/s0", "extra/s0"), iterations=10, tokens=0)
    finish(root, "grpo/s0", 0, at=NOW - 90_000)  # before the interruption: not part of the pace
    for number, at in ((1, -120), (2, -60)):
        finish(root, "grpo/s0", number, at=NOW + at)
    finish(root, "extra/s0", 0, at=NOW)
    lock(root, since=NOW - 300)
    # three iterations, 60 s from one to the next; 7 + 9 are left
    assert look(root).seconds_left == pytest.approx(60 * 16)


def test_the_time_left_is_unknown_before_two_iterations(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    finish(root, "grpo/s0", 0)
    assert look(root).seconds_left is None


def test_each_summary_is_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    for number in range(5):
        finish(root, "grpo/s0", number)
    follower = Follower(root)
    reads = [follower.read for _ in range(2) if follower.look(NOW)]
    finish(root, "grpo/s0", 5)
    follower.look(NOW)
    reads.append(follower.read)
    finish(root, "grpo/s0", 2, at=NOW + 1, pass_rate=0.75)
    state = follower.look(NOW)
    assert [*reads, follower.read] == [5, 0, 1, 1]
    assert [one.row["pass_rate"] for one in state.cells[0].cell.iterations] == [0.25, 0.25, 0.75, 0.25, 0.25, 0.25]


def test_files_and_folders_may_vanish_between_two_looks(tmp_path: Path) -> None:
    root = make(tmp_path / "run", ("grpo/s0", "extra/s0"))
    for number in range(3):
        finish(root, "grpo/s0", number)
    follower = Follower(root)
    assert follower.look(NOW).cells[0].done == 3
    (root / "grpo" / "s0" / iteration_name(1) / "summarize.parquet").unlink()
    cell = follower.look(NOW).cells[0].cell
    assert (cell.done, cell.gaps) == (3, [1])
    shutil.rmtree(root / "grpo")
    assert follower.look(NOW).cells[0].done == 0
    shutil.rmtree(root)
    assert follower.look(NOW).phase == "absent"
    make(root)
    finish(root, "grpo/s0", 0)
    assert follower.look(NOW).cells[0].done == 1


def test_a_damaged_summary_is_named_and_read_again_when_it_is_whole(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    finish(root, "grpo/s0", 0)
    file = root / "grpo" / "s0" / iteration_name(1) / "summarize.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1 cut off")
    follower = Follower(root)
    state = follower.look(NOW)
    assert (state.cells[0].done, list(state.damaged)) == (1, [file])
    finish(root, "grpo/s0", 1)
    state = follower.look(NOW)
    assert (state.cells[0].done, state.damaged) == (2, {})


def test_a_damaged_context_leaves_the_length_unknown(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    finish(root, "grpo/s0", 0)
    (root / "context.json").write_text("{")
    state = look(root)
    assert list(state.damaged) == [root / "context.json"]
    assert (state.cells[0].total, state.cells[0].left) == (0, None)


def test_arms_of_an_earlier_configuration_are_set_apart(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    finish(root, "grpo/s0", 0)
    finish(root, "old/s0", 0)
    state = look(root)
    assert [one.cell.name for one in state.cells] == ["grpo/s0"]
    assert state.other == ("old/s0",)


def test_a_log_without_its_output_is_a_running_job_with_its_last_line(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    finish(root, "grpo/s0", 0)
    folder = root / "grpo" / "s0" / iteration_name(1)
    log(folder, "select")
    (folder / "select.parquet").touch()
    log(folder, "generate", "  rollouts 12/96 (12%), 3m00s left")
    lock(root)
    (job,) = look(root).cells[0].jobs
    assert (job.place, job.stage, job.state) == ("grpo/s0/i1", "generate", "running")
    assert job.said == "rollouts 12/96 (12%), 3m00s left"
    (folder / "generate.parquet").touch()
    assert look(root).cells[0].jobs == ()


def test_shards_and_jobs_of_the_whole_run_have_their_own_outputs(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    folder = root / "grpo" / "s0" / iteration_name(0)
    for name in ("generate_0of2", "generate_1of2"):
        log(folder, name)
    (folder / "shards").mkdir()
    (folder / "shards" / "generate_0of2.parquet").touch()
    for name in ("prepare", "warm_start_3", "evaluate_warm_start_3"):
        log(root, name)
    (root / "prepare").mkdir()
    (root / "prepare" / "train.parquet").touch()
    lock(root)
    state = look(root)
    assert [job.stage for job in state.cells[0].jobs] == ["generate_1of2"]
    assert [job.stage for job in state.jobs] == ["evaluate_warm_start_3", "warm_start_3"]


def test_a_failed_job_has_its_error_and_a_restarted_one_runs_again(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    folder = root / "grpo" / "s0" / iteration_name(0)
    file = log(folder, "update", "InputError: the file is gone.", "Delete it.")
    lock(root)
    (job,) = look(root).cells[0].jobs
    assert (job.state, job.said, job.log) == ("failed", "InputError: the file is gone.\nDelete it.", file)
    log(folder, "update", before=file.read_text())
    (job,) = look(root).cells[0].jobs
    assert (job.state, job.said) == ("running", "")


def test_jobs_of_an_earlier_start_are_not_running(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    folder = root / "grpo" / "s0" / iteration_name(0)
    log(folder, "generate", "InputError: from last time", at=NOW - 7200)
    lock(root, since=NOW - 3600)
    assert look(root).cells[0].jobs == ()  # it waits to be started again


def test_the_run_has_stopped_when_its_process_is_gone(tmp_path: Path) -> None:
    root = make(tmp_path / "run")
    finish(root, "grpo/s0", 0)
    log(root / "grpo" / "s0" / iteration_name(1), "generate")
    lock(root)
    assert look(root).phase == "running"
    lock(root, process=2**22 + 1)  # no Linux process has a number above 2^22
    state = look(root)
    assert (state.phase, state.cells[0].jobs[0].state) == ("stopped", "interrupted")
    lock(root, since=0.0)  # a process with that number exists, but is younger than the lock
    assert look(root).phase == "stopped"
    lock(root, host="another-machine")
    assert look(root).phase == "unknown"


def test_a_run_is_finished_when_it_is_compared(tmp_path: Path) -> None:
    root = make(tmp_path / "run", iterations=1)
    finish(root, "grpo/s0", 0)
    lock(root)
    assert look(root).phase == "running"
    (root / "summary.json").write_text("{}")
    assert look(root).phase == "finished"


def test_a_file_is_no_results_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        Follower(tmp_path / "file")
