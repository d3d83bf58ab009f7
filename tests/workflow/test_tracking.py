"""Tracking in the workflow: after a finished run, across an outage and a kill, in every granularity."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import yaml

from extra_rl.run.configuration import CONFIGURATION_FILE
from extra_rl.tracking.store import read_records
from tests.conftest import ROOT, Run, copy_of, new_run
from tests.workflow.processes import RunningWorkflow

TRACKER = """
from pathlib import Path

def send(run, records, before, state):
    if Path("outage").exists():
        raise ConnectionError("no network")
    with open("got.txt", "a") as handle:
        handle.writelines(f"{run.name} {record.key}\\n" for record in records)
    Path("config.txt").write_text(str(run.config))
"""
PROFILE = ("--workflow-profile", "none")


def reconfigure(run: Run, **changes: object) -> None:
    config = yaml.safe_load(run.config.read_text()) | changes
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))


def keys(run: Run, arm: str) -> list[str]:
    return [record.key for record in read_records(run.results / "tracking" / f"{arm}-s0" / "metrics.jsonl")]


def rules_of(run: Run) -> set[str]:
    done = run.snakemake("--dry-run", *PROFILE)
    return set(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.MULTILINE)) - {"all"}


ONE_ARM = ["evaluation/-1", "evaluation/1", "evaluation/2", "iteration/0", "iteration/1", "iteration/2"]


@pytest.mark.slow
def test_tracking_is_added_to_a_finished_run_and_catches_up_after_an_outage(mini_run: Run, tmp_path: Path) -> None:
    run = copy_of(mini_run, tmp_path / "run")
    (run.workdir / "own.py").write_text(TRACKER)
    reconfigure(run, tracking=["own:send"])
    before = {path: path.read_bytes() for path in run.results.rglob("*") if path.is_file() and path.name != ".lock"}
    assert rules_of(run) == {"track", "track_evaluation", "track_warm_start"}
    outage = run.workdir / "outage"
    outage.touch()
    done = run.snakemake()
    assert re.search(
        r"^tracking mini/extra/s0: own:send has not received \d record\(s\) \(ConnectionError: no network\)\. The run",
        done.stdout + done.stderr,
        re.MULTILINE,
    )
    changed = {path.name for path in before if path.read_bytes() != before[path]}
    assert changed == {CONFIGURATION_FILE}  # a copy of the configuration, which names the tracker
    expected = [key for key in ONE_ARM if key != "evaluation/1"]
    assert sorted(keys(run, "extra")) == sorted(keys(run, "grpo")) == expected

    assert rules_of(run) <= {"track", "track_evaluation", "track_warm_start"}
    assert rules_of(run)  # the outage is known without a change of any file
    outage.unlink()
    run.snakemake()
    got = (run.workdir / "got.txt").read_text().split()
    assert sorted(got[1::2]) == sorted(expected * 2)
    assert set(got[::2]) == {"mini/extra/s0", "mini/grpo/s0"}
    config = (run.workdir / "config.txt").read_text()
    assert "'learning_rate': 0.0003" in config
    assert "'version'" in config
    assert rules_of(run) == set()


@pytest.mark.slow
def test_a_killed_run_logs_every_step_once(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", granularity="iteration", evaluate_every=2)
    reconfigure(run, arms={"grpo": {}}, tracking={"to": ["jsonl", "own:send"]})
    (run.workdir / "own.py").write_text(TRACKER)
    for moment in ("iteration_0000/logs/track.log", "iteration_0001/logs/update.log"):
        with RunningWorkflow(run) as running:
            running.wait_for((run.results / "grpo" / "s0" / moment).exists)
            running.kill_group(signal.SIGKILL)
            assert running.wait() != 0
    run.snakemake()
    assert sorted(keys(run, "grpo")) == ONE_ARM
    got = (run.workdir / "got.txt").read_text().split()[1::2]
    assert set(got) == set(ONE_ARM)
    assert len(got) - len(ONE_ARM) <= 1  # this tracker does not recognise what it got before the kill
    assert rules_of(run) == set()


def test_the_jobs_are_local_and_in_no_group_of_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="the plugin for Slurm is not installed")
    run = new_run(tmp_path, iterations=1, tracking=["jsonl"])
    profile = str(ROOT / "workflow" / "profiles" / "slurm")
    said = run.snakemake("--dry-run", "--workflow-profile", profile).stdout
    assert len(re.findall(r"^rule track(?:_\w+)?:", said, re.MULTILINE)) == 2 * 3  # indented where it is in a group
    text = (ROOT / "workflow" / "rules" / "tracking.smk").read_text()
    local = re.search(r"^localrules:\n((?:    \w+,\n)+)", text, re.MULTILINE)
    assert local
    assert set(re.findall(r"\w+", local[1])) == set(
        re.findall(r"^(?:use )?rule (?:track as )?(\w+)", text, re.MULTILINE)
    )


def test_no_param_of_another_rule_knows_of_the_trackers(tmp_path: Path) -> None:
    def commands(**changes: object) -> set[str]:
        run = new_run(tmp_path, iterations=1, **changes)
        said = run.snakemake("--dry-run", "--printshellcmds", *PROFILE).stdout
        return {line.strip() for line in said.splitlines() if "python -m " in line}

    without, tracked = commands(), commands(tracking=["jsonl"])
    assert len(without) > 20
    assert without < tracked
    assert all("python -m stages track " in line for line in tracked - without)


def test_a_missing_package_and_an_unknown_tracker_are_named_before_the_first_job(tmp_path: Path) -> None:
    run = new_run(tmp_path / "a", tracking=["jsonl", "no_such_module.inner:send"])
    done = run.snakemake("--dry-run", check=False)
    assert done.returncode == 2
    assert "tracking.to: no_such_module.inner:send needs the module no_such_module.inner" in done.stderr
    run = new_run(tmp_path / "b", tracking=["wanbd"])
    done = run.snakemake("--dry-run", check=False)
    assert done.returncode == 2
    assert "tracking.to: 'wanbd' is no tracker" in done.stderr
    assert "did you mean `wandb`?" in done.stderr
