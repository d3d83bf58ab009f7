"""`report.every`: the report is written during the run, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stages import STAGES
from stages.experiment import experiment_of, job_json, run_context
from stages.layout import Layout
from tests.conftest import Run, new_run


@pytest.mark.slow
def test_the_report_is_refreshed_and_every_table_has_the_same_bytes(mini_run: Run, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", report={"every": 1}, granularity="iteration")
    config = yaml.safe_load(run.config.read_text())
    del config["arms"]["extra"]
    run.config.write_text(yaml.safe_dump(config))
    done = run.snakemake()
    assert "the report was not refreshed" not in done.stdout + done.stderr
    folder = run.results / "grpo" / "s0" / "iteration_0000"
    assert (folder / "refresh_report.done").is_file()
    assert not (run.results / "grpo" / "s0" / "iteration_0002" / "refresh_report.done").exists()
    log = run.results / "logs" / "refresh_report" / "grpo_s0_0000.log"
    assert log.read_text().startswith("results/mini/report.html: ")
    assert "Unfinished" not in (run.results / "report.html").read_text()
    others = mini_run.results / "grpo" / "s0" / "iteration_0000"
    for name in ("generate", "verify_generate", "score_entropy_generate", "novelty", "advantage", "update"):
        assert (folder / f"{name}.parquet").read_bytes() == (others / f"{name}.parquet").read_bytes()


def experiment(tmp_path: Path, **changes: object) -> object:
    return experiment_of(yaml.safe_load(new_run(tmp_path, **changes).config.read_text()))


def test_the_key_is_part_of_no_job(tmp_path: Path) -> None:
    without, with_it = experiment(tmp_path / "a"), experiment(tmp_path / "b", report={"every": 1})
    place = {"arm": "extra", "seed": "0", "iteration": "1", "start": "warm_start", "of": "generate", "shard": ""}
    for stage in STAGES:
        wildcards = {} if stage in ("prepare", "warm_start", "compare") else place
        assert job_json(without, stage, wildcards) == job_json(with_it, stage, wildcards)
    assert run_context(without) == run_context(with_it)


def test_the_last_iteration_has_the_report_of_the_end(tmp_path: Path) -> None:
    found = {
        every: Layout(experiment(tmp_path / str(every), iterations=6, report={"every": every})).refreshed_reports()
        for every in (0, 2, 3, 7)
    }
    assert {every: sorted({path.split("iteration_")[1][:4] for path in paths}) for every, paths in found.items()} == {
        0: [],
        2: ["0001", "0003"],
        3: ["0002"],
        7: [],
    }
