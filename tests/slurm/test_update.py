"""An update in several processes that Slurm starts: `srun` within a job, one torchrun for each of its tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import Run, copy_of
from tests.slurm.cluster import Slurm, on_slurm, said
from tests.training.test_distributed import assert_same_policy

pytestmark = pytest.mark.slow

PLACE = "grpo/s0/iteration_0000"


def test_two_tasks_of_a_job_give_the_policy_of_one_process(slurm: Slurm, local: Run, tmp_path: Path) -> None:
    """One node: `nodes: 2` then means two tasks, which is allowed on CPUs."""
    copy = copy_of(local, tmp_path / "run")
    config = yaml.safe_load(copy.config.read_text())
    config["update"] |= {"processes": 2, "nodes": 2}
    copy.config.write_text(yaml.safe_dump(config))
    run = on_slurm(copy, update={"tasks": 2, "gpu": 0, "mem_mb": 2000})
    run.snakemake(f"results/mini/{PLACE}/policy/manifest.json")
    (job,) = run.ended()
    assert (job.work, job.state) == ("rule_update_wildcards_grpo_0_0000", "COMPLETED")
    found, expected = (r.results / PLACE for r in (run, local))
    assert_same_policy(found / "policy", expected / "policy")
    record = json.loads((found / "update.run.json").read_text())
    assert record["figures"]["peak_memory_mb_per_process"] > 0
    if slurm.accounting:
        steps = said("sacct", "--noheader", "--parsable2", f"--jobs={job.id}", "--format=JobName,NTasks").split()
        assert "python3|2" in steps or "python|2" in steps, steps


@pytest.mark.usefixtures("slurm")
def test_a_job_with_too_few_nodes_is_refused(local: Run, tmp_path: Path) -> None:
    copy = copy_of(local, tmp_path / "run")
    config = yaml.safe_load(copy.config.read_text())
    config["update"] |= {"processes": 2, "nodes": 2}
    copy.config.write_text(yaml.safe_dump(config))
    run = on_slurm(copy, update={"gpu": 0})
    done = run.snakemake(f"results/mini/{PLACE}/policy/manifest.json", "--retries", "0", check=False)
    assert done.returncode != 0
    said_once = "update.nodes is 2, and Slurm job "
    assert said_once in done.stdout + done.stderr
    assert len(run.ended()) == 1
