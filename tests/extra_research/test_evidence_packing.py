"""extra evidence on a finished run of the real workflow: the packed files, and the same comparison as the run's own."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from extra_research.__main__ import main
from extra_research.contracts import EvidenceCounts, EvidenceRuns
from extra_research.evidence import read
from extra_research.evidence_comparison import compare, plan_of
from extra_research.evidence_packing import SUMS, pack
from extra_rl.tables import contracts, read_table
from tests.conftest import Run, copy_of


def test_counts_are_those_of_the_evaluations(mini_run: Run) -> None:
    packed = pack(mini_run.results)
    assert packed.unfinished == []
    for folder, seed, path in (
        ("warm_start", -1, "warm_start/evaluate.parquet"),
        ("grpo", 0, "grpo/s0/iteration_0002/evaluate.parquet"),
        ("extra", 0, "extra/s0/iteration_0002/evaluate.parquet"),
    ):
        samples = pl.read_parquet(mini_run.results / path)
        mine = packed.evidence.counts.filter(folder=folder, seed=seed)
        assert mine["problem_id"].to_list() == samples["problem_id"].unique(maintain_order=True).to_list()
        for benchmark, problem, n, c in mine.select("benchmark", "problem_id", "n", "c").iter_rows():
            of_problem = samples.filter(problem_id=problem)
            assert of_problem["benchmark"].unique().to_list() == [benchmark]
            assert (n, c) == (4, of_problem.filter(verdict="right").height)
    assert packed.evidence.counts["c"].sum() > 0


def test_runs_have_the_sums_and_seconds_of_the_run(mini_run: Run) -> None:
    runs = pack(mini_run.results, machine="a machine").evidence.runs
    assert runs.select("folder", "seed", "machine").rows() == [("extra", 0, "a machine"), ("grpo", 0, "a machine")]
    assert set(runs["experiment"]) == {mini_run.results.name}
    arms = json.loads((mini_run.results / "summary.json").read_text())["arms"]
    for row in runs.iter_rows(named=True):
        paths = sorted((mini_run.results / row["folder"] / "s0").glob("iteration_*/summarize.parquet"))
        summary = pl.concat([pl.read_parquet(path) for path in paths])
        for name in SUMS:
            assert row[name] == (None if summary[name].null_count() else summary[name].sum()), name
        assert row["iterations"] == summary.filter(pl.col("sampled_tokens") > 0).height
        theirs = arms[row["folder"]]["per_seed"]["0"]
        assert row["cpu_s"] + row["idle_cpu_s"] == pytest.approx(theirs["compute_seconds"], abs=2e-3)
        assert row["cpu_s"] > 0
        assert row["device_s"] == 0.0
        assert (row["sampled_tokens"], row["compute"]) == (theirs["generated_tokens"], theirs["compute"])
        assert row["useful_groups"] == theirs["useful_groups"]


def test_seconds_of_iterations_that_sampled_nothing_are_counted_apart(mini_run: Run, tmp_path: Path) -> None:
    run = copy_of(mini_run, tmp_path / "copy")
    folder = run.results / "grpo" / "s0" / "iteration_0001"
    table = pl.read_parquet(folder / "summarize.parquet")
    table.with_columns(sampled_tokens=pl.lit(0, pl.Int64)).write_parquet(folder / "summarize.parquet")
    before, after = (pack(results).evidence.runs.filter(folder="grpo") for results in (mini_run.results, run.results))
    records = [json.loads(path.read_text()) for path in folder.glob("*.run.json")]
    spent = sum(record["cpu_s"] for record in records if record["stage"] not in ("evaluate", "audit"))
    assert after["idle_cpu_s"].item() - before["idle_cpu_s"].item() == pytest.approx(spent, abs=2e-3)
    assert before["cpu_s"].item() - after["cpu_s"].item() == pytest.approx(spent, abs=2e-3)
    assert after["iterations"].item() == before["iterations"].item() - 1


def test_the_comparison_is_that_of_the_stage(mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "pack", str(mini_run.results), "--to", str(tmp_path), "--name", "mini"]) == 0
    assert "2 runs and 1 warm start; added: 2 and 1" in capsys.readouterr().out
    for name, contract in (("counts", EvidenceCounts), ("runs", EvidenceRuns)):
        read_table(tmp_path / f"mini_{name}.parquet", contract)
    found = compare(plan_of(mini_run.config), read(tmp_path / "mini"))
    key = ["regime", "arm", "seed", "benchmark", "k"]
    theirs = read_table(mini_run.results / "compare_seeds.parquet", contracts.SeedFigures)
    assert found.seeds.sort(key).equals(theirs.sort(key))
    differences = read_table(mini_run.results / "compare_differences.parquet", contracts.Differences)
    rows = pl.DataFrame(found.differences, contracts.Differences.create_empty().schema, strict=False)
    assert rows.equals(differences.filter(base="grpo"))
    assert main(["evidence", "compare", str(mini_run.config), str(tmp_path / "mini")]) == 0
    said = capsys.readouterr().out
    summary = json.loads((mini_run.results / "summary.json").read_text())
    for arm in ("grpo", "extra"):
        line = next(line for line in said.splitlines() if line.startswith(f"{arm} "))
        cells = line.split()
        assert cells[1] == "1"
        assert [float(cell) for cell in cells[2:4]] == pytest.approx(
            [summary["arms"][arm][f"pass@{k}"] for k in (1, 4)], abs=0.051
        )
        assert f"{summary['arms'][arm]['generated_tokens']:,}" in cells


def test_packing_again_changes_no_byte_and_adds_what_was_left_out(
    mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = ["--to", str(tmp_path), "--name", "mini"]
    assert main(["evidence", "pack", str(mini_run.results), *to]) == 0
    whole = [path.read_bytes() for path in sorted(tmp_path.glob("mini_*"))]
    assert main(["evidence", "pack", str(mini_run.results), *to]) == 0
    assert "added: 0 and 0" in capsys.readouterr().out
    assert [path.read_bytes() for path in sorted(tmp_path.glob("mini_*"))] == whole
    part = ["--to", str(tmp_path / "part"), "--name", "mini"]
    assert main(["evidence", "pack", str(mini_run.results), *part, "--arms", "extra"]) == 0
    assert read(tmp_path / "part" / "mini").runs["folder"].to_list() == ["extra"]
    assert main(["evidence", "pack", str(tmp_path / "mini"), *part]) == 0  # evidence files are a source as well
    assert [path.read_bytes() for path in sorted((tmp_path / "part").iterdir())] == whole


def test_an_unfinished_cell_is_left_out(mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(mini_run, tmp_path / "copy")
    evaluation = run.results / "extra" / "s0" / "iteration_0002" / "evaluate.parquet"
    evaluation.rename(run.results / "extra" / "s0" / "iteration_0001" / "evaluate.parquet")  # not the last iteration
    assert main(["evidence", "pack", str(run.results), "--to", str(tmp_path), "--name", "mini"]) == 0
    said = capsys.readouterr().out
    assert "1 runs and 1 warm start" in said
    assert "left out, not finished: extra/s0" in said
    assert read(tmp_path / "mini").keys().rows() == [("grpo", 0), ("warm_start", -1)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--arms", "gpro"], "there is no finished or unfinished cell of 'gpro'; did you mean `grpo`?"),
        (["nowhere"], "neither a folder of results"),
    ],
)
def test_a_wrong_source_is_one_error(
    words: list[str], expected: str, mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = [] if words == ["nowhere"] else [str(mini_run.results)]
    assert main(["evidence", "pack", *source, *words, "--to", str(tmp_path), "--name", "x"]) == 2
    assert expected in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
