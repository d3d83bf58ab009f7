"""The project's own configurations that need no data from elsewhere build their DAG; two files merge as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from extra_rl.config.files import read_yaml
from stages.experiment import experiment_of
from tests.conftest import ROOT, Run

EXPLORATORY = {
    "published": (0, 3),
    "countdown": (0, 3),
    "development": (0, 2),
    "smollm2": (24, 1),
    "exploration_smollm2": (6, 3),  # frozen, with too few seeds for a test
}
"""Files whose comparisons carry no test: tests, seeds."""
CONFIRMING = {
    "starvation": (34, 12),
    "exploration": (84, 12),
    "exploration_countdown": (32, 12),
    "exploration_guard": (16, 12),
}


@pytest.mark.parametrize("name", ["tiny", "mixed", "countdown", "smollm2"])
def test_an_offline_configuration_builds_its_dag(name: str, tmp_path: Path) -> None:
    done = Run(tmp_path, ROOT / "config" / f"{name}.yaml").snakemake("--dry-run", "--quiet")
    assert done.returncode == 0


def test_the_grids_have_enough_seeds_for_their_tests() -> None:
    """Holm's least p with all signs alike stays below 0.05 (docs/statistics.md); the exploratory files name nothing."""
    tests = {}
    for name in ("experiment", *EXPLORATORY, *CONFIRMING):
        experiment = experiment_of(read_yaml(ROOT / "config" / f"{name}.yaml"))
        compare = experiment.common["compare"]
        cells = [cell.split("-", 1) if "-" in cell else ["", cell] for cell in experiment.arms]
        named = [comparison.split(" - ") for comparison in compare["comparisons"]]
        regimes = {regime for regime, _ in cells}
        both = sum([r, arm] in cells and [r, base] in cells for r in regimes for arm, base in named)
        tests[name] = (both * len(compare["ks"]), len(experiment.run.seeds))
    assert tests == {"experiment": (6, 3)} | CONFIRMING | EXPLORATORY
    for count, seeds in CONFIRMING.values():
        assert count * 2 / 2**seeds < 0.05


def test_a_second_file_is_merged_over_the_first(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\niterations: 2\nselect: {prompts: 5}\n")
    run = Run(tmp_path, ROOT / "config" / "tiny.yaml")
    command = run.command("--dry-run", "--workflow-profile", "none", "--printshellcmds")
    at = command.index("--configfile")
    said = Run(tmp_path, mine).snakemake(
        "--configfile", command[at + 1], str(mine), "--dry-run", "--workflow-profile", "none", "--printshellcmds"
    )
    assert '"prompts":5' in said.stdout
    assert '"compute_budget":80000000000.0' in said.stdout  # of the first file's section
    assert "results/mine/extra/s0/iteration_0001/select.parquet" in said.stdout
    assert "iteration_0002" not in said.stdout
