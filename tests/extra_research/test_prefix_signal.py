"""Scores of prefixes: every beginning scored, areas by hand, both witnesses joined to prefixes."""

from __future__ import annotations

import polars as pl
import pytest

from extra_research.contracts import PrefixSignal
from extra_research.prefix_signal import (
    SCORES,
    continued_prefixes,
    scored_prefixes,
    signal,
    signal_table,
    sound_prefixes,
    with_steps,
)


def rollouts() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "rollout_id": ["a", "b", "empty"],
            "problem_id": ["p", "q", "p"],
            "response_tokens": [[5, 9, 5, 9], [9, 7], []],
            "entropies": [[1.0, 0.0, 0.5, 3.0], [0.25, 2.0], []],
            "policy_logprobs": [[-0.5, -2.5, 0.0, -9.0], [-1.0, -4.0], []],
        }
    )


def prefixes(scores: dict[bool, list[float]]) -> pl.DataFrame:
    rows = [{"good": good, **dict.fromkeys(SCORES, value)} for good, values in scores.items() for value in values]
    return pl.DataFrame(rows, schema={"good": pl.Boolean, **dict.fromkeys(SCORES, pl.Float64)})


def test_every_beginning_but_the_whole_is_scored_by_the_tokens_before_its_cut() -> None:
    found = scored_prefixes(rollouts())
    assert found.select("rollout_id", "problem_id", "prefix_length", "last_token").rows() == [
        ("a", "p", 1, 5),
        ("a", "p", 2, 9),
        ("a", "p", 3, 5),
        ("b", "q", 1, 9),
    ]
    assert found["mean_entropy"].to_list() == [1.0, 0.5, 0.5, 0.25]
    assert found["peak_entropy"].to_list() == [1.0, 1.0, 1.0, 0.25]
    assert found["mean_surprisal"].to_list() == [0.5, 1.5, 1.0, 1.0]
    assert found["peak_surprisal"].to_list() == [0.5, 2.5, 2.5, 1.0]
    assert found["mean_excess"].to_list() == [-0.5, 1.0, 0.5, 0.75]


def test_steps_are_counted_within_a_rollout() -> None:
    ends = with_steps(scored_prefixes(rollouts()).filter(pl.col("last_token") == 5))
    assert ends.select("rollout_id", "prefix_length", "steps").rows() == [("a", 1, 1), ("a", 3, 2)]


def test_replay_is_asked_with_the_problem_and_the_text_of_each_prefix() -> None:
    asked: list[tuple[str, str]] = []

    def replay(problem: str, text: str) -> bool:
        asked.append((problem, text))
        return text == "two"

    found = sound_prefixes(scored_prefixes(rollouts()), ["one", "two", "three", "four"], replay)
    assert asked == [("p", "one"), ("p", "two"), ("p", "three"), ("q", "four")]
    assert found["good"].to_list() == [False, True, False, False]


def test_a_continued_prefix_is_good_if_any_continuation_was_right() -> None:
    chosen = pl.DataFrame(
        {
            "prefix_id": ["a@2", "a@3", "b@1", "old@1"],
            "parent_rollout_id": ["a", "a", "b", "old"],
            "prefix_tokens": [[5, 9], [5, 9, 5], [9], [9]],
            "chosen": [True, True, False, True],
        }
    )
    continued = pl.DataFrame(
        {"prefix_id": ["a@2", "a@3", "b@1", "old@1"], "continuations": [2, 2, 2, 2], "right": [1, 0, 2, 2]}
    )
    found = continued_prefixes(scored_prefixes(rollouts()), chosen, continued)
    assert found.select("rollout_id", "prefix_length", "good", "mean_entropy").rows() == [
        ("a", 2, True, 0.5),
        ("a", 3, False, 0.5),
    ]


@pytest.mark.parametrize(
    ("good", "others", "area"),
    [
        ([1.0, 2.0], [3.0, 4.0], 1.0),
        ([3.0, 4.0], [1.0, 2.0], 0.0),
        ([1.0, 3.0], [2.0, 4.0], 0.75),  # three of four pairs have the good one lower
        ([1.0, 2.0], [2.0], 0.75),  # one pair is equal and counts half
        ([1.0], [], None),
        ([], [1.0, 2.0], None),
    ],
)
def test_areas_by_hand(good: list[float], others: list[float], area: float | None) -> None:
    row = signal(prefixes({True: good, False: others}))
    assert (row["prefixes"], row["good"]) == (len(good) + len(others), len(good))
    assert [row[name] for name in SCORES] == [area] * len(SCORES)


def test_soundness_comes_by_the_number_of_steps_and_rescues_last() -> None:
    sound = prefixes({True: [1.0, 3.0], False: [2.0, 2.0]}).with_columns(steps=pl.Series([2, 1, 2, 1]))
    table = signal_table(sound, prefixes({True: [1.0], False: [2.0, 0.5]}))
    PrefixSignal.validate(table)
    assert table.select("witness", "steps", "prefixes", "good", "mean_entropy").rows() == [
        ("sound", 1, 2, 1, 0.0),
        ("sound", 2, 2, 1, 1.0),
        ("rescued", 0, 3, 1, 0.5),
    ]
