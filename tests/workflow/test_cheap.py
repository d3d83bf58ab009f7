"""With rows: signal unread scores are not computed, and the trained rollouts stay the same."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from extra_cli.main import main
from extra_research.__main__ import main as studies
from extra_rl.tables import scan_run
from tests.conftest import Run, new_run

pytestmark = pytest.mark.slow

CHEAP: dict[str, Any] = {
    "preset": "surprisal",
    "choose_prefixes": {"scores_from": "sampler"},
    "score_entropy": {"rows": "signal"},
}
ITERATIONS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = new_run(
        tmp_path_factory.mktemp("cheap"),
        iterations=ITERATIONS,
        select={"token_budget": None},
        arms={"whole": {"preset": "surprisal"}, "cheap": CHEAP},
    )
    made.snakemake()
    return made


def table(run: Run, arm: str, iteration: int, name: str) -> pl.DataFrame:
    return pl.read_parquet(run.results / arm / "s0" / f"iteration_{iteration:04d}" / f"{name}.parquet")


def test_the_same_rollouts_are_trained_on(run: Run) -> None:
    """Both arms sample the same noise, and their scores differ by rounding alone."""
    for iteration in range(ITERATIONS):
        whole, cheap = (
            table(run, arm, iteration, "advantage").select(pl.col("rollout_id").str.replace("^[a-z]+/", ""), "trained")
            for arm in ("whole", "cheap")
        )
        assert whole.equals(cheap)


def test_parents_are_carried_and_less_is_scored(run: Run) -> None:
    """Some parents were left out in their own iteration, and scored in that of the continuation that rescued them."""
    late = 0
    for iteration in range(1, ITERATIONS):
        scores = table(run, "cheap", iteration, "score_entropy_generate")
        behind = scores.join(table(run, "cheap", iteration, "generate"), on="rollout_id", how="anti")
        assert behind["policy_logprobs"].null_count() == 0
        late += len(behind)
    assert late > 0
    sums = {}
    for arm in ("whole", "cheap"):
        rows = pl.concat([table(run, arm, iteration, "summarize") for iteration in range(ITERATIONS)])
        sums[arm] = rows.select("scored_tokens", "trained_tokens", "prefilled_tokens", "sampled_tokens").sum().row(0)
        assert rows["total_compute"][-1] == pytest.approx(rows["compute"].sum())
    assert sums["cheap"][0] < 0.7 * sums["whole"][0]
    assert sums["cheap"][1:] == sums["whole"][1:]


def test_commands_that_show_rollouts_work_without_scores(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    rows = scan_run(run.results / "cheap").collect()
    unscored = rows.filter(pl.col("entropies").is_null(), iteration=1)["rollout_id"][0]
    assert main(["explain", unscored, "--results", str(run.results)]) == 0
    assert "score_entropy.rows: signal" in capsys.readouterr().out
    folder = run.results / "cheap" / "s0" / "iteration_0001"
    assert studies(["prefix-signal", str(folder), "--out", str(run.workdir)]) != 0
    assert "failed rollouts have no entropies" in capsys.readouterr().err
    assert main(["report", str(run.results), "--out", str(run.workdir / "report.html")]) == 0
