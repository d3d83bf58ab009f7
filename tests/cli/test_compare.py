"""extra compare: its tables for a finished experiment, for one seed, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extra_cli import main
from extra_rl.tables import contracts
from extra_rl.tables.files import write_table
from tests.comparison.grids import of_seeds, one_problem, results, summary_row

TEN = {"grpo": [1] * 10, "extra": [3] * 9 + [2], "lexical": [1] * 5 + [2] * 5}


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()  # what the stage said
    assert main.main(["compare", *words]) == 0
    return capsys.readouterr().out


def grid(folder: Path) -> Path:
    policies = one_problem({"warm_start": 0, "warm_start_1": 1})
    for arm, rights in TEN.items():
        policies |= of_seeds(arm, rights)
    return results(
        folder,
        policies,
        seeds=list(range(10)),
        warm_starts=[0, 1],
        comparisons=["extra - grpo", "lexical - grpo"],
    )


def lines_with(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_a_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, str(grid(tmp_path)))
    # extra: 75 nine times, 50 once: mean 72.5, variance (9 * 2.5^2 + 22.5^2) / 9 = 62.5
    assert lines_with(text, "extra", "72.5 ± 7.9", "10")
    assert lines_with(text, "warm start", "12.5 ± 17.7")
    (named,) = lines_with(text, "extra - grpo", "pass@1", "..")
    # differences 50 nine times and 25 once, in the second block: variance (4 * 5^2 + 20^2) / 8 = 62.5, and
    # 47.5 - 2.306 * sqrt(62.5 / 10) = 41.7; all ten signs agree: p = 2/1024, and twice that of two tests
    assert named.split()[3:7] == ["pass@1", "+47.5", "7.9", "+41.7"]
    assert "0.0020  0.0039  10 in 2 blocks" in named
    assert "1 of the 2 differences named before the run is significant" in text
    assert "): extra - grpo is +47.5 [+41.7, +53.3] at pass@1." in text
    assert "lexical - grpo, pass@1" not in text
    assert text.index("Differences named before the run") < text.index("extra - grpo") < text.index("Exploratory")
    (budget,) = lines_with(text, "lexical", "1,000")
    assert budget.split() == ["lexical", "1,000", "0", "-", "0", "0", "0", "-", "0"]
    (spent,) = lines_with(text, "lexical", "100 ± 0")
    assert spent.split() == ["lexical", *("100", "±", "0"), *2 * ("0", "±", "0"), *"----", "10"]


def test_benchmarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = grid(tmp_path)
    assert not lines_with(said(capsys, str(folder)), "extra - grpo", "pass@1 A")
    assert lines_with(said(capsys, str(folder), "--benchmarks"), "extra - grpo", "pass@1 A", "+47.5")


def test_what_each_seed_spent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds of 100 tokens; on a device for 2 and 5 seconds, with 3 and 4 useful groups."""
    policies = one_problem({"warm_start": 0, "grpo/s0": 1, "grpo/s1": 3})
    for seed, (seconds, useful) in enumerate(((2.0, 3), (5.0, 4))):
        here = tmp_path / "grpo" / f"s{seed}" / "iteration_0000"
        table = contracts.IterationSummary.cast(summary_row().with_columns(useful_groups=useful))
        write_table(table, here / "summarize.parquet", contracts.IterationSummary, {})
        for stage, factor in (("update", 1.0), ("evaluate", 100.0)):
            record = {"stage": stage, "wall_s": 10 * seconds, "cpu_s": 7 * seconds, "device_s": factor * seconds}
            (here / f"{stage}.run.json").write_text(json.dumps(record))
    text = said(capsys, str(results(tmp_path, policies)), "--seeds")
    by_seed = text[text.index("Spent by each seed; device-seconds without evaluations and warm start") :]
    assert by_seed.splitlines()[1].split("  ")[-1] == "per device-second"
    assert [line.split() for line in by_seed.splitlines()[2:4]] == [
        ["grpo", "0", "100", "0", "2", "3", "30", "-", "1.5"],
        ["grpo", "1", "100", "0", "5", "4", "40", "-", "0.8"],
    ]
    (mean,) = lines_with(text, "grpo", "3.5 ± 2.12")  # device-seconds: (5 - 2) / sqrt(2) = 2.12
    assert mean.split()[10:] == ["3.5", "±", "0.707", "35", "±", "7.07", "-", "1.15", "±", "0.495", "2"]
    assert "Spent by each seed" not in said(capsys, str(tmp_path))
    (total,) = lines_with(text[text.index("Spent by all seeds") :], "grpo")
    assert total.split() == ["grpo", "200", "0", "-", "49", "7", "70", "4.08", "49"]


def test_a_summary_of_an_earlier_version_has_hyphens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = results(tmp_path, of_seeds("grpo", [1, 2]) | of_seeds("extra", [3, 3]))
    summary = json.loads((folder / "summary.json").read_text())
    del summary["seconds"]
    for arm in summary["arms"].values():
        del arm["budget"]["device_seconds"]
        for seed in arm["per_seed"].values():
            for name in list(seed):
                if "second" in name or "useful" in name:
                    del seed[name]
    (folder / "summary.json").write_text(json.dumps(summary))
    (spent,) = lines_with(said(capsys, str(folder)), "extra", "100 ± 0")
    assert spent.split() == ["extra", "100", "±", "0", "0", "±", "0", *"-----", "2"]


def test_one_seed_has_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies = one_problem({"warm_start": 0, "grpo/s0": 1, "extra/s0": 3})
    text = said(capsys, str(results(tmp_path, policies, comparisons=["extra - grpo"])))
    (line,) = lines_with(text, "extra - grpo", "pass@1")
    assert line.split() == ["extra", "-", "grpo", "pass@1", "+50.0", *"-----", "1"]
    assert "cannot be tested. Run more seeds." in text
    assert "nan" not in text.lower()


def test_nothing_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, str(results(tmp_path, of_seeds("grpo", [1, 2]) | of_seeds("extra", [3, 3]))))
    assert "No comparison was named before the run" in text
    assert lines_with(text, "extra - grpo", "+37.5")


def test_too_few_seeds_for_significance_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies = of_seeds("grpo", [1] * 5) | of_seeds("extra", [3] * 5)
    text = said(capsys, str(results(tmp_path, policies, comparisons=["extra - grpo"])))
    assert "none could be: 1 test over 5 seeds reaches a Holm-adjusted p of 0.062 at best" in text


def test_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(said(capsys, str(grid(tmp_path)), "--json"))
    assert [row["arm"] for row in facts["differences"] if row["named"] and row["benchmark"] == "mean"] == [
        "extra",
        "lexical",
    ]
    assert facts["summary"]["comparisons"][0]["significant"] is True


@pytest.mark.parametrize("gone", ["compare_differences.parquet", "summary.json"])
def test_an_unfinished_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: str) -> None:
    (grid(tmp_path) / gone).unlink()
    assert main.main(["compare", str(tmp_path)]) != 0
    error = capsys.readouterr().err
    assert "Name the folder of a finished run" in error
    assert gone in error
