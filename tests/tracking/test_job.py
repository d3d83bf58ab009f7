"""The tracking job: every record once, after kills, outages, changes, and with tables that are gone."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from extra_rl.errors import InputError
from extra_rl.tracking.store import Ledger, identifier_in, locked, read_records, unfinished
from tests.conftest import Run, copy_of
from tests.tracking.places import Place

ALL = ["evaluation/-1", "iteration/0", "iteration/1", "iteration/2", "evaluation/2"]

TRACKER = '''
"""A tracker for tests: one line a record; a file next to it tells it to fail."""
import os, time
from pathlib import Path

def send(run, records, before, state):
    trouble = Path("trouble").read_text() if Path("trouble").exists() else ""
    if trouble == "raise":
        raise ConnectionError("no route to host\\nsecond line")
    if trouble == "exit":
        print("out of memory")
        os._exit(9)
    if trouble == "hang":
        time.sleep(60)
    with open("got.txt", "a") as handle:
        for number, record in enumerate(records):
            handle.write(f"{run.name} {before + number} {record.key}\\n")
    return {"calls": state.get("calls", 0) + 1}
'''


@pytest.fixture
def run(mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    copied = copy_of(mini_run, tmp_path / "run")
    (copied.workdir / "own.py").write_text(TRACKER)
    monkeypatch.chdir(copied.workdir)
    return copied


def got() -> list[str]:
    path = Path("got.txt")
    return path.read_text().splitlines() if path.exists() else []


def trouble(kind: str) -> None:
    Path("trouble").write_text(kind)


def test_each_iteration_and_evaluation_is_one_line(run: Run) -> None:
    place = Place(run, to=["jsonl"])
    assert place.job(-1).trackers == {}
    assert place.keys() == ["evaluation/-1"]
    place.job(1)
    place.job(2)
    assert place.keys() == ALL
    before = place.records.read_bytes()
    for step in (2, 0, 1, -1):
        place.job(step)
    assert place.records.read_bytes() == before
    assert place.said == []
    frame = pl.read_ndjson(place.records, infer_schema_length=None).filter(kind="iteration")
    summaries = [pl.read_parquet(run.results / f"extra/s0/iteration_{i:04d}/summarize.parquet") for i in range(3)]
    expected = pl.concat(summaries)["mean_reward"].cast(pl.Float64)
    assert frame["metrics"].struct.field("reward/mean").to_list() == expected.to_list()


def test_rollouts_are_spread_over_the_iteration(run: Run) -> None:
    place = Place(run, to=["jsonl"], rollouts=5, characters=50)
    place.job(0)
    rows = read_records(place.records)[1].rollouts
    assert len(rows) == 5
    assert len({row[0].rsplit("/", 1)[0] for row in rows}) >= 4  # of different groups
    advantages = pl.read_parquet(run.results / "extra/s0/iteration_0000/advantage.parquet")
    expected = dict(advantages.select("rollout_id", "advantage").iter_rows())
    verdicts = pl.read_parquet(run.results / "extra/s0/iteration_0000/verify_generate.parquet")
    judged = dict(verdicts.select("rollout_id", "verdict").iter_rows())
    for rollout, _, problem, response, verdict, reward, advantage in rows:
        assert advantage == pytest.approx(expected[rollout], abs=1e-6)
        assert verdict == judged[rollout]
        assert reward == float(verdict == "right")
        assert problem
        assert len(response) < 100


def test_a_second_arm_has_its_own_records_and_run(run: Run) -> None:
    for arm in ("extra", "grpo"):
        place = Place(run, arm, to=["own:send"])
        place.job(2)
        assert place.keys() == ALL
    assert [line.split()[0] for line in got()] == ["mini/extra/s0"] * 5 + ["mini/grpo/s0"] * 5


def test_a_line_that_a_kill_cut_off_is_written_again(run: Run) -> None:
    place = Place(run, to=["jsonl"])
    place.job(2)
    whole = place.records.read_bytes()
    for size in (len(whole) - 1, whole[:-1].rfind(b"\n") + 20):
        place.records.write_bytes(whole[:size])
        place.job(0)
        assert place.keys() == ALL[:-1]
        place.job(2)
        assert place.records.read_bytes() == whole


def test_an_outage_is_one_line_and_the_next_job_catches_up(run: Run) -> None:
    place = Place(run, to=["own:send", "jsonl"])
    place.job(-1)
    trouble("raise")
    for step in (0, 1):
        assert place.job(step).behind == {"own:send": "ConnectionError: no route to host second line"}
    assert len(place.said) == 1  # the same outage is said once
    assert "own:send has not received 1 record(s) (ConnectionError: no route to host second line)" in place.said[0]
    assert "\n" not in place.said[0]
    assert any("own:send has not received 2 record(s)" in line for line in place.noted)
    assert unfinished(run.results) == ["mini-extra-1.json"]
    Path("trouble").unlink()
    assert place.job(2).behind == {}
    assert unfinished(run.results) == []
    assert got() == [f"mini/extra/s0 {number} {key}" for number, key in enumerate(ALL)]


@pytest.mark.parametrize(
    ("kind", "reason"), [("exit", "its process ended with 9: out of memory"), ("hang", "no answer within")]
)
def test_a_tracker_that_ends_or_hangs_is_an_outage(run: Run, kind: str, reason: str) -> None:
    place = Place(run, to=["own:send"], timeout_s=3)
    trouble(kind)
    assert place.job(1).behind["own:send"].startswith(reason)
    Path("trouble").unlink()
    place.job(1, timeout_s=60)
    assert [line.split()[2] for line in got()] == ALL[:3]


def test_another_tracker_is_not_held_up(run: Run) -> None:
    (run.workdir / "other.py").write_text("def send(run, records, before, state):\n    raise ValueError('no')\n")
    ledger = Place(run, to=["other:send", "own:send"]).job(2)
    assert list(ledger.behind) == ["other:send"]
    assert len(got()) == 5


def change(run: Run, iteration: int, **columns: float) -> None:
    path = run.results / f"extra/s0/iteration_{iteration:04d}/summarize.parquet"
    pl.read_parquet(path).with_columns(**{k: pl.lit(v, pl.Float32) for k, v in columns.items()}).write_parquet(path)


def test_a_repeated_iteration_is_not_logged_again_and_a_changed_one_begins_a_new_run(run: Run) -> None:
    place = Place(run, to=["own:send"])
    place.job(2)
    before = place.records.read_bytes()
    folder = run.results / "extra" / "s0" / "iteration_0001"
    record = json.loads((folder / "update.run.json").read_text())
    (folder / "update.run.json").write_text(json.dumps(record | {"wall_s": 99.0}))  # the same, slower
    place.job(1)
    assert place.records.read_bytes() == before
    assert len(got()) == 5

    change(run, 1, mean_reward=0.75)
    place.job(1)  # iteration 2, which followed from the old one, is made again after it
    assert place.keys() == ["evaluation/-1", "iteration/0", "iteration/1"]
    place.job(2)
    assert place.keys() == ALL
    assert got()[5:] == [f"mini/extra/s0 ({2}) {number} {key}" for number, key in enumerate(ALL)]
    assert [line for line in place.said if "iteration/1 was made again with other numbers" in line] == place.said


def test_iterations_whose_folders_are_gone_stay_logged(run: Run) -> None:
    place = Place(run, to=["own:send"])
    place.job(1)
    for iteration in (0, 1):
        shutil.rmtree(run.results / "extra" / "s0" / f"iteration_{iteration:04d}")
    place.job(2)
    assert place.keys() == ALL
    assert [line.split()[2] for line in got()] == ALL


def test_tables_that_are_gone_leave_out_their_iteration_only(run: Run) -> None:
    place = Place(run, to=["jsonl"])
    (run.results / "extra" / "s0" / "iteration_0000" / "update.parquet").unlink()
    place.job(2)
    assert place.keys() == [key for key in ALL if key != "iteration/0"]
    assert "iteration 0 is left out" in place.said[0]
    with pytest.raises(InputError, match="iteration_0000: its tables cannot be read"):
        Place(run, to=["jsonl"]).job(0)


def test_another_project_gets_everything(run: Run) -> None:
    place = Place(run, to=["own:send"])
    place.job(2)
    place.job(2, project="other")
    assert len(got()) == 10


def test_damaged_files_are_named(run: Run) -> None:
    place = Place(run, to=["own:send"])
    place.job(2)
    ledger = place.ledger.read_text()
    place.ledger.write_text("{")
    with pytest.raises(InputError, match=r"ledger\.json: not what a tracking job writes"):
        place.job(2)
    place.ledger.write_text(ledger)
    place.records.write_bytes(b"{}\n" + place.records.read_bytes())
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 1 is no record"):
        place.job(2)


def test_results_keep_their_identifier_and_others_have_another(tmp_path: Path) -> None:
    assert identifier_in(tmp_path / "none") != identifier_in(tmp_path / "none")
    (tmp_path / "run.json").write_text('{"id": "1a2b"}')
    assert identifier_in(tmp_path / "run.json") == "1a2b"


def test_one_job_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x" / ".lock"
    for _ in range(2):
        with locked(path), path.open("a") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert Ledger.read(tmp_path / "none") == Ledger()


def test_many_records_are_sent_in_portions(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extra_rl.tracking.job.PORTION", 2)
    ledger = Place(run, to=["own:send"]).job(2)
    assert ledger.trackers["own:send"].state == {"calls": 3}
    assert got() == [f"mini/extra/s0 {number} {key}" for number, key in enumerate(ALL)]


def test_a_tracker_that_took_long_to_fail_is_left_alone_for_a_while(run: Run) -> None:
    place = Place(run, to=["own:send"])
    trouble("raise")
    place.job(0)
    ledger = Ledger.read(place.ledger)
    now = time.time()
    ledger.outages["own:send"] = (now, 60.0)
    ledger.write(place.ledger)
    Path("trouble").unlink()
    assert place.job(1).behind == {"own:send": "ConnectionError: no route to host second line"}
    assert (len(place.said), len(got())) == (1, 0)
    about = run.results / "tracking" / "run.json"
    about.write_text("{}")
    os.utime(about, (now + 1, now + 1))  # a new run
    assert place.job(1).behind == {}
    assert len(got()) == 3


def test_a_metric_that_an_earlier_version_did_not_know_is_no_other_number(run: Run) -> None:
    place = Place(run, to=["own:send"])
    place.job(2)
    lines = [json.loads(line) for line in place.records.read_text().splitlines()]
    del lines[2]["metrics"]["rollouts/entropy"]
    earlier = "".join(json.dumps(line | {"digest": "0" * 16}) + "\n" for line in lines)
    place.records.write_text(earlier)
    ledger = json.loads(place.ledger.read_text())
    ledger["trackers"]["own:send"]["sent"] = [[key, "0" * 16] for key in ALL]
    place.ledger.write_text(json.dumps(ledger))
    place.job(1)
    assert (place.records.read_text(), place.said, len(got())) == (earlier, [], 5)
    change(run, 1, mean_reward=0.75)
    place.job(1)
    assert place.keys() == ["evaluation/-1", "iteration/0", "iteration/1"]
