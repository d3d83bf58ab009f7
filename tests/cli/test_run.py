"""extra run: the command line of Snakemake that it becomes, and what it refuses before."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from extra_cli.main import main
from extra_cli.run import command_of
from extra_rl.errors import ConfigError

CORES = str(len(os.sched_getaffinity(0)))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "Snakefile").write_text("")
    (tmp_path / "config").mkdir()
    for name in ("tiny", "mine"):
        (tmp_path / "config" / f"{name}.yaml").write_text(f"name: {name}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], ["--cores", CORES]),
        (["-n"], ["--cores", CORES, "-n"]),
        (["config/tiny.yaml"], ["--cores", CORES, "--configfile", "config/tiny.yaml"]),
        (
            ["config/tiny.yaml", "config/mine.yaml", "--cores", "2", "-n"],
            ["--configfile", "config/tiny.yaml", "config/mine.yaml", "--cores", "2", "-n"],
        ),
        (["config/tiny.yaml", "-c1"], ["--configfile", "config/tiny.yaml", "-c1"]),
        (
            ["config/tiny.yaml", "results/tiny/summary.json", "--config", "seeds=[0, 1]"],
            [
                *("--cores", CORES, "--configfile", "config/tiny.yaml", "--config", "seeds=[0, 1]"),
                *("--", "results/tiny/summary.json"),
            ],
        ),
        (
            ["config/tiny.yaml", "--forcerun", "a", "b", "--", "evaluate"],
            ["--cores", CORES, "--configfile", "config/tiny.yaml", "--forcerun", "a", "b", "--", "evaluate"],
        ),
        (["evaluate", "--cores=4"], ["--cores=4", "--", "evaluate"]),
    ],
)
def test_the_command_of_snakemake(
    words: list[str], command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_of(words) == ["snakemake", *command]
    started: list[object] = []
    monkeypatch.setattr(os, "execv", lambda program, line: started.append((program, line)))
    main(["run", *words])
    assert started == [(sys.executable, [sys.executable, "-m", "snakemake", *command])]
    assert capsys.readouterr().out.startswith("snakemake ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["config/tinny.yaml"], "config/tinny.yaml: no such configuration file; did you mean `config/tiny.yaml`?"),
        (["config/broken.yaml", "-n"], "config/broken.yaml: not valid YAML"),
        (["config/empty.yaml"], "config/empty.yaml: the file is empty"),
        (["config/twice.yaml"], "line 2: name is given on line 1 already"),
        (["-n", "--configfile", "config/tiny.yaml"], "--configfile: name configurations without it"),
        (["-n", "--configfile=config/tiny.yaml"], "name configurations without it"),
    ],
)
def test_what_snakemake_could_not_read(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config/broken.yaml").write_text("\ta: 1")
    Path("config/empty.yaml").write_text("")
    Path("config/twice.yaml").write_text("name: a\nname: b\n")
    assert main(["run", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("extra run: ")


def test_a_folder_without_a_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match="no workflow here"):
        command_of([])
    assert command_of(["-s", "../workflow/Snakefile"]) == [
        *("snakemake", "--cores", CORES, "-s", "../workflow/Snakefile"),
    ]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    assert "extra run config/tiny.yaml" in capsys.readouterr().out
