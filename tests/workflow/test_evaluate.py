"""`snakemake evaluate`: a configuration's initial policy, or another one, without any training."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from tests.conftest import POLICY, Run, copy_of, new_run


def test_another_policy_is_evaluated_and_nothing_trained(tmp_path: Path) -> None:
    run = new_run(tmp_path, model={"source": "/no/such/model"})
    model = f"{{source: {POLICY}, context_tokens: 96}}"
    run.snakemake("--config", f"model={model}", "name=mine", "--", "evaluate")
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet") if "evaluations" not in path.parts}
    assert {name for name in made if "prepare" not in name} == {
        f"results/mine/warm_start/{name}.parquet" for name in ("warm_start", "evaluate", "evaluate_figures")
    }
    figures = pl.read_parquet(tmp_path / "results/mine/warm_start/evaluate_figures.parquet")
    assert figures.filter(benchmark="mean", metric="pass_at_k")["k"].to_list() == [1, 2, 3, 4]


def test_samples_of_a_run_are_not_drawn_again(mini_run: Run, tmp_path: Path) -> None:
    """A deleted evaluation comes back from the cache, with the same bytes."""
    run = copy_of(mini_run, tmp_path / "run")
    file = run.results / "extra" / "s0" / "iteration_0002" / "evaluate.parquet"
    before = file.read_bytes()
    for gone in (file, run.results / "compare.parquet"):
        gone.unlink()
    said = run.snakemake().stdout
    assert "evaluate extra: 48 of 48 samples are cached" in said
    assert file.read_bytes() == before
