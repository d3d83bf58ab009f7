"""Figures of an evaluation, by hand: pass@k and maj@k for every k, lengths, rates, exclusions, intervals, the mean."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from extra_rl.evaluation.figures import MAX_CHARS, answer_key, figures, table_lines, votes_of
from extra_rl.tables import contracts
from tests.stages.rows import frame

VERDICTS = {"r": "right", "w": "wrong", "v": "wrong", "t": "truncated", "n": "no_answer", "e": "error"}
ANSWERS = {"r": "7", "w": "8", "v": "9", "t": None, "n": None, "e": None}


def samples(problems: dict[str, str]) -> pl.DataFrame:
    """An evaluate table. problems: `benchmark/problem` -> a letter a sample (w and v: two wrong answers).

    The response of sample n has n + 1 tokens.
    """
    rows: list[dict[str, Any]] = [
        {
            "problem_id": name,
            "sample_index": n,
            "benchmark": name.partition("/")[0],
            "prompt_tokens": [1],
            "response_tokens": [2] * (n + 1),
            "finish_reason": "length" if letter == "t" else "stop",
            "response": "",
            "gold": "7",
            "verdict": VERDICTS[letter],
            "extracted": ANSWERS[letter],
            "rule": "by hand",
        }
        for name, letters in problems.items()
        for n, letter in enumerate(letters)
    ]
    return frame(contracts.EvaluationSamples, rows)


def found(problems: dict[str, str]) -> dict[tuple[str, str, int], dict[str, Any]]:
    table = frame(contracts.EvaluationFigures, figures(samples(problems)).to_dicts())
    return {(row["benchmark"], row["metric"], row["k"]): row for row in table.to_dicts()}


def values(problems: dict[str, str]) -> dict[tuple[str, str, int], float]:
    return {key: row["value"] for key, row in found(problems).items()}


def test_every_figure_of_a_small_evaluation() -> None:
    figure = values({"A/1": "rwwv", "A/2": "rrrr", "B/1": "wtnw"})
    # A/1: pass@2 = 1 - C(3,2)/C(4,2) = 1/2, pass@3 = 3/4; A/2 is always right
    assert [figure["A", "pass_at_k", k] for k in (1, 2, 3, 4)] == pytest.approx([62.5, 75.0, 87.5, 100.0])
    # A/1: 8 has two votes of four, so the majority of all is wrong; A/2 is always right
    assert (figure["A", "maj_at_k", 1], figure["A", "maj_at_k", 4]) == (62.5, 50.0)
    # A/1: three of six pairs hold the right answer, which was sampled first, and so do two triples {r, w, v} of four
    assert figure["A", "maj_at_k", 2] == pytest.approx((50 + 100) / 2, abs=4)
    assert figure["A", "maj_at_k", 3] == 75.0
    assert figure["B", "mean_length", 0] == 2.5
    assert (figure["B", "truncated", 0], figure["B", "no_answer", 0]) == (25.0, 50.0)
    assert (figure["A", "truncated", 0], figure["A", "no_answer", 0]) == (0.0, 0.0)
    # benchmarks weigh the same, however many problems they have
    assert figure["mean", "pass_at_k", 1] == 31.25
    assert figure["mean", "no_answer", 0] == 25.0


def test_maj_at_all_samples_is_by_votes_and_not_by_chance() -> None:
    assert values({"A/1": "rrwwv"})["A", "maj_at_k", 5] == 100.0  # a tie: the right one came first
    assert values({"A/1": "wwrrv"})["A", "maj_at_k", 5] == 0.0
    assert values({"A/1": "wvrrtn"})["A", "maj_at_k", 6] == 100.0  # two of the four that answered


def test_unjudged_samples_are_excluded_from_the_figures_and_counted() -> None:
    rows = found({"A/1": "rwee", "A/2": "wwww", "A/3": "eeee"})
    first, second, third = (rows["A", "pass_at_k", k] for k in (1, 2, 3))
    assert first["value"] == pytest.approx((50 + 0) / 2)
    assert (first["problems"], first["samples"], first["excluded"]) == (2, 8, 6)
    assert second["value"] == pytest.approx((100 + 0) / 2)
    assert (third["value"], third["problems"], third["samples"]) == (0.0, 1, 4)  # A/1 has two judged samples only
    assert rows["A", "no_answer", 0]["problems"] == 2
    assert rows["A", "mean_length", 0]["problems"] == 3


def test_the_mean_is_missing_where_a_benchmark_has_no_such_figure() -> None:
    rows = found({"A/1": "rwwe", "B/1": "rrww"})
    assert ("A", "pass_at_k", 4) not in rows
    assert ("mean", "pass_at_k", 4) not in rows
    assert rows["B", "pass_at_k", 4]["value"] == 100.0


def test_intervals_contain_the_figure_and_are_points_for_equal_problems() -> None:
    rows = found({f"A/{n}": "rrrr" if n % 2 else "wwww" for n in range(16)})
    one = rows["A", "pass_at_k", 1]
    assert one["value"] == 50.0
    # 16 fair coins: 2.5 and 97.5 % of the binomial are 4 and 12 (P(3 or fewer) = 1.1 %, P(4 or fewer) = 3.8 %)
    assert (one["low"], one["high"]) == (25.0, 75.0)
    equal = found({f"A/{n}": "rw" for n in range(4)})["A", "pass_at_k", 1]
    assert (equal["low"], equal["value"], equal["high"]) == (50.0, 50.0, 50.0)


def test_the_mean_over_benchmarks_is_less_uncertain_than_one() -> None:
    coins = {f"{name}/{n}": "r" if n % 2 else "w" for name in "ABCD" for n in range(10)}
    rows = found(coins)
    one, mean = rows["A", "pass_at_k", 1], rows["mean", "pass_at_k", 1]
    # four independent benchmarks: half the standard deviation
    assert (mean["high"] - mean["low"]) == pytest.approx((one["high"] - one["low"]) / 2, abs=6)
    assert (mean["problems"], mean["samples"]) == (40, 40)


def test_figures_do_not_depend_on_other_benchmarks_or_the_order_of_rows() -> None:
    small, large = {"A/1": "rwvt", "A/2": "wrrr"}, {"B/1": "rrww", "A/1": "rwvt", "A/2": "wrrr"}
    alone, together = found(small), found(large)
    assert {key: row for key, row in together.items() if key[0] == "A"} == {
        key: row for key, row in alone.items() if key[0] == "A"
    }
    table = samples(small)
    assert figures(table.sort("problem_id", "sample_index", descending=[False, True])).equals(figures(table))


def test_the_terminal_shows_one_line_per_benchmark() -> None:
    lines = table_lines(figures(samples({"A/1": "rwww", "B/1": "rrre"})))
    assert " ".join(lines[0].split()) == "benchmark problems pass@1 pass@4 maj@4 tokens cut off no answer"
    assert lines[1].split()[:4] == ["A", "1", "25.0", "[25.0,"]
    assert lines[2].split()[:5] == ["B", "1", "100.0", "[100.0,", "100.0]"]
    assert lines[2].split()[5:7] == ["-", "-"]  # no pass@4 with three judged samples
    assert lines[3].split()[0] == "mean"
    assert lines[-1].startswith("WARNING: 1 samples could not be judged")


@pytest.mark.parametrize(
    ("one", "other"),
    [("0.5", r"\frac{1}{2}"), ("1/2", r"\dfrac12"), ("1,000", "1000"), ("x+1", "x + 1"), ("$7$", "7.0")],
)
def test_spellings_of_one_answer_have_one_key(one: str, other: str) -> None:
    assert answer_key(one) == answer_key(other)


@pytest.mark.parametrize(("one", "other"), [("1", "-1"), ("x", "y"), ("12", "1 2"), ("(1,2)", "(2,1)")])
def test_different_answers_have_different_keys(one: str, other: str) -> None:
    assert answer_key(one) != answer_key(other)


def test_a_long_text_is_compared_as_written() -> None:
    assert answer_key("x + y") == "x+y"
    hostile = "x + " * MAX_CHARS
    assert answer_key(hostile) == hostile


def test_correct_samples_share_one_vote_and_missing_answers_cast_none() -> None:
    right = [True, False, False, True, False, False]
    answers = ["4/8", "3", None, "0.5", "3.0", "7"]
    assert votes_of(right, answers, {}).tolist() == [0, 1, -1, 0, 1, 2]
