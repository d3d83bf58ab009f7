"""The context of a run: one file in its results folder, found from a stage's outputs, and the defaults without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extra_rl.errors import InputError
from extra_rl.models.retention import Retention
from extra_rl.run.context import CONTEXT_FILE, Guards, Horizon, RunContext
from extra_rl.run.execute import execute
from extra_rl.run.stage import Job
from stages import select
from stages.experiment import experiment_of, job_json, run_context
from tests.stages.test_select import TRAIN

PLACE = Path("results/tiny/extra/s0/iteration_0003")
BY_HAND = RunContext()
CONTEXT = RunContext(
    horizon=Horizon(4, 250_000, 1e15), retention=Retention(3, 2, 5, 1, "/dev/shm/x"), guards=Guards("stop", 0.5, 7)
)


def test_by_hand_nothing_is_removed_nothing_stops_and_the_length_is_unknown() -> None:
    assert BY_HAND.retention is None
    assert BY_HAND.guards == Guards("warn", None, None)
    assert BY_HAND.horizon == Horizon(0, 0, 0.0)


def test_every_stage_of_an_iteration_reads_what_was_written(tmp_path: Path) -> None:
    folder = tmp_path / PLACE
    (tmp_path / "results/tiny").mkdir(parents=True)
    CONTEXT.write(tmp_path / "results/tiny")
    for output in ("select.parquet", "shards/generate_0of4.parquet", "policy/manifest.json"):
        assert RunContext.of_outputs([folder / output]) == CONTEXT
    assert RunContext.of_outputs([tmp_path / "elsewhere" / "table.parquet", folder / "table.parquet"]) == CONTEXT
    CONTEXT.model_copy(update={"retention": None}).write(tmp_path / "results/tiny")
    assert RunContext.of_outputs([folder / "select.parquet"]).retention is None
    assert [path.name for path in (tmp_path / "results/tiny").iterdir()] == [CONTEXT_FILE]  # no temporary file


@pytest.mark.parametrize(
    "output",
    ["out/select.parquet", "results/tiny/warm_start/warm_start.parquet", "results/other/a/s0/iteration_0001/t.parquet"],
)
def test_files_outside_the_iterations_of_a_run_have_the_defaults(tmp_path: Path, output: str) -> None:
    (tmp_path / "results/tiny").mkdir(parents=True)
    CONTEXT.write(tmp_path / "results/tiny")
    assert RunContext.of_outputs([tmp_path / output]) == BY_HAND


def test_a_relative_path_is_found_from_within_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / PLACE).mkdir(parents=True)
    CONTEXT.write(tmp_path / "results/tiny")
    monkeypatch.chdir(tmp_path / PLACE)
    assert RunContext.of_outputs([Path("select.parquet")]) == CONTEXT


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "Invalid JSON"),
        ('{"horizon": {"iterations": 4', "Invalid JSON"),
        ('{"horizon": {"iterations": "many"}}', r"horizon\.iterations: "),
        ('{"guards": {"on_mismatch": "ignore"}}', r"guards\.on_mismatch: "),
        ('{"retention": {"weights_every": 1}}', r"retention\.optimizer_states: "),
        ('{"retentions": null}', "retentions: unknown key"),
        ('{"guards": {"stop": 1}}', r"guards\.stop: "),
    ],
)
def test_a_damaged_file_gives_one_error_with_the_remedy(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "results/tiny" / CONTEXT_FILE
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match=rf"{path}: .*{found}.*Delete it and run snakemake") as error:
        RunContext.of_outputs([tmp_path / PLACE / "select.parquet"])
    assert len(str(error.value).splitlines()) == 1


def test_a_stage_gets_the_context_of_its_run_and_no_byte_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from extra_rl.tables import contracts
    from extra_rl.tables.files import write_table

    write_table(TRAIN, tmp_path / "train.parquet", contracts.Problems, {})
    seen: list[RunContext] = []
    original = select.run

    def noted(inputs: Any, config: Any, context: Any) -> Any:
        seen.append(context.run)
        return original(inputs, config, context)

    job = Job("select", select.STAGE.version, 0, {}, "extra", 3, derived={"rounds": 1})
    tables = []
    for folder, context in (("with", CONTEXT), ("without", None)):
        results = tmp_path / folder / "results" / "tiny"
        results.mkdir(parents=True)
        if context:
            context.write(results)
        output = tmp_path / folder / PLACE / "select.parquet"
        inputs = {"train": tmp_path / "train.parquet"}
        execute(select.STAGE, select.Config, noted, job, inputs, {"select": output}, None)
        tables.append(output.read_bytes())
    assert seen == [CONTEXT, BY_HAND]
    assert tables[0] == tables[1]


def test_the_context_has_the_keys_of_the_run_and_no_job_has_them() -> None:
    minimal: dict[str, Any] = {"name": "mini", "iterations": 2, "arms": {"grpo": {}}}
    arms = {"grpo": {"select": {"compute_budget": 1e15}}, "extra": {"select": {"token_budget": 1000}}}
    changes = {
        "iterations": 9,
        "evaluate_every": 4,
        "first_iteration": 1,
        "retention": {"weights_every": 3, "optimizer_states": 2, "optimizer_folder": "/dev/shm/x"},
    }
    plain, changed = experiment_of(minimal), experiment_of(minimal | changes)
    for stage in ("select", "update", "summarize", "compare"):
        place = {} if stage == "compare" else {"arm": "grpo", "seed": "0", "iteration": "0001"}
        assert job_json(plain, stage, place) == job_json(changed, stage, place)
    assert run_context(plain).retention == Retention(1, 0, 0, 0)
    assert run_context(changed).retention == Retention(3, 2, 4, 1, "/dev/shm/x")
    assert run_context(experiment_of(minimal | {"arms": arms})).horizon == Horizon(2, 1000, 1e15)
