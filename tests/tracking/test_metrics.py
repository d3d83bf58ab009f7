"""Names and values of the metrics, and the texts of the table of rollouts."""

from __future__ import annotations

import re

import polars as pl
import pytest

from extra_rl.tables import contracts
from extra_rl.tracking.collect import shortened
from extra_rl.tracking.metrics import (
    FROM_SUMMARY,
    OVER_STEPS,
    evaluation_metrics,
    iteration_metrics,
    lasting,
    names,
    powers_of_two,
)
from extra_rl.tracking.record import COLUMNS, Record, digest_of, flat, markdown_table
from tests.conftest import ROOT


def summary(**changes: object) -> dict[str, object]:
    plain = {"iteration": 3, "rollouts": 8, "mean_numbers": None}
    return dict.fromkeys(contracts.IterationSummary.columns(), 1) | plain | changes


def steps(*rows: dict[str, object]) -> pl.DataFrame:
    schema = contracts.UpdateSteps.create_empty().schema
    plain = {"step": 0, "loss_tokens": 1, "signal_rows": 1, "learning_rate": 0.5}
    return pl.DataFrame([plain | row for row in rows], schema=schema, strict=False)


def test_the_page_defines_exactly_the_metrics_of_the_code() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    defined = re.findall(r"^\| `([a-z_]+/[^`]+)` \|", page, re.MULTILINE)
    assert sorted(defined) == sorted(names())


def test_the_columns_of_the_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    for source, table in ((FROM_SUMMARY, "summarize"), (OVER_STEPS, "update")):
        for name, column in source.items():
            assert re.search(rf"^\| `{re.escape(name)}` \|.*`{table}\.{column}`", page, re.MULTILINE), name


def test_every_column_exists_in_its_contract() -> None:
    assert set(FROM_SUMMARY.values()) <= set(contracts.IterationSummary.columns())
    assert set(OVER_STEPS.values()) <= set(contracts.UpdateSteps.columns())


def test_values_of_an_iteration_by_hand() -> None:
    rows = steps(
        {"step": 0, "loss_tokens": 30, "clipped_high": 0.1, "signal_rows": 5, "learning_rate": 0.5},
        {"step": 1, "loss_tokens": 10, "clipped_high": 0.5, "signal_rows": 2, "learning_rate": 0.25},
    )
    numbers = [{"name": "close", "value": 0.75}, {"name": "length", "value": 21.0}]
    given = summary(truncated=2, mean_reward=0.5, sampled_tokens=2**40, mean_numbers=numbers)
    sampled, seconds, memory = {"generate": 7, "regenerate": 3}, {"generate": 2.0, "update": 3.0}, [4.0, 9.0]
    found = iteration_metrics(given, rows, sampled, seconds, memory)
    assert found["update/clipped_high"] == pytest.approx((30 * 0.1 + 10 * 0.5) / 40)
    expected = {
        "progress/iteration": 3,
        "reward/mean": 0.5,
        "numbers/close": 0.75,
        "numbers/length": 21.0,
        "rollouts/truncated_share": 0.25,
        "update/learning_rate": 0.25,
        "update/signal_rows": 7,
        "tokens/generate": 7,
        "tokens/regenerate": 3,
        "tokens/sampled": 2**40,
        "seconds/generate": 2.0,
        "seconds/total": 5.0,
        "memory/peak": 9.0,
    }
    assert {name: found[name] for name in expected} == expected
    assert "update/kl_to_reference" not in found  # null in every step


def test_figures_that_are_missing_or_not_finite_are_left_out() -> None:
    found = iteration_metrics(summary(mean_reward=None, loss=float("nan"), rollouts=0), steps(), {}, {}, [])
    assert not found.keys() & {"reward/mean", "update/loss", "rollouts/truncated_share", "memory/peak", "seconds/total"}
    assert not any(name.startswith(("update/clip", "update/learning")) for name in found)


def test_every_name_of_an_iteration_is_defined() -> None:
    row = dict.fromkeys(OVER_STEPS.values(), 0.5)
    given = summary(mean_numbers=[{"name": "close", "value": 0.5}])
    found = iteration_metrics(given, steps(row), {"generate": 1, "regenerate": 0}, {"update": 1.0}, [1.0])
    stages = {"seconds/update": "seconds/<stage>", "numbers/close": "numbers/<name>"}
    assert {stages.get(name, name) for name in found} == {n for n in names() if not n.startswith("evaluation/")}


def test_an_evaluation_has_intervals_and_powers_of_two() -> None:
    rows = [
        {"benchmark": "L1", "metric": metric, "k": k, "value": 50.0, "low": 40.0, "high": 60.0}
        for metric, k in [("pass_at_k", 1), ("pass_at_k", 3), ("pass_at_k", 4), ("mean_length", 0)]
    ]
    figures = pl.DataFrame(rows, schema=contracts.EvaluationFigures.create_empty().schema, strict=False)
    found = evaluation_metrics(figures, -1, 0, None)
    assert found == {"progress/iteration": -1, "progress/tokens": 0} | {
        f"evaluation/L1/{name}{end}": value
        for name in ("pass_at_1", "pass_at_4", "mean_length")
        for end, value in (("", 50.0), ("_low", 40.0), ("_high", 60.0))
    }
    assert powers_of_two(17) == [0, 1, 2, 4, 8, 16]
    assert powers_of_two(None) == [0]


def test_seconds_and_memory_do_not_tell_runs_apart() -> None:
    one, two = ({"reward/mean": 0.5, "seconds/total": s, "memory/peak": s} for s in (1.0, 2.0))
    assert digest_of(lasting(one)) == digest_of(lasting(two)) != digest_of(lasting(one | {"reward/mean": 0.6}))


def test_a_record_survives_its_line() -> None:
    record = Record("iteration", 3, 1.5, "ab", {"reward/mean": 0.1}, [['a\n"b', None, 1.0]])
    line = record.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == record


def test_markup_in_a_response_is_shown_and_not_read() -> None:
    text = "<img src=x onerror=alert(1)> | **b** `c` \\| [d](e)\n# f"
    rows = [["extra/s0/i0/0/0", "fresh", "p", text, "right", 1.0, -0.12345678]]
    table = markdown_table(rows).splitlines()
    assert len(table) == 3
    assert table[0].count("|") == table[2].count("|") == len(COLUMNS) + 1
    assert not set("<>*`[]\\") & set(table[2])
    assert "-0.1235" in table[2]


def test_a_long_text_loses_its_middle_and_control_characters() -> None:
    found = shortened("a" * 500 + "\x1b[31m\0" + "z" * 500, 100)
    assert found.startswith("a" * 66 + " [... ")
    assert found.endswith("z" * 34)
    assert shortened("a\x1b\0b\n", 100) == "a??b\n"


def test_nested_values_become_dotted_keys() -> None:
    assert flat({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}
