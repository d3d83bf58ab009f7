"""compare: unbiased pass@k by hand, refusal of unequal budgets, and the shape of summary.json.

tests/comparison tests the differences.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from extra_rl.algorithms.pass_at_k import pass_at_k_each
from extra_rl.errors import ConfigError
from extra_rl.seeding import generator
from extra_rl.tables import contracts
from extra_rl.tables.files import write_table
from stages import compare
from tests.algorithms.percentile import percentile_interval
from tests.stages.rows import frame, run_stage

LETTERS = {"r": "right", "w": "wrong", "t": "truncated", "n": "no_answer", "e": "error", "g": "gold_unparseable"}


def samples(problems: dict[str, str]) -> pl.DataFrame:
    """An evaluate table. problems: `benchmark/problem` -> one letter per sample."""
    rows = [
        {
            "problem_id": name,
            "sample_index": n,
            "benchmark": name.partition("/")[0],
            "prompt_tokens": [1],
            "response_tokens": [2],
            "finish_reason": "stop",
            "response": "",
            "gold": "7",
            "verdict": LETTERS[letter],
            "extracted": None,
            "rule": "by hand",
        }
        for name, letters in problems.items()
        for n, letter in enumerate(letters)
    ]
    return frame(contracts.EvaluationSamples, rows)


def spent(tokens: int, compute: float = 0.0) -> pl.DataFrame:
    row = dict.fromkeys(contracts.IterationSummary.columns(), 0) | {"arm": "extra", "iteration": 2}
    return frame(contracts.IterationSummary, [row | {"total_sampled_tokens": tokens, "total_compute": compute}])


def compared(
    folder: Path, tables: dict[str, pl.DataFrame], derived: dict[str, Any] | None = None, **config: Any
) -> tuple[pl.DataFrame, dict[str, Any]]:
    outputs = {"compare": folder / "compare.parquet", "summary": folder / "summary.json"}
    made = run_stage(compare, tables, {"ks": [1, 2], "resamples": 100, **config}, derived=derived, outputs=outputs)
    return made["compare"], json.loads((folder / "summary.json").read_text())


def one_arm(letters: dict[str, str]) -> dict[str, pl.DataFrame]:
    return {"evaluate:grpo/s0": samples(letters), "summarize:grpo/s0": spent(100)}


def test_pass_at_k_is_unbiased_and_a_mean_over_problems_then_benchmarks(tmp_path: Path) -> None:
    table, summary = compared(tmp_path, one_arm({"A/1": "rwww", "A/2": "rrrr", "B/1": "wtnw"}))
    figures = {(row["benchmark"], row["k"]): row["pass_at_k"] for row in table.to_dicts()}
    # one of four right: pass@1 = 1/4, pass@2 = 1 - C(3,2)/C(4,2) = 1/2 (1 - (3/4)^2 = 0.4375 would be biased)
    assert figures == pytest.approx({("A", 1): 62.5, ("A", 2): 75.0, ("B", 1): 0.0, ("B", 2): 0.0})
    assert (summary["arms"]["grpo"]["pass@1"], summary["arms"]["grpo"]["pass@2"]) == (31.25, 37.5)


def test_unjudged_samples_are_excluded_and_counted(tmp_path: Path) -> None:
    table, _ = compared(tmp_path, one_arm({"A/1": "rweg", "A/2": "rrww"}))
    first = table.filter(k=1).to_dicts()[0]
    assert first["pass_at_k"] == pytest.approx(50.0)
    assert (first["excluded"], first["problems"], first["samples"]) == (2, 2, 4)


def test_a_problem_with_too_few_judged_samples_is_left_out_and_an_empty_benchmark_refused(tmp_path: Path) -> None:
    table, _ = compared(tmp_path, one_arm({"A/1": "reee", "A/2": "wwww"}))
    assert table["problems"].to_list() == [1, 1]
    assert table["pass_at_k"].to_list() == [0.0, 0.0]
    with pytest.raises(ConfigError, match=r"benchmark A: no problem has 2 judged samples"):
        compared(tmp_path, one_arm({"A/1": "reee"}))


def test_the_interval_contains_the_figure_and_is_a_point_for_equal_problems(tmp_path: Path) -> None:
    spread = {f"A/{n}": "rrrr" if n % 2 else "wwww" for n in range(10)}
    (row,) = compared(tmp_path, one_arm(spread), ks=[1])[0].to_dicts()
    assert 0.0 < row["low"] < 50.0 < row["high"] < 100.0
    (row,) = compared(tmp_path, one_arm({f"A/{n}": "rw" for n in range(4)}), ks=[1])[0].to_dicts()
    assert (row["low"], row["pass_at_k"], row["high"]) == (50.0, 50.0, 50.0)


def test_the_interval_is_the_bootstrap_of_the_method(tmp_path: Path) -> None:
    problems = {f"A/{n}": ("rrww", "rwww", "wwww", "rrrr")[n % 4] for n in range(13)}
    (row,) = compared(tmp_path, one_arm(problems), ks=[2], resamples=300)[0].to_dicts()
    values = 100 * pass_at_k_each(np.full(13, 4), np.array([(2, 1, 0, 4)[n % 4] for n in range(13)]), 2)
    low, high = percentile_interval(values, generator(0, "compare", "A", 2), 300)
    assert (row["low"], row["high"]) == (np.float32(low), np.float32(high))


def test_arms_that_have_not_spent_their_budget_cannot_be_compared(tmp_path: Path) -> None:
    tables = one_arm({"A/1": "rw"})
    compared(tmp_path, tables, {"token_budgets": {"grpo": 100, "extra": 120}})
    with pytest.raises(ConfigError, match=r"grpo/s0 sampled 100 of 101 tokens in 3 iterations.*Raise `iterations`"):
        compared(tmp_path, tables, {"token_budgets": {"grpo": 101, "extra": 90}})


def test_one_spent_budget_of_two_is_enough(tmp_path: Path) -> None:
    tables = one_arm({"A/1": "rw"}) | {"summarize:grpo/s0": spent(100, 5e9)}
    compared(tmp_path, tables, {"compute_budgets": {"grpo": 5e9}})
    compared(tmp_path, tables, {"compute_budgets": {"grpo": 5e9}, "token_budgets": {"grpo": 101}})
    with pytest.raises(ConfigError, match=r"grpo/s0 sampled 100 of 101 tokens and computed 5e\+09 of 6e\+09 FLOP in 3"):
        compared(tmp_path, tables, {"compute_budgets": {"grpo": 6e9}, "token_budgets": {"grpo": 101}})


def test_the_summary_contains_means_benchmarks_seeds_and_costs(tmp_path: Path) -> None:
    for folder, wall in (("warm_start", 1.0), ("grpo/s0", 2.0), ("grpo/s1", 4.0), ("extra/s0", 8.0)):
        path = tmp_path / folder / "update.run.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"stage": "update", "wall_s": wall, "cpu_s": 2 * wall}))
    looked = tmp_path / "grpo" / "s0" / "evaluate.run.json"
    looked.write_text(json.dumps({"stage": "evaluate", "wall_s": 100.0, "cpu_s": 200.0}))
    for step, tokens in enumerate((30, 50)):
        rows = [dict.fromkeys(contracts.UpdateSteps.columns(), 0) | {"step": n, "loss_tokens": tokens} for n in (0, 1)]
        path = tmp_path / "grpo" / f"s{step}" / "iteration_0000" / "update.parquet"
        write_table(frame(contracts.UpdateSteps, rows), path, contracts.UpdateSteps, {})
        summed = path.with_name("summarize.parquet")
        useful = spent(0, 0.0).with_columns(useful_groups=3 + step, embedding_compute=1e9)
        write_table(contracts.IterationSummary.cast(useful), summed, contracts.IterationSummary, {})
    tables = {
        "evaluate:warm_start": samples({"A/1": "wwww", "B/1": "rwww"}),
        "evaluate:grpo/s0": samples({"A/1": "rwww", "B/1": "rrrr"}),
        "evaluate:grpo/s1": samples({"A/1": "rrww", "B/1": "rrrr"}),
        "evaluate:extra/s0": samples({"A/1": "rrrr", "B/1": "rrrr"}),
        "summarize:grpo/s0": spent(100, 2e12),
        "summarize:grpo/s1": spent(110, 3e12),
        "summarize:extra/s0": spent(120, 1e12),
    }
    table, summary = compared(tmp_path, tables)
    assert list(summary) == ["warm_start", "arms", "comparisons", "family", "seconds"]
    # the records of update do not tell whether a device was held
    assert summary["seconds"] == {"key": "compute_seconds", "name": "CPU-seconds"}
    assert list(summary["arms"]) == ["grpo", "extra"]
    assert (summary["warm_start"]["pass@1"], summary["warm_start"]["pass@2"]) == (12.5, 25.0)
    grpo = summary["arms"]["grpo"]
    assert grpo["pass@1"] == pytest.approx((25 + 100 + 50 + 100) / 4)
    assert grpo["benchmarks"]["A"]["pass@1"] == pytest.approx(37.5)
    assert grpo["benchmarks"]["B"]["pass@2"] == 100.0
    assert grpo["seeds"] == [0, 1]
    assert grpo["per_seed"]["0"]["pass@1"] == pytest.approx(62.5)
    assert grpo["per_seed"]["1"]["pass@1"] == pytest.approx(75.0)
    assert grpo["generated_tokens"] == 210
    assert grpo["sd"]["pass@1"] == pytest.approx(12.5 / 2**0.5, abs=1e-4)
    assert (grpo["wall_seconds"], grpo["compute_seconds"]) == (106.0, 212.0)
    assert grpo["budget"] == {
        "sampled_tokens": 210,
        "compute": 5e12,
        "loss_tokens": 160,
        "useful_groups": 7,
        "useful_per_1000_tokens": 33.3333,  # 7 of 210 tokens
        "useful_per_tflop": 1.4,  # 7 of 5 TFLOP
        "useful_per_second": 0.583333,  # 7 of 12 CPU-seconds
        "embedding_compute": 2e9,
        "wall_seconds": 6.0,
        "compute_seconds": 12.0,
        "device_seconds": None,
        "tokens_per_cpu_second": 17.5,
        "measuring_wall_seconds": 100.0,
        "measuring_compute_seconds": 200.0,
        "measuring_device_seconds": None,
    }
    assert {key: value for key, value in grpo["per_seed"]["0"].items() if "pass" not in key} == {
        "generated_tokens": 100,
        "compute": 2e12,
        "useful_groups": 3,
        "useful_per_1000_tokens": 30.0,
        "useful_per_tflop": 1.5,
        "useful_per_second": 0.75,  # 3 of 4 CPU-seconds; the 200 of the evaluation are no part of them
        "wall_seconds": 2.0,
        "compute_seconds": 4.0,
        "device_seconds": None,
    }
    assert (summary["warm_start"]["wall_seconds"], summary["warm_start"]["compute_seconds"]) == (1.0, 2.0)
    assert summary["arms"]["extra"]["generated_tokens"] == 120
    assert summary["arms"]["extra"]["sd"] == {"pass@1": None, "pass@2": None}
    assert summary["arms"]["extra"]["budget"]["loss_tokens"] is None
    assert summary["arms"]["extra"]["budget"]["compute"] == 1e12
    assert summary["arms"]["extra"]["budget"]["useful_groups"] is None
    assert grpo["per_seed"]["1"]["compute"] == 3e12
    assert (summary["comparisons"], summary["family"]) == ([], None)
    assert table.filter(policy="warm_start")["seed"].to_list() == [-1] * 4


def test_the_terminal_shows_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compared(tmp_path, one_arm({"A/1": "rwww", "B/1": "rrrr"}))
    lines = capsys.readouterr().out.splitlines()
    figures, spent = "\n".join(lines).split("\n\nSpent per seed, mean ± sd over seeds; CPU-seconds without evaluations")
    assert [line.split() for line in figures.splitlines()[-2:]] == [
        ["grpo", "pass@1", "25.0", "100.0", "62.5"],
        ["grpo", "pass@2", "50.0", "100.0", "75.0"],
    ]
    # tokens, TFLOP, CPU-seconds; no summary lies there that would tell useful groups
    assert spent.splitlines()[-1].split() == ["grpo", "100", "0", "0", *"----", "1"]
