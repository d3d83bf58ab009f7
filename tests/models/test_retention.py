"""What retention keeps and removes, in the order that a kill at any moment leaves a run that can go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from extra_rl.config.run import RetentionConfig
from extra_rl.errors import InputError
from extra_rl.models import digests, retention
from extra_rl.models.policy import (
    ADAPTER_FILE,
    OPTIMIZER_FILE,
    read_manifest,
    resolve,
    write_manifest,
    write_same_policy,
)
from extra_rl.models.removed import REMOVED_FILE, how_to_rebuild, read_removed, refuse_removed
from extra_rl.models.retention import Retention, kept_optimizer_states, kept_weights, thin
from extra_rl.tables.files import file_digest
from extra_rl.training.optimizer_file import read_optimizer, write_optimizer

WEIGHTS = "model.safetensors"


def settings(weights_every: int = 1, optimizer_states: int = 0, evaluate_every: int = 0, first: int = 0) -> Retention:
    return Retention(weights_every, optimizer_states, evaluate_every, first)


def manifest_of(run: Path, iteration: int) -> Path:
    return run / f"iteration_{iteration:04d}" / "policy" / "manifest.json"


def step(run: Path, iteration: int, keep: Retention | None = None) -> list[Path]:
    """An iteration that made a policy of its own, and what `update` then removes."""
    manifest = manifest_of(run, iteration)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, OPTIMIZER_FILE, "config.json"):
        (manifest.parent / name).write_text(f"{name} of {run.name} {iteration}")
    write_manifest(manifest, {"name": f"{iteration}"})
    return thin(manifest, iteration, keep) if keep else []


def idle(run: Path, iteration: int, keep: Retention) -> list[Path]:
    """An iteration without a step: its policy stands for the former one."""
    write_same_policy(manifest_of(run, iteration), manifest_of(run, iteration - 1), {})
    return thin(manifest_of(run, iteration), iteration, keep)


def with_file(run: Path, name: str) -> list[int]:
    """The iterations that have a file of that name."""
    return sorted(int(path.parents[1].name.removeprefix("iteration_")) for path in run.glob(f"*/policy/{name}"))


def test_which_weights_stay() -> None:
    assert kept_weights(6, 1) == [0, 1, 2, 3, 4, 5]
    assert kept_weights(6, 3) == [2, 4, 5]
    assert kept_weights(7, 3) == [2, 5, 6]
    assert kept_weights(10, 100, evaluate_every=4) == [3, 7, 8, 9]
    assert kept_weights(1, 5) == [0]
    assert kept_weights(0, 1) == []


def test_which_optimizer_states_stay() -> None:
    assert kept_optimizer_states(5, 0) == [0, 1, 2, 3, 4]
    assert kept_optimizer_states(5, 2) == [3, 4]
    assert kept_optimizer_states(1, 2) == [0]


@pytest.mark.parametrize(("every", "states", "evaluate"), [(3, 2, 0), (1, 2, 0), (4, 0, 3), (2, 3, 5), (100, 2, 0)])
def test_after_every_iteration_the_disk_holds_what_is_promised(
    tmp_path: Path, every: int, states: int, evaluate: int
) -> None:
    for iteration in range(9):
        step(tmp_path, iteration, settings(every, states, evaluate))
        assert with_file(tmp_path, WEIGHTS) == kept_weights(iteration + 1, every, evaluate)
        assert with_file(tmp_path, OPTIMIZER_FILE) == kept_optimizer_states(iteration + 1, states)
    assert with_file(tmp_path, "config.json") == with_file(tmp_path, "manifest.json") == list(range(9))


def test_by_default_nothing_goes(tmp_path: Path) -> None:
    removed = [step(tmp_path, i, Retention(**RetentionConfig().model_dump(), evaluate_every=0, first_iteration=0))
               for i in range(5)]  # fmt: skip
    assert removed == [[]] * 5
    assert with_file(tmp_path, WEIGHTS) == with_file(tmp_path, OPTIMIZER_FILE) == [0, 1, 2, 3, 4]
    assert with_file(tmp_path, REMOVED_FILE) == []


def test_the_manifest_stays_as_it_was_and_a_record_says_what_went(tmp_path: Path) -> None:
    step(tmp_path, 0)
    before = manifest_of(tmp_path, 0).read_bytes()
    step(tmp_path, 1)
    removed = step(tmp_path, 2, settings(weights_every=9, optimizer_states=2))
    policy = manifest_of(tmp_path, 0).parent
    assert sorted(removed) == [policy / WEIGHTS, policy / OPTIMIZER_FILE]
    assert manifest_of(tmp_path, 0).read_bytes() == before
    assert read_removed(policy) == {
        WEIGHTS: "retention.weights_every: 9",
        OPTIMIZER_FILE: "retention.optimizer_states: 2",
    }


def test_a_policy_that_another_iteration_stands_for_stays(tmp_path: Path) -> None:
    keep = settings(weights_every=100, optimizer_states=2)
    step(tmp_path, 0, keep)
    step(tmp_path, 1, keep)
    for iteration in range(2, 6):
        idle(tmp_path, iteration, keep)
    assert with_file(tmp_path, WEIGHTS) == with_file(tmp_path, OPTIMIZER_FILE) == [1]
    step(tmp_path, 6, keep)
    assert with_file(tmp_path, WEIGHTS) == [1, 6]  # 5 stands for 1
    step(tmp_path, 7, keep)
    assert with_file(tmp_path, WEIGHTS) == [6, 7]


def test_a_policy_that_an_evaluated_iteration_stands_for_stays(tmp_path: Path) -> None:
    keep = settings(weights_every=100, evaluate_every=3)
    step(tmp_path, 0, keep)
    step(tmp_path, 1, keep)
    idle(tmp_path, 2, keep)
    for iteration in range(3, 7):
        step(tmp_path, iteration, keep)
    assert with_file(tmp_path, WEIGHTS) == [1, 5, 6]


def test_the_warm_start_and_what_the_window_starts_from_stay(tmp_path: Path) -> None:
    keep = settings(weights_every=100, optimizer_states=2, first=3)
    initial = tmp_path / "warm_start" / "policy" / "manifest.json"
    initial.parent.mkdir(parents=True)
    (initial.parent / WEIGHTS).write_text("initial")
    write_manifest(initial, {})
    run = tmp_path / "extra" / "s0"
    write_same_policy(manifest_of(run, 0), initial, {})
    for iteration in range(1, 7):
        step(run, iteration, keep)
    assert with_file(run, WEIGHTS) == with_file(run, OPTIMIZER_FILE) == [2, 5, 6]
    assert (initial.parent / WEIGHTS).exists()


def test_a_kill_between_two_removals_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = settings(weights_every=3, optimizer_states=2)
    for iteration in range(4):
        step(tmp_path, iteration)
    real = Path.unlink
    calls: list[Path] = []

    def killed(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".safetensors":
            calls.append(self)
            if len(calls) == 2:
                raise KeyboardInterrupt
        real(self, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            thin(manifest_of(tmp_path, 3), 3, keep)
    for name in (WEIGHTS, OPTIMIZER_FILE):  # what is gone has its reason beside it, what is there can be read
        for iteration in range(2):
            policy = manifest_of(tmp_path, iteration).parent
            assert (policy / name).exists() or name in read_removed(policy)
    refuse_removed(manifest_of(tmp_path, 1).parent, optimizer=True)
    step(tmp_path, 3, keep)
    assert (with_file(tmp_path, WEIGHTS), with_file(tmp_path, OPTIMIZER_FILE)) == ([2, 3], [2, 3])


def test_nothing_goes_unless_the_new_policy_is_safe(tmp_path: Path) -> None:
    for iteration in range(4):
        step(tmp_path, iteration)
    (manifest_of(tmp_path, 3).parent / WEIGHTS).write_text("torn")
    with pytest.raises(InputError, match=r"iteration_0003/policy/model\.safetensors is not the file"):
        thin(manifest_of(tmp_path, 3), 3, settings(weights_every=9))
    assert with_file(tmp_path, WEIGHTS) == [0, 1, 2, 3]
    assert with_file(tmp_path, REMOVED_FILE) == []


def test_what_was_just_written_is_read_back_once_and_what_an_idle_iteration_keeps_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "YOUNG_NS", 0)
    for module in (digests, retention):
        monkeypatch.setattr(module, "file_digest", lambda path: read.append(path.name) or file_digest(path))
    read: list[str] = []
    keep = settings(weights_every=9)
    for iteration in range(2):
        step(tmp_path, iteration, keep)
    read.clear()
    assert step(tmp_path, 2, keep)
    assert sorted(read) == sorted([WEIGHTS, OPTIMIZER_FILE, "config.json"])
    read.clear()
    assert idle(tmp_path, 3, keep)
    assert sorted(read) == sorted([WEIGHTS, OPTIMIZER_FILE, "config.json"])


def test_damage_of_the_same_size_and_time_is_seen_before_anything_goes(tmp_path: Path) -> None:
    for iteration in range(4):
        step(tmp_path, iteration)
    weights = manifest_of(tmp_path, 3).parent / WEIGHTS
    before, text = weights.stat(), weights.read_text()
    weights.write_text(text[::-1])
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match=r"iteration_0003/policy/model\.safetensors is not the file"):
        thin(manifest_of(tmp_path, 3), 3, settings(weights_every=9))
    assert with_file(tmp_path, WEIGHTS) == [0, 1, 2, 3]


def test_a_policy_outside_of_a_run_removes_nothing(tmp_path: Path) -> None:
    for iteration in range(4):
        step(tmp_path, iteration)
    write_same_policy(tmp_path / "again" / "policy" / "manifest.json", manifest_of(tmp_path, 3), {})
    assert thin(tmp_path / "again" / "policy" / "manifest.json", 3, settings(weights_every=9)) == []


def test_the_way_back_starts_at_the_last_whole_policy(tmp_path: Path) -> None:
    run = tmp_path / "grpo" / "s0"
    for iteration in range(6):
        step(run, iteration, settings(weights_every=3))
    assert with_file(run, WEIGHTS) == [2, 4, 5]
    with pytest.raises(InputError, match=r"updates of iterations 3 to 3, without sampling") as caught:
        refuse_removed(manifest_of(run, 3).parent)
    assert f"rm {run}/iteration_0003/policy/manifest.json" in str(caught.value)
    assert f"--config first_iteration=3 -- {manifest_of(run, 3)}" in str(caught.value)
    step(run, 6, settings(weights_every=3, optimizer_states=2))  # 2 has weights but no state to go on from
    with pytest.raises(InputError, match=r"updates of iterations 0 to 3") as caught:
        refuse_removed(manifest_of(run, 3).parent)
    assert f"rm {run}/iteration_{{0000..0003}}/policy/manifest.json" in str(caught.value)
    refuse_removed(manifest_of(run, 2).parent)
    with pytest.raises(InputError, match=r"optimizer\.safetensors was removed \(retention\.optimizer_states: 2\)"):
        refuse_removed(manifest_of(run, 2).parent, optimizer=True)
    assert "copied from" in how_to_rebuild(tmp_path / "elsewhere")


def test_states_in_another_folder_are_removed_there(tmp_path: Path) -> None:
    run, memory = tmp_path / "grpo" / "s0", tmp_path / "memory"
    for iteration in range(5):
        manifest = manifest_of(run, iteration)
        manifest.parent.mkdir(parents=True)
        (manifest.parent / WEIGHTS).write_text(f"weights {iteration}")
        write_optimizer(manifest.parent, {"step/w": torch.tensor(float(iteration))}, memory)
        write_manifest(manifest, {"name": f"{iteration}"})
        if iteration == 3:
            (lost,) = memory.glob("grpo-s0-iteration_0002-*")
            lost.unlink()
        thin(manifest, iteration, settings(optimizer_states=2))
    assert sorted(path.name.split("-")[2] for path in memory.iterdir()) == ["iteration_0003", "iteration_0004"]
    linked = [i for i in range(5) if (manifest_of(run, i).parent / OPTIMIZER_FILE).is_symlink()]
    assert linked == [3, 4]
    with pytest.raises(InputError, match=r"optimizer\.safetensors was removed \(retention\.optimizer_states: 2\)"):
        read_optimizer(manifest_of(run, 2).parent)


def test_adapters_go_with_the_weights(tmp_path: Path) -> None:
    for iteration in range(5):
        manifest = manifest_of(tmp_path, iteration)
        manifest.parent.mkdir(parents=True)
        (manifest.parent / ADAPTER_FILE).write_text(f"adapter {iteration}")
        step(tmp_path, iteration, settings(weights_every=3))
    assert with_file(tmp_path, ADAPTER_FILE) == with_file(tmp_path, WEIGHTS) == [2, 3, 4]
    assert set(read_removed(manifest_of(tmp_path, 0).parent)) == {ADAPTER_FILE, WEIGHTS}


def test_an_optimizer_state_of_one_iteration_only_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 2"):
        RetentionConfig(optimizer_states=1)


def test_a_thinned_policy_still_says_who_it_is(tmp_path: Path) -> None:
    for iteration in range(4):
        step(tmp_path, iteration, settings(weights_every=9))
    assert resolve(manifest_of(tmp_path, 0)) == manifest_of(tmp_path, 0).parent
    assert read_manifest(manifest_of(tmp_path, 0))["digest"] != read_manifest(manifest_of(tmp_path, 3))["digest"]
