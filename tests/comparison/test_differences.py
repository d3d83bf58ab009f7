"""compare_differences and compare_seeds on experiments small enough to count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy import stats

from extra_rl.comparison.differences import stands
from extra_rl.comparison.lines import sentence
from extra_rl.errors import ConfigError
from tests.comparison.grids import compared, evaluated, of_seeds, one_problem


def row(table: pl.DataFrame, arm: str, base: str, **where: Any) -> dict[str, Any]:
    (found,) = table.filter(arm=arm, base=base, **{"benchmark": "mean", "k": 1, **where}).to_dicts()
    return found


def test_a_difference_is_the_mean_over_seeds_with_the_paired_interval(tmp_path: Path) -> None:
    policies = of_seeds("grpo", [1, 1, 2, 0]) | of_seeds("extra", [2, 3, 3, 0])
    made, _ = compared(tmp_path, policies, comparisons=["extra - grpo"])
    found = row(made["compare_differences"], "extra", "grpo")
    # 25, 50, 25, 0 percentage points
    expected = stats.ttest_1samp([25, 50, 25, 0], 0).confidence_interval()
    assert (found["difference"], found["named"], found["seeds"], found["blocks"]) == (25.0, True, 4, 1)
    assert found["sd"] == pytest.approx((1250 / 3) ** 0.5, rel=1e-6)
    assert (found["t_low"], found["t_high"]) == pytest.approx((expected.low, expected.high), rel=1e-6)
    # |+-25 +-50 +-25 +-0| is at least 100 for 2 of the 8 signs of the three, whatever that of the zero
    assert found["p"] == pytest.approx(0.25)
    assert found["p_holm"] == pytest.approx(0.25)
    # one problem, so seeds alone are drawn: means of four of 0, 25, 25, 50
    assert 0.0 <= found["bootstrap_low"] < 25.0 < found["bootstrap_high"] <= 50.0
    assert (found["regime"], found["regime_value"]) == ("", None)


def test_seeds_are_blocked_by_the_warm_start_that_they_have(tmp_path: Path) -> None:
    # Seeds 5, 6, 7, 8 have the warm starts 0, 3, 0, 3. Differences 0, 75, 25, 100: within the blocks -+12.5 only.
    policies = one_problem(
        {"warm_start": 0, "warm_start_3": 1}
        | {"grpo/s5": 1, "grpo/s6": 1, "grpo/s7": 1, "grpo/s8": 0}
        | {"extra/s5": 1, "extra/s6": 4, "extra/s7": 2, "extra/s8": 4}
    )
    made, summary = compared(tmp_path, policies, seeds=[5, 6, 7, 8], warm_starts=[0, 3])
    found = row(made["compare_differences"], "extra", "grpo")
    half = stats.t.ppf(0.975, 2) * (4 * 12.5**2 / 2 / 4) ** 0.5
    assert (found["difference"], found["blocks"], found["seeds"], found["named"]) == (50.0, 2, 4, False)
    assert (found["t_low"], found["t_high"]) == pytest.approx((50 - half, 50 + half), rel=1e-6)
    assert (found["bootstrap_low"], found["bootstrap_high"]) == (37.5, 62.5)
    assert found["p_holm"] is None
    assert (summary["comparisons"], summary["family"]) == ([], None)
    # against where each seed began: extra 25 - 0, 100 - 25, 50 - 0, 100 - 25
    assert row(made["compare_differences"], "extra", "warm_start")["difference"] == 56.25
    seeds = made["compare_seeds"].filter(arm="extra", benchmark="mean")
    assert seeds["seed"].to_list() == [5, 6, 7, 8]
    assert seeds["warm_start"].to_list() == [0, 3, 0, 3]
    assert seeds["pass_at_k"].to_list() == [25, 100, 50, 100]
    assert seeds["warm_start_pass_at_k"].to_list() == [0, 25, 0, 25]
    assert summary["warm_start"]["pass@1"] == 12.5
    assert summary["warm_start"]["per_warm_start"] == {"0": {"pass@1": 0.0}, "3": {"pass@1": 25.0}}


def test_the_mean_over_benchmarks_weighs_them_the_same_whatever_their_size(tmp_path: Path) -> None:
    policies = {
        "grpo/s0": {"A/1": 0, "A/2": 0, "A/3": 0, "B/1": 0},
        "extra/s0": {"A/1": 4, "A/2": 0, "A/3": 0, "B/1": 3},
    }
    made, _ = compared(tmp_path, policies)
    by_benchmark = {r["benchmark"]: r["difference"] for r in made["compare_differences"].to_dicts()}
    assert by_benchmark == pytest.approx({"A": 100 / 3, "B": 75.0, "mean": (100 / 3 + 75) / 2})


def test_one_seed_gives_differences_and_nothing_more(tmp_path: Path) -> None:
    made, summary = compared(
        tmp_path, one_problem({"warm_start": 0, "grpo/s0": 1, "extra/s0": 3}), comparisons=["extra - grpo"]
    )
    found = row(made["compare_differences"], "extra", "grpo")
    unknown = ("sd", "t_low", "t_high", "bootstrap_low", "bootstrap_high", "p", "p_holm")
    assert found["difference"] == 50.0
    assert [found[name] for name in unknown] == [None] * 7
    assert summary["comparisons"][0]["difference"] == 50.0
    assert (summary["comparisons"][0]["stands"], summary["family"]) == (False, None)


def test_holm_is_over_the_named_comparisons_regimes_and_ks_of_the_mean_alone(tmp_path: Path) -> None:
    # six seeds: p is 2/64 where all six agree in sign and size
    policies = {}
    for regime in ("low", "high"):
        policies |= of_seeds(f"{regime}-grpo", [1] * 6) | of_seeds(f"{regime}-extra", [2] * 6)
        policies |= of_seeds(f"{regime}-lexical", [1] * 6)
    made, summary = compared(
        tmp_path,
        policies,
        ks=[1, 2],
        comparisons=["extra - grpo", "extra - lexical"],
        regimes={"low": 50, "high": 90},
        seeds=[0, 1, 2, 3, 4, 5],
    )
    table = made["compare_differences"]
    assert summary["family"] == {"tests": 8, "seeds": 6, "least_p_holm": pytest.approx(8 * 2 / 64)}
    named = table.filter("named", benchmark="mean")
    assert named["p"].to_list() == pytest.approx([2 / 64] * 8)
    assert named["p_holm"].to_list() == pytest.approx([8 * 2 / 64] * 8)
    assert table.filter(~pl.col("named") | (pl.col("benchmark") != "mean"))["p_holm"].null_count() == len(table) - 8
    assert dict(zip(table["regime"], table["regime_value"], strict=True)) == {"low": 50.0, "high": 90.0}
    # lexical - grpo was not named: it is shown against the first arm, and extra - grpo is not shown twice
    assert table.filter(benchmark="mean", k=1, regime="low").select("arm", "base").rows() == [
        *[("extra", "grpo"), ("extra", "lexical"), ("lexical", "grpo")],
    ]
    assert [(c["regime"], c["arm"], c["base"], c["k"]) for c in summary["comparisons"]] == [
        (regime, "extra", base, k) for regime in ("low", "high") for base in ("grpo", "lexical") for k in (1, 2)
    ]
    assert summary["arms"]["high-extra"]["regime"] == "high"


def test_an_arm_that_is_not_run_in_a_regime_has_no_row_there(tmp_path: Path) -> None:
    policies = of_seeds("low-grpo", [1, 1]) | of_seeds("low-extra", [2, 2]) | of_seeds("high-grpo", [1, 1])
    made, _ = compared(tmp_path, policies, comparisons=["extra - grpo"], regimes={"low": 50, "high": 90})
    assert set(made["compare_differences"]["regime"]) == {"low"}
    assert set(made["compare_seeds"]["regime"]) == {"low", "high"}


def test_regimes_come_by_their_numbers(tmp_path: Path) -> None:
    policies = of_seeds("b-grpo", [1, 1]) | of_seeds("b-extra", [2, 2]) | of_seeds("a-grpo", [1, 1])
    made, _ = compared(tmp_path, policies | of_seeds("a-extra", [2, 1]), regimes={"a": 90, "b": 50})
    for table in ("compare_differences", "compare_seeds"):
        assert made[table]["regime"].unique(maintain_order=True).to_list() == ["b", "a"]


def test_what_stands_is_significant_and_clear_of_zero_on_one_side() -> None:
    clear = {"p_holm": 0.04, "t_low": 0.1, "t_high": 2.0, "bootstrap_low": 0.2, "bootstrap_high": 1.9}
    assert stands(clear)
    assert stands(clear | {"t_low": -2.0, "t_high": -0.1, "bootstrap_low": -3.0, "bootstrap_high": -0.5})
    for change in (
        {"p_holm": 0.05},
        {"p_holm": None},
        {"t_low": -0.1},
        {"bootstrap_low": 0.0},
        {"bootstrap_low": None},
        {"bootstrap_low": -2.0, "bootstrap_high": -0.1},
    ):
        assert not stands(clear | change), change


def test_of_many_differences_that_stand_the_sentence_names_the_others() -> None:
    clear = {"p_holm": 0.01, "t_low": 0.1, "t_high": 2.0, "bootstrap_low": 0.2, "bootstrap_high": 1.9, "seeds": 12}
    where = {"arm": "extra", "base": "grpo", "difference": 1.25, "k": 1}
    stand = [clear | where | {"regime": f"h{n}"} for n in range(8)]
    fail = [row | {"p_holm": 0.2} for row in stand]
    rule = "(Holm p < 0.05 and both intervals clear of zero)"
    assert sentence(stand[:1] + fail) == f"These stand {rule}: h0: extra - grpo, pass@1 +1.2."
    assert sentence(stand + fail[:1]) == f"8 of 9 stand {rule}; all but h0: extra - grpo, pass@1 +1.2."
    assert sentence(stand + fail) == f"8 of 16 stand {rule}."


def test_what_rounding_leaves_of_equal_figures_is_no_difference(tmp_path: Path) -> None:
    """The same counts on other problems add up in another order; ten such seeds must not be a finding."""
    here, there = [1, 0, 4, 2, 3, 2, 3, 4, 0, 2, 4, 4], [2, 1, 2, 2, 4, 3, 4, 0, 3, 4, 0, 4]
    policies = {}
    for seed in range(10):
        policies[f"grpo/s{seed}"] = {f"A/{n:02}": right for n, right in enumerate(here)}
        policies[f"extra/s{seed}"] = {f"A/{n:02}": right for n, right in enumerate(there)}
    made, summary = compared(tmp_path, policies, ks=[2], comparisons=["extra - grpo"])
    found = row(made["compare_differences"], "extra", "grpo", k=2)
    assert [found[name] for name in ("difference", "t_low", "t_high", "p")] == [0.0, 0.0, 0.0, 1.0]
    assert not any(found["stands"] for found in summary["comparisons"])


def test_unknown_arms_and_malformed_comparisons_are_refused(tmp_path: Path) -> None:
    policies = of_seeds("grpo", [1]) | of_seeds("extra", [2])
    with pytest.raises(ConfigError, match=r"no arm 'lexical'; there are grpo, extra, warm_start"):
        compared(tmp_path, policies, comparisons=["extra - lexical"])
    for text in ("extra-grpo", "extra - extra", "extra -", "extra - grpo - x"):
        with pytest.raises(ConfigError, match="name two arms as `extra - grpo`"):
            compared(tmp_path, policies, comparisons=[text])
    with pytest.raises(ConfigError, match="named twice"):
        compared(tmp_path, policies, comparisons=["extra - grpo", "extra  -  grpo"])


def test_policies_that_were_asked_different_problems_are_not_compared(tmp_path: Path) -> None:
    policies = {"grpo/s0": {"A/1": 1}, "extra/s0": {"A/2": 1}}
    with pytest.raises(ConfigError, match="extra and grpo were evaluated on different problems"):
        compared(tmp_path, policies)


def test_labels_of_other_experiments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no arm and seed of this configuration; regimes: low"):
        compared(tmp_path, of_seeds("grpo", [1]), regimes={"low": 1})
    with pytest.raises(ConfigError, match=r"seeds: .* does not contain every seed of the evaluations"):
        compared(tmp_path, of_seeds("grpo", [1, 1]), seeds=[0])
    with pytest.raises(ConfigError, match="expected warm_start"):
        compared(tmp_path, {"warm_starts": {"A/1": 1}})


def test_the_same_problems_are_drawn_for_all_arms(tmp_path: Path) -> None:
    """Arms that differ by one sample on every problem, however hard: the interval is a point."""
    easy = {f"A/{n}": (0 if n < 20 else 3) for n in range(40)}
    policies = {f"grpo/s{seed}": easy for seed in range(3)}
    policies |= {f"extra/s{seed}": {name: right + 1 for name, right in easy.items()} for seed in range(3)}
    made, _ = compared(tmp_path, policies)
    found = row(made["compare_differences"], "extra", "grpo")
    assert (found["bootstrap_low"], found["difference"], found["bootstrap_high"]) == pytest.approx((25, 25, 25))
    assert evaluated(easy).height == 160
