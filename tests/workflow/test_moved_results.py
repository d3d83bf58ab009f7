"""Results that were copied without Snakemake's records, swapped or thinned out by hand: nothing is mixed silently."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import Run, copy_of
from tests.run.small_run import swap

FIRST = "results/mini/extra/s0/iteration_0000/update.parquet"


@pytest.fixture
def run(mini_run: Run, tmp_path: Path) -> Run:
    return copy_of(mini_run, tmp_path / "run")


def without_records(run: Run) -> Run:
    shutil.rmtree(run.workdir / ".snakemake")
    return run


def learn_faster(run: Run) -> None:
    config = yaml.safe_load(run.config.read_text())
    config["update"]["learning_rate"] = 0.03
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))


def dry_run(run: Run, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run.snakemake("--dry-run", "--quiet", "host", *arguments, check=False)


def outputs(done: subprocess.CompletedProcess[str]) -> set[str]:
    lines = re.findall(r"^    output: (.*)$", done.stdout, flags=re.MULTILINE)
    return {path for line in lines for path in line.split(", ")}


def test_an_unchanged_configuration_takes_copied_results(run: Run) -> None:
    done = dry_run(without_records(run))
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout


@pytest.mark.parametrize("arguments", [["--dry-run"], []], ids=["dry run", "run"])
def test_another_configuration_is_refused_and_named(run: Run, arguments: list[str]) -> None:
    """Nothing is left to do by Snakemake's account, so no handler of the Snakefile would be called."""
    learn_faster(without_records(run))
    done = run.snakemake(*arguments, check=False)
    assert done.returncode == 2
    assert f"  {FIRST} and 11 more: update.learning_rate: 0.0003, now 0.03\n" in done.stderr
    assert "Traceback" not in done.stderr
    command = done.stderr.strip().splitlines()[-1]
    assert command.endswith(f"--forcerun {FIRST} {FIRST.replace('extra', 'grpo')}")
    forced = dry_run(run, *command.partition("--cores 2 ")[2].replace("--dry-run ", "").split())
    assert forced.returncode == 0, forced.stderr
    assert FIRST in outputs(forced)
    assert len([path for path in outputs(forced) if path.endswith("update.parquet")]) == 6


def test_with_snakemake_s_records_the_same_change_is_an_ordinary_run(run: Run) -> None:
    learn_faster(run)
    done = dry_run(run)
    assert done.returncode == 0, done.stderr
    assert FIRST in outputs(done)


def test_tables_swapped_between_arms_are_refused_in_a_finished_run(run: Run) -> None:
    swap(*(run.results / arm / "s0" / "iteration_0001" / "verify_generate.parquet" for arm in ("extra", "grpo")))
    done = dry_run(run, "--rerun-triggers", "params")
    assert done.returncode == 2
    assert "grpo/s0/i1/verify_generate by its footer, which belongs elsewhere" in done.stderr


def test_a_table_that_is_gone_is_noted_and_made_when_asked_for(run: Run) -> None:
    lost = run.results / "extra" / "s0" / "iteration_0001" / "novelty.parquet"
    lost.unlink()
    named = str(lost.relative_to(run.workdir))
    done = dry_run(run)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout
    assert "NOTE: 1 file(s) of finished stages are missing." in done.stderr
    assert f" -- {named}" in done.stderr
    asked = dry_run(run, "--", named)
    assert outputs(asked) == {named, named.replace("novelty", "novelty_memory")}
