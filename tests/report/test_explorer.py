"""What the page's explorer is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extra_rl.report import explorer
from extra_rl.report.explorer import collect
from extra_rl.tables import scan_run
from tests.conftest import Run
from tests.report.by_hand import CHILD, HARD, UNSOLVED, add_replays, make_run


def rows_of(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """id -> row, the columns decoded as explorer.js does."""
    columns = {
        name: column if isinstance(column, list) else [c if c is None else column["texts"][c] for c in column["codes"]]
        for name, column in data["rows"].items()
    }
    assert len({len(column) for column in columns.values()}) == 1
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {row["id"]: row for row in rows}


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Any]:
    return collect(make_run(tmp_path), 100)


def test_a_rescued_continuation_and_its_arithmetic(made: dict[str, Any]) -> None:
    row = rows_of(made)[CHILD]
    assert (row["verdict"], row["origin"], row["parent"], row["nearest"]) == (
        *("right", "regenerated", f"{HARD}/0", f"{HARD}/1"),
    )
    assert [made["pieces"][place] for place in row["tokens"]] == ["one", " =", " three", " <eos>"]
    assert (row["length"], row["head"], row["left_out"], row["stored_response"]) == (4, 4, 0, None)
    assert row["prefix"] == {
        "candidates": 2,
        "found_in": 0,
        "cut_reason": "before_peak",
        "score": 0.3125,
        "rank": 0,
        "smoothed_score": None,
        "effective_neighbours": None,
        "when": "next_iteration",
    }
    (given,) = row["advantages"]
    assert (given["members"], given["mean"], given["sd"]) == (4, 0.25, 0.5)
    assert (given["normalised"], given["bonus"], given["total"], given["final"]) == (1.499997, 0.03, 1.529997, 1.529997)
    assert (given["trained"], given["loss_start"], given["type"]) == ("trained", 2, "mixed")
    assert made["settings"]["extra"]["weight"] == 0.1
    assert made["problems"]["p0"] == "3 4 :"


def test_rows_have_the_kind_of_their_group_and_replays_their_own_origin(tmp_path: Path) -> None:
    results = make_run(tmp_path)
    names = add_replays(results, "rw")
    rows = rows_of(collect(results, 100))
    assert [(rows[name]["origin"], rows[name]["kind"], rows[name]["parent"]) for name in names] == [
        ("replayed", "replayed", CHILD)
    ] * 2
    assert rows[names[0]]["advantages"][0]["final"] > 0 > rows[names[1]]["advantages"][0]["final"]
    assert (rows[CHILD]["origin"], rows[CHILD]["kind"]) == ("regenerated", "rescued")
    assert (rows[f"{HARD}/0"]["origin"], rows[f"{HARD}/0"]["kind"]) == ("fresh", "rescued")
    assert rows[f"{UNSOLVED}/0"]["kind"] == "all_incorrect"


def test_a_parent_is_given_an_advantage_twice(made: dict[str, Any]) -> None:
    row = rows_of(made)[f"{HARD}/0"]
    assert row["entropies"] == [12, 50, 225, 75]
    first, second = row["advantages"]
    assert (first["at"], first["carried"], first["final"], first["trained"]) == (0, False, 0.0, "no_signal")
    assert (second["at"], second["carried"], second["final"], second["trained"]) == (1, True, -0.499999, "trained")
    assert row["prefix"] is None


def test_continuations_normalised_separately_exclude_their_parents(tmp_path: Path) -> None:
    rows = rows_of(collect(make_run(tmp_path, section={"weight": 0.1}), 100))
    (given,) = rows[CHILD]["advantages"]
    assert given["group"] == f"{HARD}/own"
    assert (given["members"], given["mean"], given["sd"]) == (2, 0.5, 0.707107)
    assert len(rows[f"{HARD}/0"]["advantages"]) == 1


def test_unrescued_continuations_count_in_no_group(mini_run: Run) -> None:
    given = [g for row in rows_of(collect(mini_run.results, 10_000)).values() for g in row["advantages"]]
    unrescued = [g for g in given if g["trained"] == "unrescued"]
    assert unrescued
    assert {(g["members"], g["mean"], g["final"]) for g in unrescued} == {(0, None, 0.0)}


def test_a_rollout_of_another_group_has_only_its_own_statistics(made: dict[str, Any]) -> None:
    (given,) = rows_of(made)[f"{UNSOLVED}/1"]["advantages"]
    assert (given["members"], given["mean"], given["sd"], given["type"]) == (2, 0.0, 0.0, "all_incorrect")


def test_the_same_results_give_the_same_json(mini_run: Run) -> None:
    first, second = (json.dumps(collect(mini_run.results, 60), allow_nan=False) for _ in range(2))
    assert first == second


def test_groups_are_whole_and_within_the_limit(mini_run: Run) -> None:
    rows = rows_of(collect(mini_run.results, 60))
    assert 40 < len(rows) <= 60
    everything = scan_run(mini_run.results).select("rollout_id", "group_id").collect()
    groups = {row["group"] for row in rows.values()}
    wanted = everything.filter(everything["group_id"].is_in(list(groups)))["rollout_id"].to_list()
    assert sorted(rows) == sorted(wanted)
    assert {row["arm"] for row in rows.values()} == {"grpo", "extra"}
    assert {row["origin"] for row in rows.values()} == {"fresh", "regenerated"}
    assert len({row["iteration"] for row in rows.values()}) == 3
    parents = {row["parent"] for row in rows.values()} - {None}
    assert parents
    assert parents <= rows.keys()


def test_every_row_agrees_with_the_tables(mini_run: Run) -> None:
    rows = rows_of(collect(mini_run.results, 10_000))
    table = {row["rollout_id"]: row for row in scan_run(mini_run.results).collect().to_dicts()}
    assert rows.keys() == table.keys()
    for name, row in rows.items():
        stored = table[name]
        assert row["verdict"] == stored["verdict"]
        assert row["entropies"] == [round(100 * nats) for nats in stored["entropies"]]
        assert row["stored_response"] is None, "the pieces show the response"
        own = next(given for given in row["advantages"] if not given["carried"])
        assert own["final"] == pytest.approx(stored["advantage"], abs=3e-6)
        assert own["trained"] == stored["trained"]
        if own["mean"] is not None and own["trained"] == "trained":
            again = (own["reward"] - own["mean"]) / (own["sd"] + 1e-6)
            assert again == pytest.approx(own["normalised"], abs=1e-4)


def test_a_long_response_keeps_head_and_tail_and_the_page_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"response_tokens": (3, *[4] * 998, 5), "entropies": (9.0, *[1.0] * 998, 8.0), "response": "x" * 9000}
    results = make_run(tmp_path, **long)
    monkeypatch.setattr(explorer, "TOKENS_OF_A_PAGE", 800)
    row = rows_of(collect(results, 100))[f"{HARD}/0"]
    assert (row["length"], row["head"], row["left_out"]) == (1000, 67, 900)  # 800 tokens over 8 rollouts
    assert len(row["tokens"]) == len(row["entropies"]) == 100
    assert (row["entropies"][0], row["entropies"][-1]) == (900, 800)
    assert row["stored_response"].endswith("x" * 1333)
    assert "[... 5,000 characters left out ...]" in row["stored_response"]


def test_the_size_of_a_page_is_bounded(mini_run: Run) -> None:
    data = collect(mini_run.results, 1500)
    text = json.dumps(data, separators=(",", ":"))
    tokens = sum(map(len, data["rows"]["tokens"]))
    # Indices and entropies of tokens, and what each rollout has besides.
    assert len(text) < 10 * tokens + 700 * len(data["rows"]["id"]) + 20_000
    assert explorer.TOKENS_OF_A_PAGE * 10 + 1500 * 700 < 4_000_000


def test_an_unfinished_iteration_has_nulls_for_missing_stages(tmp_path: Path) -> None:
    results = make_run(tmp_path)
    last = results / "extra" / "s0" / "iteration_0001"
    for name in ("advantage", "novelty", "verify_generate", "score_entropy_generate", "score_entropy_regenerate"):
        (last / f"{name}.parquet").unlink()
    row = rows_of(collect(results, 100))[CHILD]
    assert (row["verdict"], row["novelty"], row["entropies"], row["advantages"]) == (None, None, [], [])
    json.dumps(row, allow_nan=False)


def test_without_a_tokenizer_token_ids_are_shown(tmp_path: Path) -> None:
    results = make_run(tmp_path)
    (results / "warm_start" / "policy" / "tokenizer.json").unlink()
    data = collect(results, 100)
    assert data["tokenizer"] is False
    row = rows_of(data)[CHILD]
    assert [data["pieces"][place] for place in row["tokens"]] == ["3 ", "6 ", "5 ", "2 "]
    assert row["stored_response"] == "one = three"
