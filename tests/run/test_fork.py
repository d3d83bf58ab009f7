"""Which iterations can be forked, and files that two runs share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from extra_rl.errors import InputError
from extra_rl.models.policy import write_same_policy
from extra_rl.models.removed import write_removed
from extra_rl.results import RunFolder
from extra_rl.run import fork
from extra_rl.run.fork import fault, files_to_share, fork_lines, later_times, read_fork, require_forkable, share
from tests.run.small_run import ARMS, small_run

TABLES = ("generate", "verify_generate", "update")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return small_run(tmp_path / "results" / "small")


@pytest.fixture
def runs(results: Path) -> list[RunFolder]:
    return [RunFolder(results / arm / "s0") for arm in ARMS]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_iteration_can_be_forked_and_a_missing_file_is_named(runs: list[RunFolder]) -> None:
    require_forkable(runs, 2, TABLES, True)
    (runs[1].iteration(1) / "update.parquet").unlink()
    with pytest.raises(InputError, match=r"grpo/s0 cannot be forked at iteration 2: .*update\.parquet is missing"):
        require_forkable(runs, 2, TABLES, True)
    require_forkable(runs, 1, TABLES, True)
    with pytest.raises(InputError, match=r"extra/s0 \(and 1 more of arm and seed\) .* iteration 9"):
        require_forkable(runs, 9, TABLES, True)


def test_a_removed_optimizer_state_names_the_iterations_that_can_be_forked(runs: list[RunFolder]) -> None:
    directory = runs[0].iteration(0) / "policy"
    write_removed(directory, {"optimizer.safetensors": "retention.optimizer_states: 2"})
    (directory / "optimizer.safetensors").unlink()
    for run in runs:  # the last iteration, as far as the list of iterations goes
        for number in range(2):
            (run.iteration(number) / "summarize.parquet").touch()
    with pytest.raises(InputError) as error:
        require_forkable(runs, 1, TABLES, False)
    said = str(error.value)
    assert "optimizer.safetensors was removed (retention.optimizer_states: 2)" in said
    assert "--allowed-rules update" in said
    assert "Iterations that can be forked: 0, 2 (0 shares the start only)." in said
    require_forkable(runs, 2, TABLES, True)  # of the iteration before, only the weights are read


def test_the_weights_of_the_policy_before_are_needed_where_parents_are_scored_with_it(runs: list[RunFolder]) -> None:
    (runs[0].iteration(0) / "policy" / "model.safetensors").unlink()
    assert fault(runs[0], 2, TABLES, previous_policy=False) == ""
    assert "model.safetensors is missing" in fault(runs[0], 2, TABLES, previous_policy=True)


def test_a_policy_that_stands_for_another_needs_the_files_of_that_one(runs: list[RunFolder]) -> None:
    first, second = (runs[0].iteration(number) / "policy" for number in range(2))
    for path in second.iterdir():
        path.unlink()
    write_same_policy(second / "manifest.json", first / "manifest.json", {})
    assert fault(runs[0], 2, TABLES, False) == ""
    (first / "model.safetensors").unlink()
    assert str(first / "model.safetensors") in fault(runs[0], 2, TABLES, False)


def prepared(results: Path) -> Path:
    """A log, a hidden file, a record and a link to a state elsewhere, in iteration 0 of `extra`."""
    here = results / "extra" / "s0" / "iteration_0000"
    (here / "logs").mkdir()
    (here / "logs" / "update.log").write_text("x")
    (here / ".hidden").write_text("x")
    paths = {"update": f"results/small/{here.relative_to(results)}/update.parquet"}
    (here / "update.run.json").write_text(json.dumps({"inputs": {"x": "elsewhere"}, "outputs": paths, "wall_s": 1}))
    state = here / "policy" / "optimizer.safetensors"
    elsewhere = results.parents[1] / "memory"
    elsewhere.write_bytes(state.read_bytes())
    state.unlink()
    state.symlink_to(elsewhere)
    return here


@pytest.mark.parametrize("links", [True, False])
def test_files_are_shared_or_copied(
    results: Path, runs: list[RunFolder], links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("not supported")))
    here = prepared(results)
    paths = list(files_to_share(results, runs[:1], ["warm_start"], 1))
    target = results.parent / "new"
    done = share(paths, results, target, "new", {})
    found = {str(path.relative_to(results)) for path in paths}
    assert files(target).keys() == found
    assert {"extra/s0/iteration_0000/policy/model.safetensors", "warm_start/policy/manifest.json"} <= found
    assert not any("iteration_0001" in name or "grpo" in name or "log" in name or "hidden" in name for name in found)
    assert (done.records, done.linked if links else done.copied) == (1, len(found) - 1)
    assert (done.copied if links else done.linked) == 0
    sizes = [path.stat().st_size for path in paths if not path.name.endswith(".run.json")]
    assert done.linked_bytes + done.copied_bytes == sum(sizes)
    weights = "extra/s0/iteration_0000/policy/model.safetensors"
    assert (target / weights).samefile(results / weights) is links
    assert (target / weights).stat().st_mtime_ns == (results / weights).stat().st_mtime_ns
    record = json.loads((target / here.relative_to(results) / "update.run.json").read_text())
    assert record["outputs"] == {"update": "results/new/extra/s0/iteration_0000/update.parquet"}
    assert record["inputs"] == {"x": "elsewhere"}
    assert not (target / here.relative_to(results) / "policy" / "optimizer.safetensors").is_symlink()


def test_a_file_older_than_its_source_is_copied_with_a_later_time_and_so_is_what_follows(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake's records tell that a touched source is the same; a fork has only the times."""
    monkeypatch.chdir(results.parents[1])
    source, small = Path("problems.jsonl"), Path("results/small")
    here, train = small / "extra" / "s0" / "iteration_0000", small / "prepare" / "train.parquet"
    generate, update = here / "generate.parquet", here / "update.parquet"
    for second, path in enumerate((train, generate, update), start=1):
        os.utime(path, (second, second))
    source.write_text("x")
    os.utime(source, (2, 2))  # after train, not after update
    chain = {train: source, generate: train, update: generate}
    for path, made_from in chain.items():
        record = {"inputs": {"x": str(made_from)}, "outputs": {"y": str(path)}}
        path.with_suffix(".run.json").write_text(json.dumps(record))
    (here / "damaged.run.json").write_text("{")
    paths = [*train.parent.iterdir(), *here.glob("*.*")]
    assert later_times(paths) == {train.resolve(): 2 * 10**9}
    os.utime(source, (9, 9))
    later = later_times(paths)
    assert later == dict.fromkeys([path.resolve() for path in chain], 9 * 10**9)
    share(paths, small, Path("results/new"), "new", later)
    copied = Path("results/new/prepare/train.parquet")
    assert (copied.stat().st_mtime, train.stat().st_mtime) == (9, 1)
    assert copied.read_bytes() == train.read_bytes()


def test_the_lineage_of_a_fork_of_a_fork(tmp_path: Path) -> None:
    assert read_fork(tmp_path) == {}
    first = {"name": "a", "at": 2, "digest": "1" * 64, "set": {}, "parent": None}
    (tmp_path / fork.FORK_FILE).write_text(json.dumps(first | {"name": "b", "set": {"x.y": 3}, "parent": first}))
    assert fork_lines(read_fork(tmp_path)) == [
        "b at iteration 2 (policies 1111111111111111); changes: x.y: 3",
        "a at iteration 2 (policies 1111111111111111); changes: none",
    ]
    (tmp_path / fork.FORK_FILE).write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_fork(tmp_path)
