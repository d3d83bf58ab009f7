"""The iteration's line: what it says only when it is worth a look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extra_rl.report.summary_line import summary_line
from extra_rl.run.context import Horizon
from extra_rl.run.records import tolerance_of_iteration
from extra_rl.tables import contracts

ROW: dict[str, Any] = {
    **dict.fromkeys(contracts.IterationSummary.columns(), 0),
    "arm": "extra",
    "rollouts": 8,
    "sampled_tokens": 90,
}


def line(**changes: Any) -> str:
    return summary_line(ROW | changes, Horizon(3, 0), {"generate": 1.0})


def test_the_budget_that_is_spent_first_ends_the_run() -> None:
    """Half of the tokens are sampled, three quarters of the compute are spent: a third of the latter is left."""
    figures = {"total_sampled_tokens": 500, "sampled_tokens": 100, "total_compute": 75.0, "compute": 25.0}
    shown = [summary_line(ROW | figures, Horizon(99, *budget), {"generate": 60.0}) for budget in ((1000, 100), (1000,))]
    assert ["75%, 1" in shown[0], "50%, 5" in shown[1]] == [True, True]


@pytest.mark.parametrize(
    ("mean", "ratio", "said"), [(0.01, 2.0, False), (0.011, 1.1, True), (1e-6, 2.1, True), (None, None, False)]
)
def test_a_mismatch_of_sampler_and_policy(mean: float | None, ratio: float | None, said: bool) -> None:
    shown = line(mismatch_mean=mean, mismatch_max_ratio=ratio, mismatch_kl=None if mean is None else 0.5)
    assert (" | sampler off by " in shown) is said


def test_the_mean_is_held_to_the_tolerance_of_the_iteration() -> None:
    figures = {"mismatch_mean": 0.1, "mismatch_max_ratio": 1.5, "mismatch_kl": 0.01}
    shown = [
        summary_line(ROW | figures, Horizon(3, 0), {}, tolerance=tolerance) for tolerance in (None, 0.05, 0.1, 0.2)
    ]
    assert ["sampler off by" in line for line in shown] == [True, True, False, False]


def test_the_tolerance_is_read_from_the_records(tmp_path: Path) -> None:
    assert tolerance_of_iteration(tmp_path) is None
    for of, figures in (("generate", {"mismatch_tolerance": 0.2}), ("regenerate", {"padding": 0.0})):
        (tmp_path / f"score_entropy_{of}.run.json").write_text(json.dumps({"figures": figures}))
    assert tolerance_of_iteration(tmp_path) == 0.2


def test_the_mismatch_in_figures() -> None:
    shown = line(mismatch_mean=0.0213, mismatch_max_ratio=7.389, mismatch_kl=0.0345)
    assert "| sampler off by 0.021 nats, ratio up to 7.39, KL 0.0345 |" in shown
