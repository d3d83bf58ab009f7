"""Sampling in shards: the same rollouts as in one job, and a shard that dies loses only itself."""

from __future__ import annotations

import signal
from pathlib import Path

import polars as pl
import pytest
import yaml

from extra_cli.show import lines_of
from extra_rl.config.files import read_yaml
from extra_rl.sampling.shards import shard_names
from extra_rl.tables import contracts, read_table, scan_run
from extra_rl.tables.files import read_provenance
from stages.command import main
from stages.experiment import experiment_of, job_json
from tests.conftest import Run, new_run
from tests.workflow.processes import RunningWorkflow

pytestmark = pytest.mark.slow

PLACE = "extra/s0/iteration_0000"


def a_run(workdir: Path, **changes: object) -> Run:
    """One arm, one iteration, with continuations in it."""
    run = new_run(workdir, iterations=1, select={"token_budget": None}, **changes)
    arm = {"preset": "prototype", "choose_prefixes": {"when": "same_iteration", "warmup_iterations": 0}}
    config = read_yaml(run.config) | {"arms": {"extra": arm}}
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))
    return run


def shards(run: Run, of: str, count: int = 2) -> list[Path]:
    return [run.results / PLACE / "shards" / f"{of}_{i}of{count}.parquet" for i in range(count)]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = a_run(tmp_path_factory.mktemp("sharded"), generation={"shards": 2})
    run.snakemake()
    return run


def test_the_rollouts_of_an_unsharded_run(sharded: Run, tmp_path: Path) -> None:
    whole = a_run(tmp_path)
    whole.snakemake(*(f"results/mini/{PLACE}/{of}.parquet" for of in ("generate", "regenerate")))
    for of in ("generate", "regenerate"):
        expected, found = (
            read_table(run.results / PLACE / f"{of}.parquet", contracts.Rollouts) for run in (whole, sharded)
        )
        parts = [read_table(path, contracts.RolloutsOfShard) for path in shards(sharded, of)]
        assert len(found) == sum(map(len, parts))
        assert all(len(part) for part in parts)
        assert found.drop("sampler_logprobs").equals(expected.drop("sampler_logprobs"))
        difference = found["sampler_logprobs"].explode() - expected["sampler_logprobs"].explode()
        assert difference.abs().max() < 1e-4  # type: ignore[operator]  # batches of other rows: other last bits
        assert "shard" not in read_provenance(whole.results / PLACE / f"{of}.parquet")["job"]


def test_a_reader_sees_no_shards(sharded: Run) -> None:
    rows = scan_run(sharded.results).select("rollout_id", "advantage").collect()
    tables = [pl.read_parquet(sharded.results / PLACE / f"{of}.parquet") for of in ("generate", "regenerate")]
    assert rows["rollout_id"].to_list() == pl.concat(tables)["rollout_id"].to_list()
    (line, *_) = lines_of(sharded.results)
    assert line.startswith("extra/s0: 1/1 ")
    assert "Nothing to be done" in sharded.snakemake("--dry-run").stdout


def test_a_shard_that_dies_loses_only_itself(tmp_path: Path) -> None:
    run = a_run(tmp_path, generation={"shards": 2})
    target = f"results/mini/{PLACE}/generate.parquet"
    with RunningWorkflow(run) as running:
        first = shards(run, "generate")
        running.wait_for(lambda: any(path.exists() for path in first))
        running.kill_group(signal.SIGKILL)
        assert running.wait() != 0
    run.snakemake(target)
    survivor, lost = first
    before = survivor.stat().st_mtime_ns, survivor.read_bytes(), lost.read_bytes()
    lost.unlink()
    (run.workdir / target).unlink()
    said = run.snakemake(target, "--quiet", "host").stderr
    assert (said.count("rule generate_shard:"), said.count("rule gather:")) == (1, 1)
    assert (survivor.stat().st_mtime_ns, survivor.read_bytes(), lost.read_bytes()) == before


def test_an_empty_shard_loads_no_model(sharded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six groups on nine shards: three have nothing to do, and do not ask for the weights, which are not there."""
    experiment = experiment_of({**read_yaml(sharded.config), "generation": {"shards": 9}})
    place = {"arm": "extra", "seed": "0", "iteration": "0000"}
    results = "results/mini"
    manifest = tmp_path / "policy" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_bytes((sharded.results / "warm_start" / "policy" / "manifest.json").read_bytes())
    monkeypatch.chdir(sharded.workdir)
    rows = {}
    for name in shard_names(9):
        job = job_json(experiment, "generate", {**place, "shard": name})
        inputs = [f"select={results}/{PLACE}/select.parquet", f"train={results}/prepare/train.parquet"]
        table = tmp_path / f"generate_{name}.parquet"
        words = ["--job", job, "--input", *inputs, f"policy={manifest}", "--output", f"generate={table}"]
        rows[name] = len(read_table(table, contracts.RolloutsOfShard)) if main(["generate", *words]) == 0 else None
    assert list(rows.values()) == [None] * 6 + [0] * 3


@pytest.mark.parametrize(
    ("stage", "file"), [("gather", "regenerate.parquet"), ("generate", "shards/generate_1of2.parquet")]
)
def test_by_hand_gives_the_same_bytes(
    sharded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, file: str
) -> None:
    monkeypatch.chdir(sharded.workdir)
    assert main([stage, "--rerun", f"results/mini/{PLACE}/{file}", "--to", str(tmp_path)]) == 0
    assert (tmp_path / Path(file).name).read_bytes() == (sharded.results / PLACE / file).read_bytes()
