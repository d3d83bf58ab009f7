"""Analytic compute: the formula against hand-calculated values."""

from __future__ import annotations

from extra_rl.run.compute import compute


def test_forward_costs_two_and_training_six_operations_for_each_weight_and_token() -> None:
    assert compute(10, sampled=5, prefilled=3, scored=8, trained=4) == 20 * 8 + 20 * 8 + 60 * 4
    assert compute(7, sampled=1, prefilled=0, scored=0, trained=0) == 14
    assert compute(7, sampled=0, prefilled=0, scored=0, trained=1) == 42


def test_a_large_count_is_exact() -> None:
    weights, tokens = 134_515_008, 1_234_567
    assert int(compute(weights, sampled=tokens, prefilled=0, scored=0, trained=0)) == 2 * weights * tokens
