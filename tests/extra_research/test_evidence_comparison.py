"""The comparison of evidence: equal to the stage's on a grid by hand, with missing seeds, machines and a figure."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from extra_research.__main__ import main
from extra_research.evidence import Evidence, write
from extra_research.evidence_comparison import compare, plan_of, ratios_of
from extra_research.evidence_text import coverage, lines_of, planned_tests
from extra_rl.comparison.figures import counts_of
from extra_rl.errors import ConfigError, InputError
from extra_rl.tables import contracts
from tests.comparison.grids import compared, evaluated
from tests.extra_research.test_evidence_files import evidence, run

SEEDS = [5, 3, 8, 6]
STARTS = [30, 31]
REGIMES = {"low": 10.0, "high": 90.0}
ARMS = ("base", "ours", "control")
NAMED = ["ours - base", "ours - control", "ours - warm_start"]
FINAL = {"A/1": 0, "A/2": 1, "A/3": 2, "B/1": 3, "B/2": 1}


def policies() -> dict[str, dict[str, int]]:
    """Correct samples of 4 of each problem. `control` is run in one regime only."""
    found = {f"warm_start_{start}": {name: (c + start) % 3 for name, c in FINAL.items()} for start in STARTS}
    for (r, regime), (a, arm), seed in itertools.product(enumerate(REGIMES), enumerate(ARMS), SEEDS):
        if (regime, arm) != ("low", "control"):
            problems = enumerate(FINAL.items())
            right = {name: min(4, (c + a) // 2 + (seed * (p + 2 + a) + r) % 4) for p, (name, c) in problems}
            found[f"{regime}-{arm}/s{seed}"] = right
    return found


def config(folder: Path, **changes: Any) -> Path:
    raw = {
        "name": "grid",
        "seeds": SEEDS,
        "warm_starts": STARTS,
        "iterations": 2,
        "regimes": {name: {"value": value} for name, value in REGIMES.items()},
        "compare": {"ks": [1, 4], "resamples": 500, "comparisons": NAMED},
        "arms": {"base": {}, "ours": {}, "control": {"regimes": ["high"]}},
        "update": {"a_key_of_an_earlier_version": 1},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(raw | changes, sort_keys=False))
    return path


def spending(label: str) -> dict[str, Any]:
    """`ours` spends twice the tokens and half the FLOP of the others, and finds 4 useful groups instead of 1."""
    ours = "-ours/" in label
    return {
        "sampled_tokens": 4000 if ours else 2000,
        "compute": 1e12 if ours else 2e12,
        "cpu_s": 30.0 if ours else 10.0,
        "useful_groups": 4 if ours else 1,
        "machine": "a",
    }


def evidence_of(found: dict[str, dict[str, int]], **changes: dict[str, Any]) -> Evidence:
    """Evidence of policies. changes: label, with `_` for `-` and `/`, -> values of its run."""
    tables, runs = [], []
    for label, right in found.items():
        folder, _, seed = label.partition("/s")
        number = pl.lit(int(seed) if seed else -1)
        tables.append(counts_of(evaluated(right)).drop("excluded").with_columns(folder=pl.lit(folder), seed=number))
        if seed:
            key = label.replace("-", "_").replace("/", "_")
            runs.append(run(folder, int(seed), **(spending(label) | changes.get(key, {}))))
    return evidence(*tables, runs=runs)


def table_of(rows: Any) -> pl.DataFrame:
    return pl.DataFrame(rows, contracts.Differences.create_empty().schema, strict=False)


KEY = ["regime", "arm", "base", "benchmark", "k"]


def test_every_figure_is_that_of_the_stage(tmp_path: Path) -> None:
    section = {"ks": [1, 4], "resamples": 500, "comparisons": NAMED}
    made, _ = compared(tmp_path, policies(), **section, seeds=SEEDS, warm_starts=STARTS, regimes=REGIMES)
    found = compare(plan_of(config(tmp_path)), evidence_of(policies()))
    mine = table_of(found.differences).sort(KEY)
    theirs = made["compare_differences"].join(mine, on=KEY, how="semi").sort(KEY)
    assert mine.equals(theirs)
    assert mine.filter("named")["p_holm"].drop_nulls().len() == 2 * (2 + 1 + 2)  # k x (pairs in both regimes, in one)
    assert mine.select(pl.col("t_low", "bootstrap_low").is_not_null().all()).row(0) == (True, True)
    assert mine["difference"].n_unique() > 10
    assert mine.filter(benchmark="mean", k=1).select((pl.col("t_high") - pl.col("t_low") > 0.1).all()).item()
    order = ["regime", "arm", "seed", "benchmark", "k"]
    assert found.seeds.sort(order).equals(made["compare_seeds"].sort(order))
    assert planned_tests(found.plan) == 10
    assert not any("Not all runs" in line for line in coverage(found))


def test_a_pair_uses_the_seeds_that_both_arms_have(tmp_path: Path) -> None:
    some = {label: right for label, right in policies().items() if label not in ("low-ours/s3", "high-base/s8")}
    section = {"ks": [1, 4], "resamples": 500, "comparisons": NAMED}
    made, _ = compared(tmp_path, some, **section, seeds=SEEDS, warm_starts=STARTS, regimes=REGIMES)
    found = compare(plan_of(config(tmp_path)), evidence_of(some))
    mine = table_of(found.differences).sort(KEY)
    assert mine.equals(made["compare_differences"].join(mine, on=KEY, how="semi").sort(KEY))
    seeds = {(row["regime"], row["base"]): row["seeds"] for row in found.differences if row["arm"] == "ours"}
    assert seeds[("low", "base")] == seeds[("high", "base")] == 3
    assert seeds[("high", "control")] == seeds[("high", "warm_start")] == 4
    assert "Not all runs exist: 10 of 10 planned tests can be computed, with 3 to 4 of 4 seeds." in coverage(found)


def test_the_tables_show_means_rates_and_ratios(tmp_path: Path) -> None:
    found = compare(plan_of(config(tmp_path)), evidence_of(policies()))
    ours = found.seeds.filter(regime="low", arm="ours", benchmark="mean", k=1)["pass_at_k"]
    lines = lines_of(found, markdown=True)
    start = lines.index("**Regime low (10): pass@k in percent, groups per run, cost per run**")
    assert lines[start + 2].startswith("|  | seeds | pass@1 | pass@4 | useful groups per 1,000 tokens | per TFLOP |")
    assert lines[start + 3] == "| --- |" + " ---: |" * 13
    assert lines[start + 4].startswith("| warm start | 2 | ")
    (row,) = [line for line in lines[start:] if line.startswith("| ours | 4 |")][:1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2] == f"{ours.mean():.1f} ± {ours.std():.1f}"
    # 4 useful groups in 4,000 tokens, 1 TFLOP and 30 CPU-seconds
    assert cells[4:7] == ["1 ± 0", "4 ± 0", "0.133 ± 0"]
    assert cells[11:] == ["4,000 ± 0", "1 ± 0", "30 ± 0"]
    assert "| low: ours | 2.00 ± 0.00 | 0.50 ± 0.00 | 3.00 ± 0.00 | 4 |" in lines
    (named,) = [line for line in lines if line.startswith("| high: ours - control | pass@1 |")]
    assert named.endswith("| 4 in 2 blocks | no |")


def test_seconds_of_different_machines_are_in_no_ratio(tmp_path: Path) -> None:
    found = compare(plan_of(config(tmp_path)), evidence_of(policies(), low_ours_s3={"machine": "b", "cpu_s": 900.0}))
    ratios = ratios_of(found).filter(regime="low", arm="ours")
    assert ratios.select("what", "mean", "seeds").rows() == [
        ("tokens", 2.0, 4),
        ("compute", 0.5, 4),
        ("seconds", 3.0, 3),
    ]
    said = "\n".join(coverage(found))
    assert "Machines: a (19 runs); b (1 runs)" in said
    assert "1 runs were made on another machine than the run of base" in said


def test_runs_that_are_not_planned_are_left_out_and_named(tmp_path: Path) -> None:
    more = policies() | {"high-other/s5": FINAL, "low-base/s99": FINAL}
    found = compare(plan_of(config(tmp_path)), evidence_of(more))
    assert found.left_out == "high-other/s5, low-base/s99"
    assert len(found.runs) == 20
    with pytest.raises(InputError, match=r"no run of grid: it has high-other/s5"):
        compare(plan_of(config(tmp_path)), evidence_of({"high-other/s5": FINAL}))


def test_a_run_that_spent_no_budget_cannot_be_compared(tmp_path: Path) -> None:
    plan = plan_of(config(tmp_path, select={"compute_budget": 1.5e12, "token_budget": 4000}))
    compare(plan, evidence_of(policies()))  # either budget is enough
    with pytest.raises(
        ConfigError, match=r"high-ours/s8 sampled 3,999 of 4,000 tokens and computed 1e\+12 of 1.5e\+12"
    ):
        compare(plan, evidence_of(policies(), high_ours_s8={"sampled_tokens": 3999}))


@pytest.mark.parametrize("budget", ["1.5e12", 1.5e12])
def test_a_budget_that_yaml_reads_as_text_is_a_number(tmp_path: Path, budget: str | float) -> None:
    plan = plan_of(config(tmp_path, select={"compute_budget": budget}))
    assert set(plan.budgets.values()) == {(None, 1.5e12)}


def test_evidence_of_another_experiment_is_refused(tmp_path: Path) -> None:
    """Its arms, regimes and seeds have the same names."""
    plan = plan_of(config(tmp_path))
    compare(plan, evidence_of(policies(), high_ours_s8={"experiment": "grid"}))
    with pytest.raises(ConfigError, match=r"the evidence is of other, and the configuration is of grid"):
        compare(plan, evidence_of(policies(), high_ours_s8={"experiment": "other"}))


def test_mistakes_of_the_configuration_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no arm 'theirs'"):
        plan_of(config(tmp_path, compare={"comparisons": ["ours - theirs"]}))
    with pytest.raises(ConfigError, match=r"there is no regime 'middle'"):
        plan_of(config(tmp_path, arms={"base": {"regimes": ["middle"]}}))


def test_the_figure_has_panels_intervals_and_one_legend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(evidence_of(policies()), tmp_path / "grid")
    words = ["evidence", "compare", str(config(tmp_path)), str(tmp_path / "grid"), "--figure"]
    assert main([*words, str(tmp_path / "all.svg")]) == 0
    assert capsys.readouterr().out.rstrip().endswith("all.svg")
    svg = (tmp_path / "all.svg").read_text()
    assert "var(" not in svg
    for text in ("pass@1: percentage points over base", "pass@4: percentage points over base", "low (10)"):
        assert svg.count(f">{text}</text>") == (2 if text == "low (10)" else 1)
    assert svg.count(">ours</text>") == svg.count(">control</text>") == 1
    assert main([*words, str(tmp_path / "one.svg"), "--figure-arms", "ours"]) == 0
    assert ">control</text>" not in (tmp_path / "one.svg").read_text()
    assert main([*words, str(tmp_path / "no.svg"), "--figure-arms", "oours"]) == 2
    assert "'oours' has no gain over base; did you mean `ours`?" in capsys.readouterr().err
