"""The optimizer's state: its precision, its two kinds, where it is stored between iterations, and when it is lost."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from extra_rl.config.sections import ComputeConfig
from extra_rl.errors import ConfigError, InputError
from extra_rl.models.policy import OPTIMIZER_FILE, Policy
from extra_rl.training.optimizer import load_optimizer, make_optimizer, optimizer_state, steps_taken
from extra_rl.training.optimizer_file import read_optimizer, write_optimizer
from extra_rl.training.trainer import Trainer
from tests.models import random_qwen3
from tests.training.steps import rollouts, settings

ADAMW = settings(learning_rate=1e-2, weight_decay=0.01, warmup_steps=6)


def policy_in(folder: Path, model: Any) -> Policy:
    return Policy(model, None, (2,), folder)


def take_steps(model: Any, optimizer: Any, count: int, precision: str = "float32") -> None:
    section = ADAMW.model_copy(update={"compute": ComputeConfig(precision=precision)})
    for _ in range(count):
        assert Trainer(model, optimizer, section, None).step(rollouts(model, [1.0, -1.0])) is not None


@pytest.mark.parametrize("kind", ["adamw", "adamw_8bit"])
def test_two_steps_and_two_after_a_save_are_four_steps(tmp_path: Path, kind: str) -> None:
    if kind == "adamw_8bit":
        pytest.importorskip("bitsandbytes", reason="pip install 'extra-rl[adam8bit]'")
    section = ADAMW.model_copy(update={"optimizer": kind})
    straight = random_qwen3(vocabulary=200)  # its embedding, 200 x 32, is large enough for 8 bits
    optimizer = load_optimizer(policy_in(tmp_path / "none", straight), section)
    take_steps(straight, optimizer, 2)
    resumed = copy.deepcopy(straight)
    write_optimizer(tmp_path, optimizer_state(optimizer, straight))
    take_steps(straight, optimizer, 2)
    again = load_optimizer(policy_in(tmp_path, resumed), section)
    assert steps_taken(again) == 2
    take_steps(resumed, again, 2)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    stored = read_optimizer(tmp_path)
    eight_bits = {name for name, value in stored.items() if value.dtype == torch.uint8}
    expected = {f"state{i}/model.embed_tokens.weight" for i in (1, 2)} if kind == "adamw_8bit" else set()
    assert eight_bits == expected


def test_weights_and_state_stay_float32_under_bfloat16(tmp_path: Path) -> None:
    model = random_qwen3()
    optimizer = load_optimizer(policy_in(tmp_path, model), ADAMW)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    take_steps(model, optimizer, 1, "bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {value.dtype for value in optimizer_state(optimizer, model).values()} == {torch.float32}
    # A master weight that bfloat16 could hold would have 16 empty bits at its end.
    moved = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert not torch.equal(moved, torch.cat([p.flatten() for p in start]))
    assert not torch.equal(moved, moved.bfloat16().float())


def test_the_state_of_other_parameters_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    model = random_qwen3()
    optimizer = load_optimizer(policy_in(tmp_path / "none", model), ADAMW)
    take_steps(model, optimizer, 1)
    state = optimizer_state(optimizer, model)
    write_optimizer(tmp_path, state | {"step/lora_A": torch.ones(())})
    with pytest.raises(InputError, match=r"contains step/lora_A, .*update\.lora"):
        load_optimizer(policy_in(tmp_path, model), ADAMW)
    eight = {name.replace("exp_avg_sq", "state2").replace("exp_avg", "state1"): v for name, v in state.items()}
    write_optimizer(tmp_path, eight)
    with pytest.raises(InputError, match=r"update\.optimizer: adamw does not use"):
        load_optimizer(policy_in(tmp_path, model), ADAMW)


def test_eight_bits_without_their_library_are_an_error_that_names_the_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ConfigError, match=r"pip install 'extra-rl\[adam8bit\]'"):
        make_optimizer("adamw_8bit", random_qwen3().parameters(), lr=1.0)


def test_frozen_parameters_have_no_state(tmp_path: Path) -> None:
    model = random_qwen3()
    model.requires_grad_(False)
    model.model.norm.weight.requires_grad_(True)
    optimizer = load_optimizer(policy_in(tmp_path, model), ADAMW)
    take_steps(model, optimizer, 1)
    assert set(optimizer_state(optimizer, model)) == {
        f"{key}/model.norm.weight" for key in ("step", "exp_avg", "exp_avg_sq")
    }


def test_a_state_for_immediate_writing_is_copied_only_where_two_names_share_it(tmp_path: Path) -> None:
    model = random_qwen3()
    optimizer = load_optimizer(policy_in(tmp_path, model), ADAMW)
    take_steps(model, optimizer, 1)
    own = {id(value) for state in optimizer.state.values() for value in state.values()}
    state = optimizer_state(optimizer, model, copy=False)
    assert {id(value) for value in state.values()} <= own
    assert not {id(value) for value in optimizer_state(optimizer, model).values()} & own
    first, second, *_ = optimizer.state.values()
    second["exp_avg_sq"] = second["exp_avg"] = first["exp_avg"]  # as the tables of 8-bit moments are
    write_optimizer(tmp_path, optimizer_state(optimizer, model, copy=False))
    assert len(read_optimizer(tmp_path)) == len(state)


STATE = {"step/w": torch.tensor(3.0), "exp_avg/w": torch.arange(4.0)}


def directory_of(folder: Path, iteration: int) -> Path:
    directory = folder / "extra" / "s0" / f"iteration_{iteration:04d}" / "policy"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def test_a_state_in_a_folder_leaves_a_link_next_to_the_policy(tmp_path: Path) -> None:
    here, memory = directory_of(tmp_path / "run", 3), tmp_path / "memory"
    figures = write_optimizer(here, STATE, memory)
    (stored,) = memory.iterdir()
    assert stored.name.startswith("extra-s0-iteration_0003-")
    assert (here / OPTIMIZER_FILE).is_symlink()
    assert {name: value.tolist() for name, value in read_optimizer(here).items()} == {
        name: value.tolist() for name, value in STATE.items()
    }
    assert figures["optimizer_bytes"] == stored.stat().st_size > 0
    assert figures["optimizer_write_s"] > 0
    write_optimizer(here, STATE, memory)  # again: the same file
    assert [path.name for path in memory.iterdir()] == [stored.name]
    write_optimizer(here, STATE)  # next to the policy again: nothing is left in the folder
    assert list(memory.iterdir()) == []
    assert not (here / OPTIMIZER_FILE).is_symlink()


def test_two_runs_share_a_folder(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    for name, step in (("a", 1.0), ("b", 2.0)):
        write_optimizer(directory_of(tmp_path / name, 0), {"step/w": torch.tensor(step)}, memory)
    steps = [read_optimizer(directory_of(tmp_path / name, 0))["step/w"].item() for name in "ab"]
    assert steps == [1.0, 2.0]


def test_what_a_killed_writer_left_in_the_folder_goes_with_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be memory, and other policies share it."""
    here, other, memory = directory_of(tmp_path / "a", 0), directory_of(tmp_path / "b", 0), tmp_path / "memory"
    write_optimizer(other, STATE, memory)

    def killed(state: object, path: Path) -> None:
        (path.parent / ".tmp8a6ZDQ").write_bytes(b"half")  # as safetensors names it
        os._exit(9)

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", killed)
        if not (child := os.fork()):
            write_optimizer(here, STATE, memory)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list(memory.rglob("*"))) == 3  # the other's, and a folder with a file
    write_optimizer(here, STATE, memory)
    assert sorted(memory.rglob("*")) == sorted((place / OPTIMIZER_FILE).readlink() for place in (here, other))


