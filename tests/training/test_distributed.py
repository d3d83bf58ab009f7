"""Several processes (gloo, on the CPU) give the loss, the weights and the checkpoints of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.torch import load_file

from extra_rl.config.section import parse_config
from extra_rl.errors import ConfigError, ModelError, NumericalError
from extra_rl.models.policy import read_manifest
from extra_rl.run.progress import Console
from extra_rl.training import launch, worker
from extra_rl.training.allocation import of_the_job
from extra_rl.training.launch import train_in_processes, write_job
from extra_rl.training.parallel import Parallel
from extra_rl.training.run import TrainingJob, train
from stages import update
from stages.command import main
from tests.conftest import POLICY, ROOT, Run
from tests.training.sharded_cases import CASES
from tests.training.steps import settings

SECTIONS: dict[str, Any] = {"sampling": {}, "compute": {}}
FEW = ("token_mean", "sequence_mean", "constant", "a reference, entropy", "fewer signal rows than processes")
PROMPT = [1, 6, 7, 107]


def rows_of(count: int = 6) -> pl.DataFrame:
    """Rollouts of growing length, the second pair without a signal."""
    responses = [[6 + i % 3, 103, *([7] * i), 10, 2] for i in range(count)]
    return pl.DataFrame(
        {
            "rollout_id": [f"r{i}" for i in range(count)],
            "advantage_group": [f"g{i // 2}" for i in range(count)],
            "prompt_tokens": [PROMPT] * count,
            "response_tokens": responses,
            "policy_logprobs": [[-1.0] * len(r) for r in responses],
            "sampler_logprobs": [[-1.0] * len(r) for r in responses],
            "advantage": [0.0 if i // 2 == 1 else (-1.0) ** i for i in range(count)],
            "loss_start": [0] * count,
            "prefix_length": [0] * count,
            "token_advantages": pl.Series([None] * count, dtype=pl.List(pl.Float32)),
        }
    )


def job_of(policy: Path, folder: Path, processes: int = 1, nodes: int = 1) -> TrainingJob:
    section = {"learning_rate": 3e-4, "gradient_clip": 1.0, "weight_decay": 0.01, "tokens_per_batch": 24}
    return TrainingJob(
        settings=settings(**section, minibatches=2, processes=processes, nodes=nodes),
        device="cpu",
        policy=policy / "manifest.json",
        initial=None,
        next_policy=folder / "manifest.json",
        provenance={"name": "extra/s0/i0/policy"},
        seeds=(0,),
    )


def trained(processes: int, policy: Path, folder: Path) -> list[dict[str, float]]:
    job = job_of(policy, folder, processes)
    if processes == 1:
        return train(job, rows_of(), Parallel(), lambda: None, {})
    with Console(folder.with_suffix(".log")) as console:
        steps: list[dict[str, float]] = train_in_processes(job, rows_of(), folder.with_suffix(".processes"), console)[
            "steps"
        ]
    assert not folder.with_suffix(".processes").exists()
    return steps


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, float]]]]:
    """Folder with policies, and the metrics of the steps to each: two iterations of one process, `first` and `second`;
    the first of two processes, `first_by_2`; the second of one process after that, `then_1`."""
    folder = tmp_path_factory.mktemp("chain")
    metrics = {
        "first": trained(1, POLICY, folder / "first"),
        "second": trained(1, folder / "first", folder / "second"),
        "first_by_2": trained(2, POLICY, folder / "first_by_2"),
        "then_1": trained(1, folder / "first_by_2", folder / "then_1"),
    }
    return folder, metrics


@pytest.fixture(scope="module")
def compared(chain: tuple[Path, Any]) -> dict[int, dict[str, Any]]:
    """Processes -> case -> differences from one process. Four processes also continue `first_by_2`, to `then_4`."""
    found = {}
    folder = chain[0]
    write_job(folder, job_of(folder / "first_by_2", folder / "then_4", 4), rows_of())
    for processes, words in ((2, tuple(CASES)), (4, (*FEW, str(folder)))):
        out = folder / f"cases_{processes}.json"
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *torchrun, "-m", "tests.training.sharded_cases", str(out), *words]
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[processes] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize(
    ("processes", "case"), [(2, name) for name in CASES] + [(4, name) for name in FEW], ids=lambda value: str(value)
)
def test_two_steps_are_those_of_one_process(compared: dict[int, dict[str, Any]], processes: int, case: str) -> None:
    found = compared[processes][case]
    assert found["moved"] > 1e-3
    assert found["weights"] < 1e-5
    assert found["state"] < 1e-5
    assert [step is None for step in found["metrics"]] == [False, False]
    for step in found["metrics"]:
        for name, (value, expected) in step.items():
            assert value == pytest.approx(expected, abs=1e-5, rel=1e-5), name


def test_each_process_holds_its_share_of_the_weights(compared: dict[int, dict[str, Any]]) -> None:
    """All sizes of the small model can be divided by 2 and by 4."""
    assert {case["numbers"] for case in compared[2].values()} == {1 / 2}
    assert {case["numbers"] for case in compared[4].values()} == {1 / 4}


def assert_same_policy(found: Path, expected: Path) -> None:
    """The same files, and in them the same names with numbers within 1e-5."""
    assert set(read_manifest(found / "manifest.json")["files"]) == set(
        read_manifest(expected / "manifest.json")["files"]
    )
    for name in ("model.safetensors", "optimizer.safetensors"):
        values, wanted = load_file(found / name), load_file(expected / name)
        assert values.keys() == wanted.keys()
        for key, value in values.items():
            assert value.dtype == wanted[key].dtype
            assert float((value - wanted[key]).abs().max()) < 1e-5, key
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()


@pytest.mark.usefixtures("compared")
@pytest.mark.parametrize(
    ("policy", "expected"), [("first_by_2", "first"), ("then_1", "second"), ("then_4", "second")], ids=str
)
def test_a_checkpoint_continues_with_any_number_of_processes(
    chain: tuple[Path, Any], policy: str, expected: str
) -> None:
    folder, metrics = chain
    assert_same_policy(folder / policy, folder / expected)
    for found, wanted in zip(metrics.get(policy, ()), metrics[expected], strict=False):
        assert found["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
    moved, kept = (load_file(folder / name / "model.safetensors") for name in ("second", "first"))
    assert max(float((moved[key] - kept[key]).abs().max()) for key in moved) > 1e-4


def test_a_killed_process_ends_the_stage_and_leaves_no_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "WORKER", "tests.training.misbehaving_worker")
    monkeypatch.chdir(ROOT)
    with pytest.raises(ModelError, match=r"in 2 processes, and rank 1 ended with exit code -9"):
        trained(2, POLICY, tmp_path / "next")
    assert not (tmp_path / "next").exists()
    assert not (tmp_path / "next.processes").exists()


KILLED_STAGE = """
import sys
from pathlib import Path
from extra_rl.training import launch
from tests.training.test_distributed import trained, POLICY
launch.WORKER = "tests.training.misbehaving_worker"
trained(2, POLICY, Path(sys.argv[1]))
"""


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_processes_end_with_a_stage_that_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    variables = {**os.environ, "TEST_PIDS": str(pids)}
    stage = subprocess.Popen([sys.executable, "-c", KILLED_STAGE, str(tmp_path / "next")], cwd=ROOT, env=variables)
    try:
        deadline = time.monotonic() + 60
        while len(list(pids.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        found = [int(path.name) for path in pids.iterdir()]
        assert len(found) == 2
        assert all(alive(pid) for pid in found)
    finally:
        stage.send_signal(signal.SIGKILL)
        stage.wait()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in found) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in found)


def in_a_slurm_job(monkeypatch: pytest.MonkeyPatch, folder: Path, nodes: int, tasks: int) -> None:
    """Slurm job 7 as the step sees it that Snakemake runs a stage in; tests/slurm has the real one."""
    program = folder / "scontrol"
    program.write_text(f'#!/bin/sh\necho "JobId=7 MinNodes=9 NumNodes={nodes} NumCPUs=64 NumTasks={tasks} $*"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"JOB_ID": "7", "NNODES": "1", "NTASKS": "1", "CPU_BIND": "mask_cpu:0x1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def test_several_nodes_are_started_by_srun_and_meet_on_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(POLICY, tmp_path, processes=8, nodes=2)
    assert "--standalone" in launch.command(job_of(POLICY, tmp_path, processes=8), tmp_path)
    with pytest.raises(ConfigError, match="not in a Slurm job"):
        launch.command(job, tmp_path)
    in_a_slurm_job(monkeypatch, tmp_path, nodes=2, tasks=2)
    words = launch.command(job, tmp_path)
    assert words[0] == "srun"
    assert {"--nodes=2", "--ntasks-per-node=1", "--nnodes=2", "--nproc-per-node=4", "--cpus-per-task=4"} < set(words)
    assert "--standalone" not in words
    kept = of_the_job(os.environ)
    assert [name for name in kept if name.startswith("SLURM_")] == ["SLURM_JOB_ID"]
    assert kept["PATH"] == os.environ["PATH"]
    with pytest.raises(ConfigError, match="8 processes cannot be shared by 3 nodes"):
        parse_config(update.Config, {**SECTIONS, "processes": 8, "nodes": 3}, "update")


def test_a_slurm_job_with_too_few_nodes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_slurm_job(monkeypatch, tmp_path, nodes=1, tasks=2)
    job = job_of(POLICY, tmp_path, processes=4, nodes=2)
    assert {"--nodes=1", "--ntasks=2", "--ntasks-per-node=2"} < set(launch.command(job, tmp_path))
    for wider in (replace(job, device="cuda"), job_of(POLICY, tmp_path, processes=4, nodes=4)):
        with pytest.raises(ConfigError, match=r"Slurm job 7 has 1 node\(s\) and 2 task\(s\): set `nodes: "):
            launch.command(wider, tmp_path)
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho slurm_load_jobs error: Invalid job id >&2; exit 1\n")
    with pytest.raises(ConfigError, match="`scontrol show job 7` failed here: slurm_load_jobs error"):
        launch.command(job, tmp_path)


def test_an_error_of_a_process_is_the_stages_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker writes it to a file and exits at once; the stage raises it."""

    def diverged(folder: Path) -> None:
        raise NumericalError("the loss is nan")

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(worker, "_train", diverged)
    monkeypatch.setattr(worker, "_end_with_the_stage", lambda lock: None)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(SystemExit) as left:
        worker.main([str(tmp_path)])
    assert left.value.code == NumericalError.exit_code
    reason = launch._reason(tmp_path, 4, 1, [])
    assert isinstance(reason, NumericalError)
    assert str(reason) == "the loss is nan"
    assert isinstance(launch._reason(tmp_path, 3, 1, []), ModelError)  # none of the first three has written an error


def test_the_stage_gives_the_policy_of_one_process(
    mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mini_run.workdir)
    here = Path("results/mini/extra/s0/iteration_0001")
    log = tmp_path / "update.log"
    words = ["update", "--rerun", str(here / "update.parquet"), "--to", str(tmp_path), "--log", str(log)]
    assert main([*words, "--set", "processes=2"]) == 0
    assert_same_policy(tmp_path / "policy", here / "policy")
    found, expected = (pl.read_parquet(folder / "update.parquet") for folder in (tmp_path, here))
    assert found["loss"].to_list() == pytest.approx(expected["loss"].to_list(), abs=1e-5)
    record = json.loads((tmp_path / "update.run.json").read_text())
    assert record["figures"]["peak_memory_mb_per_process"] > 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".processes") == []
