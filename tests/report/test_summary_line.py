"""The iteration's line: progress, figures in a fixed order, and warnings."""

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


def test_a_line_has_its_figures_with_units_in_a_fixed_order() -> None:
    figures = {
        "seed": 1,
        "iteration": 2,
        "pass_rate": 0.25,
        "mean_reward": 0.25,
        "all_correct": 1,
        "mixed": 2,
        "all_incorrect": 3,
        "mean_entropy": 0.5,
        "sampled_tokens": 1000,
        "total_sampled_tokens": 3000,
        "mean_length": 31.25,
        "truncated": 4,
        "regenerated_groups": 3,
        "rescued_groups": 1,
        "bonus_share": 0.043,
    }
    seconds = {"generate": 6.0, "update": 3.0, "verify": 0.5, "select": 0.1}
    assert summary_line(ROW | figures, Horizon(10, 5000), seconds).split(" | ") == [
        "extra/s1: 3/10 iterations, 60% of 5,000 tokens, 19s left",
        "pass 25.0%, reward 0.25",
        "groups 1 solved, 2 mixed, 3 unsolved",
        "entropy 0.5 nats",
        "tokens 1,000, 31.2 per response, 4 cut off",
        "continued 3 groups, rescued 1",
        "bonus 4.3% of advantage",
        "generate 6.0s update 3.0s verify 0.5s",
    ]


def test_replayed_groups_are_shown_with_their_pass_rate_where_trajectories_are_stored() -> None:
    assert "replayed" not in line()
    replays = {"replayed_groups": 4, "replayed_pass_rate": 0.475, "stored_trajectories": 9}
    assert " | continued 0 groups, rescued 0, replayed 4 at 47.5% of 9 stored | " in line(**replays)
    assert "replayed 0 at - of 9 stored" in line(stored_trajectories=9, replayed_pass_rate=None)


def test_without_a_budget_the_time_left_is_that_of_the_iterations() -> None:
    shown = summary_line(ROW | {"iteration": 2}, Horizon(6, 0), {"generate": 10.0})
    assert shown.startswith("extra/s0: 3/6 iterations, 30s left |")


def test_an_iteration_after_the_budget_says_so() -> None:
    shown = line(rollouts=0, iteration=2, total_sampled_tokens=3000)
    assert shown == "extra/s0: 3/3 iterations | no rollouts: the budget was spent after 3,000 sampled tokens"


@pytest.mark.parametrize(
    ("column", "advice"),
    [
        ("verdict_gold_unparseable", "extra check-answers"),
        ("verdict_error", "correct your judge, or report a bug"),
        ("verdict_timeout", "verifier.timeout_s"),
    ],
)
def test_a_fault_is_a_warning_with_its_count_and_advice(column: str, advice: str) -> None:
    first, warning = line(**{column: 2}).splitlines()
    assert warning.startswith("  WARNING: 2 ")
    assert advice in warning
    assert first == line()


def test_iterations_and_budgets_are_reported_separately_and_the_first_budget_to_end_gives_the_time() -> None:
    """Half of the tokens are sampled and three quarters of the compute are spent, so one more iteration fits."""
    figures = {"total_sampled_tokens": 500, "sampled_tokens": 100, "total_compute": 75.0, "compute": 25.0}
    both, tokens = (
        summary_line(ROW | figures, Horizon(99, *budget), {"generate": 60.0}) for budget in ((1000, 100), (1000,))
    )
    assert both.startswith("extra/s0: 1/99 iterations, 50% of 1,000 tokens, 75% of 100 FLOP, 1m00s left |")
    assert tokens.startswith("extra/s0: 1/99 iterations, 50% of 1,000 tokens, 5m00s left |")


@pytest.mark.parametrize(
    ("mean", "ratio", "warned"), [(0.01, 2.0, False), (0.011, 1.1, True), (1e-6, 2.1, True), (None, None, False)]
)
def test_a_mismatch_of_sampler_and_policy(mean: float | None, ratio: float | None, warned: bool) -> None:
    shown = line(mismatch_mean=mean, mismatch_max_ratio=ratio, mismatch_kl=None if mean is None else 0.5)
    assert ("WARNING: sampler and policy differ" in shown) is warned


def test_the_mean_is_compared_with_the_tolerance_of_the_iteration() -> None:
    figures = {"mismatch_mean": 0.1, "mismatch_max_ratio": 1.5, "mismatch_kl": 0.01}
    shown = [
        summary_line(ROW | figures, Horizon(3, 0), {}, tolerance=tolerance) for tolerance in (None, 0.05, 0.1, 0.2)
    ]
    assert ["WARNING" in line for line in shown] == [True, True, False, False]


def test_the_tolerance_is_read_from_the_records(tmp_path: Path) -> None:
    assert tolerance_of_iteration(tmp_path) is None
    for of, figures in (("generate", {"mismatch_tolerance": 0.2}), ("regenerate", {"padding": 0.0})):
        (tmp_path / f"score_entropy_{of}.run.json").write_text(json.dumps({"figures": figures}))
    assert tolerance_of_iteration(tmp_path) == 0.2


def test_the_warning_has_the_figures_and_the_next_step() -> None:
    shown = line(mismatch_mean=0.0213, mismatch_max_ratio=7.389, mismatch_kl=0.0345)
    for figure in (
        "0.021 nats per token",
        "(tolerance 0.01)",
        "factor of up to 7.39",
        "KL 0.0345 nats",
        "extra doctor",
    ):
        assert figure in shown


def test_the_means_of_named_numbers_follow_the_reward() -> None:
    numbers = [{"name": "format", "value": 0.5}, {"name": "length", "value": 28.1}]
    assert ", format 0.5, length 28.1 | groups" in line(mean_numbers=numbers)
    assert "format" not in line(mean_numbers=None)
