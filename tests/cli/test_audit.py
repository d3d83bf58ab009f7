"""extra audit: a run that was made without a second judge is judged again from its own files and records."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import polars as pl
import pytest

from extra_cli.main import main
from extra_rl.tables.files import read_provenance
from tests.conftest import Run, copy_of


def iteration(run: Run) -> Path:
    return run.results / "extra" / "s0" / "iteration_0001"


def yes(folder: Path) -> str:
    """A judge that accepts everything."""
    file = folder / "yes.py"
    file.write_text(
        "import json, sys\n"
        "for row in map(json.loads, sys.stdin): print(json.dumps({'id': row['id'], 'verdict': 'right'}))\n"
    )
    return shlex.join([sys.executable, str(file)])


def not_right(folder: Path) -> list[str]:
    table = pl.read_parquet(folder / "verify_generate.parquet")
    return table.filter(pl.col("verdict") != "right")["rollout_id"].to_list()


def lucky(folder: Path) -> list[str]:
    """Incorrect rollouts whose last number is the reference answer, which the string judge accepts."""
    table = pl.read_parquet(folder / "verify_generate.parquet")
    return table.filter((pl.col("extracted") == pl.col("gold")) & (pl.col("verdict") != "right"))[
        "rollout_id"
    ].to_list()


def test_it_writes_the_table_of_the_stage_next_to_the_rollouts(
    mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From another directory, and in a copy: the record's paths start where the run was once made."""
    folder = iteration(copy_of(mini_run, tmp_path / "copy"))
    monkeypatch.chdir(tmp_path)
    assert main(["audit", str(folder), "--judge", yes(tmp_path)]) == 0
    found = pl.read_parquet(folder / "audit_generate.parquet")
    assert found["rollout_id"].to_list() == not_right(folder) != []
    assert len(pl.read_parquet(folder / "audit_regenerate.parquet")) == 0
    said = capsys.readouterr().out
    assert f"disagrees on {len(found)}: 0 correct for the first judge only, {len(found)} for the second only" in said
    footer = read_provenance(folder / "audit_generate.parquet")
    assert footer["name"] == "extra/s0/i1/audit_generate"
    assert footer["job"]["config"]["verifier"] == json.loads(record_of(folder)["job"])["config"]["verifier"]


def record_of(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "verify_generate.run.json").read_text())
    return found


def test_several_iterations_are_written_to_separate_folders(mini_run: Run, tmp_path: Path) -> None:
    folders = [iteration(mini_run), mini_run.results / "grpo" / "s0" / "iteration_0000"]
    before = sorted(p.name for p in folders[0].iterdir())
    assert main(["audit", *map(str, folders), "--judge", "string", "--workers", "2", "--to", str(tmp_path)]) == 0
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.parquet")) == [
        f"{place}/audit_{of}.parquet" for place in ("extra/s0/i1", "grpo/s0/i0") for of in ("generate", "regenerate")
    ]
    assert sorted(p.name for p in folders[0].iterdir()) == before


def test_the_table_of_another_judge_is_not_overwritten(
    mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["audit", str(iteration(mini_run)), "--to", str(tmp_path), "--judge"]
    assert main([*arguments, "string"]) == 0
    made = tmp_path / "extra/s0/i1/audit_generate.parquet"
    assert pl.read_parquet(made)["rollout_id"].to_list() == lucky(iteration(mini_run))
    before = made.read_bytes()
    assert main([*arguments, "sympy_only"]) == 2
    assert "contains the disagreements of the judge 'string'" in capsys.readouterr().err
    assert main([*arguments, "string"]) == 0
    assert made.read_bytes() == before


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("none", "audit.judge is none"),
        ("", "name a judge"),
        ("false", "the judge `false` ended with exit code 1"),
        ("echo hello", "wrote in line 1 no JSON: b'hello'"),
    ],
)
def test_a_judge_that_fails_writes_nothing(
    judge: str, message: str, mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(iteration(mini_run)), "--judge", judge, "--to", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_folder_without_an_iteration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(tmp_path), "--judge", "string"]) == 2
    assert "no verify_generate.parquet" in capsys.readouterr().err


def test_problems_elsewhere_are_named_with_train(
    mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An iteration's folder alone, far from its run."""
    folder = tmp_path / "alone"
    folder.mkdir()
    for file in iteration(mini_run).glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert main(["audit", str(folder), "--judge", "string"]) == 2
    assert "prepare/train.parquet: no such file" in capsys.readouterr().err
    train = mini_run.results / "prepare" / "train.parquet"
    assert main(["audit", str(folder), "--judge", "string", "--train", str(train)]) == 0
    assert (folder / "audit_generate.parquet").is_file()
