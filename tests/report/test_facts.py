"""The parts of an advantage: they add up as they are shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extra_rl.report.facts import adding_up, formula


def micro(value: float) -> int:
    return round(value * 1e6)


@given(st.floats(-50, 50, width=32), st.floats(-5, 5, width=32))
def test_the_shown_parts_add_up(normalised: float, bonus: float) -> None:
    parts = adding_up(normalised, bonus, normalised + bonus)
    assert micro(parts.normalised) + micro(parts.bonus) == micro(parts.total)
    assert parts.final == parts.total
    assert abs(parts.total - (normalised + bonus)) <= 1.1e-6


def test_parts_that_would_not_add_up_if_each_were_rounded() -> None:
    parts = adding_up(1.0000004, 1.0000004, 2.0000008)  # rounded one by one: 1 + 1 = 2.000001
    assert parts == (1.0, 1.0, 2.0, 2.0)


def test_a_removed_advantage_differs_from_the_sum() -> None:
    assert adding_up(-0.5, 0.0, 0.0) == (-0.5, 0.0, -0.5, 0.0)


def test_zero_has_no_minus_sign() -> None:
    assert str(adding_up(-0.0, -0.0, -0.0)) == "Sum(normalised=0.0, bonus=0.0, total=0.0, final=0.0)"


ROW = {"reward": 1.0, "mean": 0.25, "sd": 0.5, "trained": "trained"}


def test_the_formula_of_the_normalised_reward() -> None:
    assert formula(ROW, {"eps": 1e-6}) == "(1 - 0.25) / (0.5 + 1e-06)"
    assert formula(ROW, {"divide_by_std": False}) == "(1 - 0.25)"
    assert formula(ROW, {"normalise": "mean_only", "divide_by_std": True}) == "(1 - 0.25)"
    assert formula(ROW, {"normalise": "mean"}) == "(1 - 0.25) / 0.25"
    assert formula(ROW | {"reward": 0.0, "mean": 0.0}, {"normalise": "mean"}) == "(0 - 0)"
    assert formula(ROW | {"members": 8}, {"normalise": "pass_at_k", "k": 2}) == "pass@2, 2 of 8 correct"
    assert formula(ROW | {"reward": None}, {}) == ""
    assert formula(ROW | {"trained": "unrescued"}, {}) == ""
