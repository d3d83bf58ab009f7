"""Removal from a training set: each rule separately, with its reason."""

from __future__ import annotations

from extra_rl.config.sections import VerifierConfig
from extra_rl.judging.check import REASONS
from extra_rl.problems.clean import Removed, without_overlap, without_repetition, without_unverifiable
from extra_rl.problems.sources import RawProblem

VERIFIER = VerifierConfig()


def problems(*rows: tuple[str, str]) -> list[RawProblem]:
    """p0, p1, ... with statement and reference answer."""
    return [RawProblem(f"p{number}", "train", text, answer) for number, (text, answer) in enumerate(rows)]


def ids(kept: list[RawProblem]) -> list[str]:
    return [problem.problem_id for problem in kept]


def why(removed: list[Removed]) -> list[tuple[str, str, str | None]]:
    return [(found.problem.problem_id, found.rule, found.other_problem_id) for found in removed]


def test_overlap_names_the_benchmark_problem_and_the_share() -> None:
    statement = "A farmer has twelve sheep and sells all but nine; how many sheep are left on the farm now?"
    benchmarks = [RawProblem("b/0", "b", statement, "9"), RawProblem("b/1", "b", "What is $2+3$?", "5")]
    training = problems(
        ("What is $2 + 3$", "5"),
        (statement.replace("now", "today"), "9"),
        ("What is $2-3$?", "-1"),
        (f"Years later: how old? {' '.join(statement.split()[:13])}", "9"),
    )
    found = without_overlap(training, benchmarks, 0)
    removed = found.removed
    assert ids(found.kept) == ["p2"]
    assert found.by_rule == {"equal": 1, "8-grams": 1, "13-gram": 1}
    assert why(removed) == [("p0", "overlap", "b/1"), ("p1", "overlap", "b/0"), ("p3", "overlap", "b/0")]
    assert [found.reason.split(" b/")[0] for found in removed] == [
        "equal to",
        "holds 92% of the word 8-grams of",  # 19 words have 12
        "shares a word 13-gram with",
    ]
    assert [round(found.share or 0, 2) for found in removed] == [1, 0.92, 0.5]


def test_words_of_a_template_spare_a_problem_and_are_counted() -> None:
    phrase = "where m and n are relatively prime positive integers find m plus n"
    benchmarks = [RawProblem("b/0", "b", f"The chance to draw two red balls from the full urn is {phrase}", "5")]
    training = problems(*((f"Something else number {n} is {phrase}", "1") for n in range(12)))
    strict = without_overlap(training, benchmarks, 0)
    assert (strict.kept, len(strict.removed), strict.spared) == ([], 12, 0)
    lenient = without_overlap(training, benchmarks, 0.5)
    assert (len(lenient.kept), lenient.removed, lenient.spared) == (12, [], 12)


def test_the_first_of_equal_problems_is_kept() -> None:
    kept, removed = without_repetition(
        problems(("$1 + 1$", "2"), ("one half", r"\frac{1}{2}"), ("1+1", "2 "), ("One half.", "0.5")), VERIFIER
    )
    assert ids(kept) == ["p0", "p1"]
    assert why(removed) == [("p2", "duplicate", "p0"), ("p3", "duplicate", "p1")]


def test_problems_with_contradictory_references_are_all_removed() -> None:
    rows = [("$1 + 1$", "2"), ("1+1", "2"), ("1 + 1", "3"), ("other", "3")]
    kept, removed = without_repetition(problems(*rows), VERIFIER)
    assert ids(kept) == ["p3"]
    assert why(removed) == [
        ("p0", "contradictory", "p2"),
        ("p1", "contradictory", "p0"),
        ("p2", "contradictory", "p0"),
    ]
    assert all(part in removed[0].reason for part in (" 2 ", " 3:", "p0", "p2"))


def test_worked_solutions_are_compared_by_their_answers() -> None:
    rows = [
        *(("q", "72"), ("q", "He has 70 + 2 = 72.\n#### 72")),
        *(("r", r"So it is \boxed{5}."), ("r", r"As \boxed{4} is too small, \boxed{5}.")),
        *(("s", r"So it is \boxed{5}."), ("s", "6")),
    ]
    kept, removed = without_repetition(problems(*rows), VERIFIER)
    assert ids(kept) == ["p0", "p2"]
    assert [rule for _, rule, _ in why(removed)] == ["duplicate", "duplicate", "contradictory", "contradictory"]


def test_a_reference_that_does_not_match_itself_is_removed() -> None:
    kept, removed = without_unverifiable(problems(("a", "2"), ("b", r"\frac{1}{2"), ("c", "2")), VERIFIER)
    assert ids(kept) == ["p0", "p2"]
    assert why(removed) == [("p1", "unverifiable", None)]
    assert removed[0].reason.endswith(r"\frac{1}{2: " + REASONS["unbalanced"])
