"""Retention in a real run: the same results on less disk after any interruption, and restoring removed policies."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from extra_rl.models.policy import OPTIMIZER_FILE
from tests.conftest import Run, environment, new_run
from tests.workflow.processes import RunningWorkflow, tables_and_policies

pytestmark = pytest.mark.slow

ITERATIONS = 5
PLACE = "extra/s0"
KEEP = {"weights_every": 2, "optimizer_states": 2}


def a_run(workdir: Path, **changes: object) -> Run:
    """One arm without a token budget, so that every iteration may take steps, and without a model of embeddings."""
    arm = {"preset": "prototype", "novelty": {"measure": "lexical"}}
    common = {"iterations": ITERATIONS, "select": {"token_budget": None}, "arms": {"extra": arm}}
    return new_run(workdir, **{**common, **changes})


def reconfigure(run: Run, **changes: object) -> None:
    config = yaml.safe_load(run.config.read_text()) | changes
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))


def with_file(run: Run, name: str) -> list[int]:
    return sorted(int(path.parents[1].name[-4:]) for path in (run.results / PLACE).glob(f"*/policy/{name}"))


def nothing_to_do(run: Run) -> bool:
    return "Nothing to be done" in run.snakemake("--dry-run").stdout


def test_retention_changes_no_result_and_removed_policies_can_be_restored(tmp_path: Path) -> None:
    whole, thinned = a_run(tmp_path / "whole"), a_run(tmp_path / "thinned", iterations=ITERATIONS - 1, retention=KEEP)
    whole.snakemake()
    assert with_file(whole, "model.safetensors") == with_file(whole, OPTIMIZER_FILE) == list(range(ITERATIONS))
    for moment in ("iteration_0001/policy/manifest.json", "iteration_0000/policy/removed.json"):
        with RunningWorkflow(thinned) as running:
            running.wait_for((thinned.results / PLACE / moment).exists)
            running.kill_group(signal.SIGKILL)
            assert running.wait() != 0
    thinned.snakemake()
    assert (with_file(thinned, "model.safetensors"), with_file(thinned, OPTIMIZER_FILE)) == ([1, 2, 3], [2, 3])
    assert nothing_to_do(thinned)

    reconfigure(thinned, iterations=ITERATIONS)  # four iterations become five
    thinned.snakemake()
    assert (with_file(thinned, "model.safetensors"), with_file(thinned, OPTIMIZER_FILE)) == ([1, 3, 4], [3, 4])
    assert nothing_to_do(thinned)
    equal_except_for_removed_files(whole, thinned)

    reconfigure(thinned, retention=KEEP | {"weights_every": 3})  # other settings run nothing again
    assert nothing_to_do(thinned)

    reconfigure(thinned, evaluate_every=3)  # evaluations of policies that are gone: the message tells how to go on
    refused = thinned.snakemake(check=False)
    assert refused.returncode != 0
    found = re.search(r"iteration_0002/policy/model\.safetensors was removed .*", refused.stdout + refused.stderr)
    assert found, refused.stderr
    follow(found[0], thinned)
    assert "evaluate.parquet" in thinned.snakemake("--dry-run", "--quiet", "host").stdout
    made = thinned.snakemake(f"results/mini/{PLACE}/iteration_0002/evaluate.parquet")
    assert made.returncode == 0
    equal_except_for_removed_files(whole, thinned)


def follow(message: str, run: Run) -> None:
    """Run the commands of the message in a shell."""
    remove, rebuild = re.findall(r"`([^`]*)`", message)
    subprocess.run(["bash", "-c", remove], cwd=run.workdir, check=True)
    words = shlex.split(rebuild)
    assert words[:3] == ["snakemake", "--cores", "2"]
    done = subprocess.run(run.command(*words[3:]), text=True, capture_output=True, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [line for line in done.stdout.splitlines() if "generate" in line]


def equal_except_for_removed_files(whole: Run, thinned: Run) -> None:
    expected, found = tables_and_policies(whole.results), tables_and_policies(thinned.results)
    assert [name for name in found if name in expected and found[name] != expected[name]] == []
    missing = {name for name in expected if name not in found}
    assert all(name.endswith(".safetensors") for name in missing), missing
