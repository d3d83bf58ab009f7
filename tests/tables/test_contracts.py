"""Contracts: every kind of violation is one ContractError with file, column or rule, and the first rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl
import pytest

from extra_research import contracts as contracts_of_studies
from extra_rl.errors import ContractError
from extra_rl.tables import contracts
from extra_rl.tables.files import check
from stages import advantage
from tests.stages.rows import Row, frame, group, problem, run_stage, tables_of

FILE = Path("results/tiny/extra/s0/iteration_0003/table.parquet")
NAN, INFINITY = float("nan"), float("inf")
PARENT = Row("extra/s0/i0/0/0", response_tokens=(10, 11, 12, 2))
ROLLOUTS = [*group("rw", group_id="extra/s0/i0/1"), PARENT.continued("extra/s0/i0/i0.0/0", 2)]
TABLES = tables_of(ROLLOUTS)
GENERATE, SCORES, VERDICTS = (TABLES[name] for name in ("generate", "score_entropy_generate", "verify_generate"))
ADVANTAGES = run_stage(advantage, tables_of(group("rw")))["advantage"]
PROBLEMS = frame(contracts.Problems, [problem("p0")])
CANDIDATE = {
    "prefix_id": "extra/s0/i0/0/0@2",
    "group_id": "extra/s0/i0/0",
    "problem_id": "p0",
    "parent_rollout_id": "extra/s0/i0/0/0",
    "iteration": 0,
    "prompt_tokens": [1, 5],
    "prefix_tokens": [10, 11],
    "prefix_logprobs": [-1.0, -1.0],
    "cut_reason": "boundary",
    "score": 0.5,
    "smoothed_score": None,
    "effective_neighbours": None,
    "rank": 0,
    "chosen": True,
    "continuations": 2,
    "when": "next_iteration",
}
PREFIXES = frame(contracts.Prefixes, [CANDIDATE])
POOL = frame(
    contracts.PrefixPool, [{name: CANDIDATE.get(name) for name in contracts.PrefixPool.columns()} | {"waiting": True}]
)
DEMONSTRATION = frame(
    contracts.Rollouts,
    [{**GENERATE.row(0, named=True), "origin": "demonstration", "prefix_length": 3, "sampled_tokens": 0}],
)
AUDIT = frame(
    contracts.Disagreements,
    [dict.fromkeys(contracts.Disagreements.columns(), "x") | {"first_verdict": "right", "second_verdict": "wrong"}],
)


def breach(table: pl.DataFrame, contract: type[dy.Schema]) -> str:
    with pytest.raises(ContractError) as raised:
        check(table, contract, FILE)
    assert str(FILE) in str(raised.value)
    return str(raised.value)


def with_cell(table: pl.DataFrame, column: str, value: Any, row: int = 0) -> pl.DataFrame:
    values = table[column].to_list()
    values[row] = value
    return table.with_columns(pl.Series(column, values, table.schema[column]))


def test_the_unchanged_tables_keep_their_contracts() -> None:
    for table, contract in (
        (GENERATE, contracts.Rollouts),
        (SCORES, contracts.TokenScores),
        (VERDICTS, contracts.Verdicts),
        (ADVANTAGES, contracts.Advantages),
        (PREFIXES, contracts.Prefixes),
        (POOL, contracts.PrefixPool),
        (DEMONSTRATION, contracts.Rollouts),
        (AUDIT, contracts.Disagreements),
        (PROBLEMS, contracts.Problems),
    ):
        assert check(table, contract, FILE).equals(table)


def test_a_missing_column() -> None:
    message = breach(GENERATE.drop("finish_reason"), contracts.Rollouts)
    assert "Rollouts" in message
    assert "finish_reason" in message


@pytest.mark.parametrize(("column", "dtype"), [("prefix_length", pl.Int32), ("response_tokens", pl.List(pl.Int64))])
def test_a_wrong_dtype(column: str, dtype: pl.DataType) -> None:
    message = breach(GENERATE.with_columns(pl.col(column).cast(dtype)), contracts.Rollouts)
    assert f"column {column} of table Rollouts has type {dtype}" in message


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("column", ["entropies", "policy_logprobs"])
def test_a_list_with_a_number_that_is_not_finite(column: str, value: float) -> None:
    message = breach(with_cell(SCORES, column, [-0.5, value, -0.5], row=1), contracts.TokenScores)
    assert f"column {column}, rule " in message
    assert "1 row(s), first [{'rollout_id': 'extra/s0/i0/1/1'" in message


@pytest.mark.parametrize(("column", "value"), [("reward", NAN), ("verdict", None), ("rule", None)])
def test_a_cell_that_is_null_or_not_finite(column: str, value: Any) -> None:
    message = breach(with_cell(VERDICTS, column, value), contracts.Verdicts)
    assert f"column {column}, rule " in message
    assert "extra/s0/i0/1/0" in message


def test_a_null_is_accepted_in_nullable_columns() -> None:
    for column in ("reward", "extracted"):
        check(with_cell(VERDICTS, column, None), contracts.Verdicts, FILE)


def test_a_key_that_repeats() -> None:
    message = breach(pl.concat([GENERATE, GENERATE.head(1)]), contracts.Rollouts)
    assert "rule primary_key: 2 row(s), first [{'rollout_id': 'extra/s0/i0/1/0'}" in message


@pytest.mark.parametrize(
    ("table", "contract", "column", "value", "rule"),
    [
        (GENERATE, contracts.Rollouts, "sampler_logprobs", [-1.0], "token_lists_agree"),
        (GENERATE, contracts.Rollouts, "sampled_tokens", 2, "sampled_is_response_without_prefix"),
        (GENERATE, contracts.Rollouts, "sampler_logprobs", [-1.0, 0.5, -1.0], "logprobs_are_not_positive"),
        (GENERATE, contracts.Rollouts, "problem_id", "p9", "a_group_has_one_problem"),
        (GENERATE, contracts.Rollouts, "prefix_id", "x@1", "a_fresh_rollout_has_no_prefix"),
        (GENERATE, contracts.Rollouts, "parent_rollout_id", "x", "a_fresh_rollout_has_no_prefix"),
        (DEMONSTRATION, contracts.Rollouts, "prefix_id", "x@1", "a_demonstration_has_no_sampled_tokens"),
        (SCORES, contracts.TokenScores, "entropies", [0.5], "token_lists_agree"),
        (SCORES, contracts.TokenScores, "entropies", None, "token_lists_agree"),
        (AUDIT, contracts.Disagreements, "second_verdict", "right", "exactly_one_verdict_is_correct"),
        (POOL, contracts.PrefixPool, "prefix_logprobs", [-1.0], "token_lists_agree"),
        (PROBLEMS, contracts.Problems, "prompt_tokens", [], "prompt_is_not_empty"),
        (PREFIXES, contracts.Prefixes, "prefix_logprobs", [-1.0], "token_lists_agree"),
        (PREFIXES, contracts.Prefixes, "continuations", 0, "chosen_means_continuations"),
        (ADVANTAGES, contracts.Advantages, "advantage", 0.5, "parts_add_up"),
        (ADVANTAGES, contracts.Advantages, "bonus", 0.25, "parts_add_up"),
    ],
)
def test_a_row_that_contradicts_itself_or_its_group(
    table: pl.DataFrame, contract: type[dy.Schema], column: str, value: Any, rule: str
) -> None:
    message = breach(with_cell(table, column, value), contract)
    assert contract.__name__ in message
    assert f"rule {rule}: " in message
    assert str(table.row(0, named=True)[contract.primary_key()[0]]) in message


def test_a_continuation_without_its_prefix() -> None:
    message = breach(with_cell(GENERATE, "prefix_id", None, row=2), contracts.Rollouts)
    assert (
        "rule a_regenerated_rollout_names_its_prefix: 1 row(s), first [{'rollout_id': 'extra/s0/i0/i0.0/0'" in message
    )


def test_a_fresh_rollout_with_tokens_of_a_parent() -> None:
    changed = with_cell(with_cell(GENERATE, "prefix_length", 1), "sampled_tokens", 2)
    assert "rule a_fresh_rollout_has_no_prefix: 1 row(s)" in breach(changed, contracts.Rollouts)


@pytest.mark.parametrize(
    ("column", "value"), [("prefix_length", -1), ("prompt_tokens", [-1]), ("response_tokens", [10, None, 2])]
)
def test_counts_and_token_ids_have_a_lower_bound_and_no_gaps(column: str, value: Any) -> None:
    assert f"column {column}, rule " in breach(with_cell(GENERATE, column, value), contracts.Rollouts)


def test_a_negative_advantage_that_positive_only_removed_keeps_the_contract() -> None:
    check(with_cell(ADVANTAGES, "advantage", 0.0, row=1), contracts.Advantages, FILE)


def test_an_error_shows_three_rows_at_most() -> None:
    many = tables_of(group("w" * 9))["generate"].with_columns(sampled_tokens=pl.lit(7, pl.Int64))
    message = breach(many, contracts.Rollouts)
    assert "9 row(s)" in message
    assert message.count("rollout_id") == 3


def test_columns_are_in_the_order_of_the_contract_and_others_are_dropped() -> None:
    columns = GENERATE.columns
    table = GENERATE.select(reversed(columns)).with_columns(further=pl.lit(1))
    assert check(table, contracts.Rollouts, FILE).columns == columns


SCHEMAS = [
    found
    for module in (contracts, contracts_of_studies)
    for found in vars(module).values()
    if isinstance(found, type) and issubclass(found, dy.Schema) and found is not dy.Schema
]


@pytest.mark.parametrize("contract", SCHEMAS, ids=lambda c: c.__name__)
def test_every_table_has_a_key_and_every_column_a_description(contract: type[dy.Schema]) -> None:
    assert contract.primary_key()
    assert contract.__doc__
    for name, column in contract.columns().items():
        assert (column.metadata or {}).get("about"), name
    assert check(contract.create_empty(), contract, FILE).is_empty()


def test_a_group_with_two_problems_is_refused_in_any_order_of_rows() -> None:
    for row in (0, 1):
        mixed_up = with_cell(GENERATE, "problem_id", "p9", row)
        assert "rule a_group_has_one_problem: 2 row(s)" in breach(mixed_up, contracts.Rollouts)
