"""What a stage refuses among its inputs, and that it writes nothing then: tables of other cells, changed weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.config.section import StageConfig
from extra_rl.errors import InputError
from extra_rl.run.execute import execute
from extra_rl.run.stage import Context, Inputs, Job, PolicyDirectory, Stage
from extra_rl.tables import contracts
from tests.run.small_run import TABLE, flip_bit, small_run, swap


class Config(StageConfig):
    """No keys."""


STAGE = Stage(
    name="judge",
    version=1,
    reads={"verdicts": contracts.Verdicts, "policy": PolicyDirectory},
    writes={"judge": contracts.Verdicts},
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return small_run(tmp_path / "results" / "small")


def iteration(results: Path, arm: str = "extra") -> Path:
    return results / arm / "s0" / "iteration_0001"


def judge(results: Path, during: Any = None) -> Path:
    """Runs a stage that reads a table and a policy; during: called while it runs."""

    def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
        if during:
            during()
        return {"judge": inputs["verdicts"]}

    here = iteration(results)
    inputs = {"verdicts": here / "verify_generate.parquet", "policy": here / "policy" / "manifest.json"}
    output = results / "judge.parquet"
    execute(STAGE, Config, run, Job("judge", 1, 0, {}, "extra", 1), inputs, {"judge": output}, None)
    return output


def test_inputs_in_their_places_are_taken(results: Path) -> None:
    assert pl.read_parquet(judge(results)).equals(TABLE)


@pytest.mark.parametrize("other", ["grpo/s0/iteration_0001", "extra/s0/iteration_0000"])
def test_a_table_swapped_with_another_arm_or_iteration_is_refused(results: Path, other: str) -> None:
    swap(iteration(results) / "verify_generate.parquet", results / other / "verify_generate.parquet")
    arm, _, number = other.split("/")
    name = f"{arm}/s0/i{int(number[-4:])}/verify_generate"
    with pytest.raises(InputError, match=f"holds {name} by its footer; extra/s0/i1/verify_generate belongs there"):
        judge(results)
    assert not (results / "judge.parquet").exists()


def test_a_policy_of_another_arm_is_refused(results: Path) -> None:
    mine, other = iteration(results) / "policy", iteration(results, "grpo") / "policy"
    for path in other.iterdir():
        (mine / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="holds grpo/s0/i1/policy by its footer; extra/s0/i1/policy belongs there"):
        judge(results)


def test_a_damaged_table_is_refused(results: Path) -> None:
    flip_bit(iteration(results) / "verify_generate.parquet", 0.03)
    with pytest.raises(InputError, match="its bytes have changed since it was written"):
        judge(results)


def test_weights_that_change_while_the_stage_runs_leave_no_output(results: Path) -> None:
    weights = iteration(results) / "policy" / "model.safetensors"
    with pytest.raises(InputError, match=r"model\.safetensors is not the file"):
        judge(results, lambda: flip_bit(weights))
    assert not (results / "judge.parquet").exists()
