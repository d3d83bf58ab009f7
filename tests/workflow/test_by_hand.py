"""A stage that is run by hand on the files of a finished run writes the same bytes as the workflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from extra_rl.run.execute import record_path
from stages import STAGES
from stages.command import main
from stages.load import load
from tests.conftest import Run, environment

EXTRA = "results/mini/extra/s0"
MADE = (
    ("prepare", "results/mini/prepare/train"),
    ("warm_start", "results/mini/warm_start/warm_start"),
    ("select", f"{EXTRA}/iteration_0001/select"),
    ("generate", f"{EXTRA}/iteration_0001/generate"),
    ("verify", f"{EXTRA}/iteration_0001/verify_generate"),
    ("verify", f"{EXTRA}/iteration_0001/verify_regenerate"),
    ("score_entropy", f"{EXTRA}/iteration_0001/score_entropy_generate"),
    ("score_entropy", f"{EXTRA}/iteration_0001/score_entropy_regenerate"),
    ("choose_prefixes", f"{EXTRA}/iteration_0001/choose_prefixes"),
    ("regenerate", f"{EXTRA}/iteration_0001/regenerate"),
    ("novelty", f"{EXTRA}/iteration_0001/novelty"),
    ("advantage", f"{EXTRA}/iteration_0001/advantage"),
    ("update", f"{EXTRA}/iteration_0001/update"),
    ("summarize", f"{EXTRA}/iteration_0001/summarize"),
    ("evaluate", f"{EXTRA}/iteration_0002/evaluate"),
    ("compare", "results/mini/compare"),
)
"""Stage and the first file that it wrote, for every stage, from one iteration where possible."""

RAN = set(STAGES) - {"audit", "gather"}
"""The run names no second judge and has no shards; these run in test_audit.py and test_shards.py."""


def test_every_stage_is_run_by_hand() -> None:
    assert {stage for stage, _ in MADE} == RAN


@pytest.mark.parametrize(("stage", "file"), MADE, ids=[Path(file).name for _, file in MADE])
def test_same_bytes_as_the_workflow(
    mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, file: str
) -> None:
    monkeypatch.chdir(mini_run.workdir)
    assert main([stage, "--rerun", f"{file}.parquet", "--to", str(tmp_path)]) == 0
    assert_same_outputs(Path(f"{file}.parquet"), tmp_path)


def test_cold_update_gives_the_bytes_of_the_warm_one(mini_run: Run, tmp_path: Path) -> None:
    """In a separate process with another OMP_NUM_THREADS, which must not change the sums."""
    file = Path(f"{EXTRA}/iteration_0001/update.parquet")
    command = [sys.executable, "-m", "stages", "update", "--rerun", str(file), "--to", str(tmp_path)]
    env = environment() | {"OMP_NUM_THREADS": "2"}
    subprocess.run(command, cwd=mini_run.workdir, env=env, check=True)
    os.chdir(mini_run.workdir)
    assert_same_outputs(file, tmp_path)
    assert json.loads((tmp_path / "update.run.json").read_text())["warm"] is False


def assert_same_outputs(file: Path, made: Path) -> None:
    """Check that `made` contains the bytes of everything that the stage of `file` wrote, weights included."""
    outputs = [Path(path) for path in json.loads(record_path(file).read_text())["outputs"].values()]
    outputs = [path for path in outputs if path.name != "summary.json"]  # it says how long the run took
    for path in outputs:
        folder = "policy" if path.name == "manifest.json" else "."
        siblings = path.parent.iterdir() if folder == "policy" else [path]
        for sibling in siblings:
            if sibling.name.startswith("."):  # when a file was checked is no content
                continue
            assert (made / folder / sibling.name).read_bytes() == sibling.read_bytes(), sibling


def test_the_workflow_ran_warm(mini_run: Run) -> None:
    records = [json.loads(path.read_text()) for path in mini_run.results.rglob("*.run.json")]
    assert {record["stage"] for record in records} == RAN
    assert all(record["warm"] for record in records)


def test_set_changes_the_section(
    mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mini_run.workdir)
    file = "results/mini/grpo/s0/iteration_0000/novelty.parquet"
    assert pl.read_parquet(file)["novelty"].max() == 0
    settings = ["measure=lexical", "params.n=2"]
    assert main(["novelty", "--rerun", file, "--to", str(tmp_path), "--set", *settings]) == 0
    table = pl.read_parquet(tmp_path / "novelty.parquet")
    assert table["novelty"].max() > 0
    assert f"wrote {tmp_path / 'novelty.parquet'} ({len(table)} rows)" in capsys.readouterr().out
    job = json.loads(json.loads((tmp_path / "novelty.run.json").read_text())["job"])
    assert (job["config"]["measure"], job["config"]["params"]) == ("lexical", {"n": 2})


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("mesure=lexical", "novelty.mesure: unknown key; did you mean `measure`?"),
        ("measure=lexicon", "unknown measure 'lexicon'; there are "),
        ("measure.n=2", "--set measure.n=2: `measure` is a value without keys."),
        ("measure", "--set measure: expected KEY=VALUE."),
        ("params={n", "--set params={n: not a YAML value"),
    ],
)
def test_a_bad_setting_is_refused(
    mini_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    said: str,
) -> None:
    monkeypatch.chdir(mini_run.workdir)
    file = "results/mini/grpo/s0/iteration_0000/novelty.parquet"
    assert main(["novelty", "--rerun", file, "--to", str(tmp_path), "--set", setting]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", STAGES)
def test_help_explains_the_stage_and_its_fields(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    module = load(name)
    assert module.__doc__.strip() in shown
    for field, info in module.Config.model_fields.items():
        assert f"  {field}: {info.description} (" in shown


def test_the_overview_names_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in STAGES)
    assert main(["novlety"]) == 2
    assert "there is no stage 'novlety'; the stages are prepare, " in capsys.readouterr().err
