"""The runner of a stage: stale inputs are refused, outputs are complete or absent, footers record provenance."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from extra_rl.config.section import StageConfig
from extra_rl.config.sections import SHARED
from extra_rl.errors import ConfigError, ContractError, InputError
from extra_rl.run.execute import execute
from extra_rl.run.stage import Job
from extra_rl.tables import contracts
from extra_rl.tables.files import read_digest, read_provenance, read_table, write_table
from stages import advantage, verify
from tests.stages.rows import Row, frame, problem, run_stage, tables_of

TRAIN = frame(contracts.Problems, [problem("seven")])
RIGHT = Row("extra/s0/i0/0/0", problem_id="seven", response="3 + 4 = 7")
WRONG = Row("extra/s0/i0/0/0", problem_id="seven", response="3 + 4 = 8")
CONTRACTS = advantage.STAGE.reads


def job(module: ModuleType, **changes: Any) -> Job:
    shared: dict[str, Any] = {name: {} for name in SHARED if name in module.Config.model_fields}
    return Job(module.STAGE.name, module.STAGE.version, 0, shared, "extra", 0, **changes)


def put(path: Path, table: pl.DataFrame, contract: Any) -> Path:
    write_table(table, path, contract, {"name": f"extra/s0/i0/{path.stem}"})
    return path


def verified(folder: Path, row: Row, module: ModuleType = verify) -> Path:
    """A verify table that the runner wrote."""
    inputs = {
        "rollouts": put(folder / "generate.parquet", tables_of([row])["generate"], contracts.Rollouts),
        "train": put(folder / "train.parquet", TRAIN, contracts.Problems),
    }
    output = folder / "verify_generate.parquet"
    execute(module.STAGE, module.Config, module.run, job(module), inputs, {"verify": output}, None)
    return output


def inputs_of_advantage(folder: Path, verify_generate: Path) -> dict[str, Path]:
    """The other files that advantage reads, in addition to the given verdicts."""
    tables = tables_of([RIGHT])
    names = [role for role in CONTRACTS if not role.endswith("?") and role != "verify_generate"]
    made = {name: put(folder / f"{name}.parquet", tables[name], CONTRACTS[name]) for name in names}
    return made | {"verify_generate": verify_generate}


def run_advantage(folder: Path, inputs: dict[str, Path]) -> Path:
    output = folder / "advantage.parquet"
    execute(advantage.STAGE, advantage.Config, advantage.run, job(advantage), inputs, {"advantage": output}, None)
    return output


def test_consistent_inputs_are_accepted(tmp_path: Path) -> None:
    inputs = inputs_of_advantage(tmp_path, verified(tmp_path, RIGHT))
    assert read_table(run_advantage(tmp_path, inputs), contracts.Advantages)["reward"].to_list() == [1.0]


def test_verdicts_of_another_generate_table_are_refused(tmp_path: Path) -> None:
    foreign = verified(tmp_path / "rolled_back", WRONG)
    inputs = inputs_of_advantage(tmp_path, foreign)
    with pytest.raises(InputError, match="was made from another version of") as raised:
        run_advantage(tmp_path, inputs)
    assert str(foreign) in str(raised.value)
    assert str(inputs["generate"]) in str(raised.value)
    assert not (tmp_path / "advantage.parquet").exists()


def test_a_rewritten_table_makes_dependent_tables_stale_unless_its_bytes_are_equal(tmp_path: Path) -> None:
    inputs = inputs_of_advantage(tmp_path, verified(tmp_path, RIGHT))
    put(inputs["generate"], tables_of([RIGHT])["generate"], contracts.Rollouts)
    run_advantage(tmp_path, inputs)
    put(inputs["generate"], tables_of([WRONG])["generate"], contracts.Rollouts)
    with pytest.raises(InputError, match="another version"):
        run_advantage(tmp_path, inputs)


def test_the_footer_contains_only_reproducible_values(tmp_path: Path) -> None:
    output = verified(tmp_path, RIGHT)
    footer = read_provenance(output)
    assert footer["name"] == "extra/s0/i0/verify_generate"
    assert (footer["job"]["stage"], footer["job"]["seed"], footer["job"]["arm"]) == ("verify", 0, "extra")
    assert footer["inputs"]["rollouts"] == {
        "name": "extra/s0/i0/generate",
        "digest": read_digest(tmp_path / "generate.parquet"),
    }
    assert footer["packages"]["polars"] == pl.__version__
    assert set(footer) == {"name", "job", "inputs", "packages"}
    again = verified(tmp_path / "elsewhere", RIGHT)
    assert again.read_bytes() == output.read_bytes()
    record = json.loads((tmp_path / "verify_generate.run.json").read_text())
    assert 0 < record["run_s"] <= record["wall_s"]
    assert record["inputs"]["rollouts"] == str(tmp_path / "generate.parquet")
    assert record["figures"] == {}


def test_figures_of_a_stage_are_in_its_record_and_in_no_byte_of_its_table(tmp_path: Path) -> None:
    class Timed(ModuleType):
        STAGE, Config = verify.STAGE, verify.Config

        @staticmethod
        def run(inputs: Any, config: Any, context: Any) -> Any:
            context.figures["opening_s"] = 0.25
            return verify.run(inputs, config, context)

    timed = verified(tmp_path / "timed", RIGHT, Timed("timed"))
    assert json.loads((tmp_path / "timed" / "verify_generate.run.json").read_text())["figures"] == {"opening_s": 0.25}
    assert timed.read_bytes() == verified(tmp_path / "plain", RIGHT).read_bytes()


def test_a_stage_that_fails_leaves_no_output(tmp_path: Path) -> None:
    stranger = Row("extra/s0/i0/0/0", problem_id="eleven")
    with pytest.raises(ContractError, match="eleven"):
        verified(tmp_path, stranger)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generate.parquet", "train.parquet"]


def test_a_stage_that_breaks_its_own_contract_leaves_no_output(tmp_path: Path) -> None:
    class Broken(ModuleType):
        STAGE, Config = verify.STAGE, verify.Config

        @staticmethod
        def run(*arguments: Any) -> dict[str, pl.DataFrame]:
            made = verify.run(*arguments)["verify"]
            return {"verify": made.with_columns(reward=pl.lit(float("nan"), pl.Float32))}

    with pytest.raises(ContractError, match=r"verify_generate.parquet.*\n.*column reward"):
        verified(tmp_path, RIGHT, Broken("broken"))
    assert not (tmp_path / "verify_generate.parquet").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rollouts": None}, "missing: rollouts"),
        ({"policy": "x"}, "unknown: policy"),
        ({"train": "missing.parquet"}, r"missing\.parquet: no such file"),
    ],
)
def test_wrong_roles_and_missing_files_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    verified(tmp_path, RIGHT)
    paths = {"rollouts": tmp_path / "generate.parquet", "train": tmp_path / "train.parquet"}
    for role, name in change.items():
        if name is None:
            del paths[role]
        else:
            paths[role] = tmp_path / name
    with pytest.raises((ConfigError, InputError), match=message):
        execute(verify.STAGE, verify.Config, verify.run, job(verify), paths, {"verify": tmp_path / "v.parquet"}, None)


def test_a_job_of_another_version_or_stage_is_refused(tmp_path: Path) -> None:
    for stage, version in (("verify", verify.STAGE.version + 1), ("novelty", verify.STAGE.version)):
        foreign = Job(stage, version, 0, job(verify).config, "extra", 0)
        with pytest.raises(ConfigError, match=f"the job is for {stage} version {version}"):
            execute(verify.STAGE, verify.Config, verify.run, foreign, {}, {}, None)


def test_every_key_of_a_section_that_is_not_known_is_named() -> None:
    with pytest.raises(ConfigError, match=r"advantage\.wieght: unknown key; did you mean `weight`\?"):
        run_stage(advantage, {}, {"wieght": 0.1})
    assert issubclass(advantage.Config, StageConfig)


def test_an_interrupted_command_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(module: str, argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("extra_rl.worker.client.run", interrupted)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("stages", run_name="__main__")
    assert ended.value.code == 130
