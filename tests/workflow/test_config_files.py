"""The project's own configurations that need no data from elsewhere build their DAG; two files merge as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT, Run


@pytest.mark.parametrize("name", ["tiny", "countdown"])
def test_an_offline_configuration_builds_its_dag(name: str, tmp_path: Path) -> None:
    done = Run(tmp_path, ROOT / "config" / f"{name}.yaml").snakemake("--dry-run", "--quiet")
    assert done.returncode == 0


def test_a_second_file_goes_on_top_of_the_first(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\niterations: 2\nselect: {prompts: 5}\n")
    run = Run(tmp_path, ROOT / "config" / "tiny.yaml")
    command = run.command("--dry-run", "--workflow-profile", "none", "--printshellcmds")
    at = command.index("--configfile")
    said = Run(tmp_path, mine).snakemake(
        "--configfile", command[at + 1], str(mine), "--dry-run", "--workflow-profile", "none", "--printshellcmds"
    )
    assert '"prompts":5' in said.stdout
    assert '"token_budget":250000' in said.stdout  # of the first file's section
    assert "results/mine/extra/s0/iteration_0001/select.parquet" in said.stdout
    assert "iteration_0002" not in said.stdout