def test_a_lost_state_is_one_clear_error_and_never_a_fresh_start(tmp_path: Path) -> None:
    here, memory = directory_of(tmp_path, 3), tmp_path / "memory"
    write_optimizer(here, STATE, memory)
    for path in memory.iterdir():
        path.unlink()  # a restart
    with pytest.raises(InputError, match=r"(?s)which is missing.*updates of iterations 0 to 3, without sampling.*`rm "):
        read_optimizer(here)
    assert read_optimizer(directory_of(tmp_path, 9)) == {}


def test_a_copy_of_a_policy_does_not_own_the_state_of_its_original(tmp_path: Path) -> None:
    here, memory = directory_of(tmp_path / "run", 0), tmp_path / "memory"
    write_optimizer(here, STATE, memory)
    copied = directory_of(tmp_path / "copy", 0)
    (copied / OPTIMIZER_FILE).symlink_to((here / OPTIMIZER_FILE).readlink())
    write_optimizer(copied, {"step/w": torch.tensor(9.0)})
    assert read_optimizer(here)["step/w"].item() == 3.0


def test_the_rate_is_the_iteration_s_share_of_the_peak_times_the_warm_up() -> None:
    """Warm-up counts the optimizer's steps of the whole run, decay counts iterations: here half the peak."""
    model = random_qwen3()
    section = settings(learning_rate=1e-2, warmup_steps=4)
    optimizer = make_optimizer("adamw", model.parameters(), lr=1e-2)
    rates = []
    for _ in range(5):
        metrics = Trainer(model, optimizer, section, None, None, 0.5).step(rollouts(model, [1.0, -1.0]))
        assert metrics is not None
        rates.append(metrics["learning_rate"])
    assert rates == pytest.approx([0.00125, 0.0025, 0.00375, 0.005, 0.005])
    assert optimizer.param_groups[0]["lr"] == rates[-1]
