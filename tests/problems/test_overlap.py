r"""When a training problem is a benchmark problem: equality, the share of 8-grams, a shared 13-gram."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from extra_rl.problems.overlap import BenchmarkIndex
from extra_rl.problems.statements import grams, normalise, words
from extra_rl.problems.templates import find_templates
from extra_rl.seeding import generator

TWELVE = "one two three four five six seven eight nine ten eleven twelve"  # five 8-grams, no 13-gram
LONG = f"{TWELVE} thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"  # 20 words: 13 8-grams


def index(**problems: str) -> BenchmarkIndex:
    return BenchmarkIndex(problems)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Find $x$.", "find \\( x \\)"),
        (r"$\dfrac{1}{2}\,x$", r"$$\frac12 x$$".replace("12", "{1}{2}")),
        (r"$\left(x y\right)$", "$(xy)$"),
        ("$1,000$ apples", "1000 apples"),
        ("What is $x^{2}$?", "what is  $x^2$"),
        ("½ of Ａ", "1⁄2 of A"),
        (r"$x \quad y$ and~$z$", "$x y$ and $z$"),
        ("pairs (1, 2)", "pairs (1,2)"),
    ],
)
def test_the_same_problem_in_another_spelling_is_equal(one: str, other: str) -> None:
    assert normalise(one) == normalise(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$x + 1$", "$x - 1$"),
        ("$(0,1)$", "$[0,1]$"),
        ("(1,2)", "(12)"),
        ("3.5", "35"),
        (r"$\frac{1}{23}$", r"$\frac{12}{3}$"),
        ("x > 1", "x < 1"),
        ("求 a", "求 b"),
    ],
)
def test_another_problem_is_not_equal(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_words() -> None:
    assert words(r"If $xy + \frac{a}{12} = 3$, find \textbf{all} $y$!") == [
        *("if", "x", "y", "frac", "a", "12", "3", "find", "all", "y"),
    ]
    assert words(r"[asy] draw(A--B); [/asy] Area?") == ["area"]
    assert words(r"$x \text{ if and only if } y$") == ["x", "if", "and", "only", "if", "y"]
    assert words("设 $a$ 为") == ["设", "a", "为"]
    assert words(r"for \$5 take $xy$ of it") == ["for", "5", "take", "x", "y", "of", "it"]
    assert words("a pen costs $5 and a book $7 each") == words(r"a pen costs \$5 and a book \$7 each")


def test_grams() -> None:
    assert grams(["a", "b", "c"], 2) == {("a", "b"), ("b", "c")}
    assert grams(["a"], 2) == set()


def test_equality_decides_for_short_statements_only() -> None:
    known = index(p="Compute $2 + 2$ and then the sum of it")  # 9 words: "compute 2 2 and then the sum of it"
    assert known.find("compute $2+2$, and then the sum of it.").rule == "equal"  # type: ignore[union-attr]
    short = index(p="What is the value of x")  # 6 words
    assert short.find("What is the value of x?") is not None
    assert short.find("What is the value of x if it is large and what is the value of y") is None


def test_three_quarters_of_the_8_grams() -> None:
    """12 words have five 8-grams; a changed last word leaves 4 of 5, a changed last two 3 of 5."""
    known = index(p=TWELVE)
    found = known.find(TWELVE.replace("twelve", "dozen"))
    assert found is not None
    assert (found.problem_id, found.rule, found.share) == ("p", "8-grams", pytest.approx(0.8))
    assert known.find(TWELVE.replace("eleven twelve", "dozen")) is None


def test_exactly_three_quarters_is_enough() -> None:
    eleven = TWELVE.removesuffix(" twelve")  # four 8-grams
    found = index(p=eleven).find(eleven.replace("eleven", "elf"))
    assert found is not None
    assert found.share == 0.75


def test_the_share_is_of_the_benchmarks_grams() -> None:
    """A long training problem that contains a short benchmark problem overlaps; a part of one need not."""
    assert index(p=TWELVE).find(f"Before {LONG} after").rule == "8-grams"  # type: ignore[union-attr]
    assert index(p=LONG).find(TWELVE) is None  # 5 of 13


def test_a_shared_13_gram() -> None:
    thirteen = " ".join(LONG.split()[:13])
    found = index(p=LONG).find(f"Unlike before {thirteen} ends here")
    assert found is not None
    assert (found.rule, found.shared, found.share) == ("13-gram", thirteen, pytest.approx(6 / 13))
    broken = thirteen.replace("seven", "7")
    assert index(p=LONG).find(f"Unlike before {broken} ends here") is None


def test_the_best_benchmark_problem_is_named() -> None:
    known = index(far=f"{LONG} and more than twenty other words that nobody else will use in this", near=LONG)
    found = known.find(f"{LONG} also")
    assert found is not None
    assert (found.problem_id, found.share) == ("near", 1.0)


def test_repeated_words_count_once() -> None:
    """ "a a a ..." has one distinct 8-gram, for any number of repetitions."""
    assert index(p="a " * 30).find("a " * 8 + "b").share == 1.0  # type: ignore[union-attr]


NAMES = ("Alice", "Bob", "Carol", "Dan", "Eve", "Frank", "Grace", "Heidi")


def sums(count: int, seed: int) -> list[str]:
    """Generated problems that differ in their numbers and operators only."""
    rng = generator(seed, "sums")
    values = rng.integers(1, 100, (count, 3)).tolist()
    signs = [("+-*"[i], "+-"[j]) for i, j in rng.integers(0, [3, 2], (count, 2)).tolist()]
    return [
        f"Compute the value of the expression {a} {one} {b} {two} {c} step by step, and write the final result as a "
        "single integer inside a box."
        for (a, b, c), (one, two) in zip(values, signs, strict=True)
    ]


def gifts(count: int, seed: int) -> list[str]:
    """Generated problems that differ in names and numbers."""
    rng = generator(seed, "gifts")
    rows = zip(rng.integers(0, len(NAMES), (count, 2)).tolist(), rng.integers(2, 60, (count, 2)).tolist(), strict=True)
    return [
        f"In the morning {NAMES[i]} has {a} apples, and {NAMES[j]} gives {NAMES[i]} another {b} apples as a present. "
        f"How many apples does {NAMES[i]} have in the end?"
        for (i, j), (a, b) in rows
    ]


def templated(statements: Sequence[str], *others: Sequence[str], share: float = 0.01) -> BenchmarkIndex:
    """An index of the statements as benchmark problems, with the templates of these and of the other sources."""
    templates = find_templates([[words(text) for text in source] for source in (statements, *others)], share)
    return BenchmarkIndex({str(number): text for number, text in enumerate(statements)}, templates)


@pytest.mark.parametrize("made", [sums, gifts])
def test_other_instances_of_a_template_are_no_overlap(made: Callable[[int, int], list[str]]) -> None:
    """The case of 587 generated problems, most of which were removed for sharing their words with 144 others."""
    held_out, training = made(144, 0), made(587, 1)
    known = templated(held_out, training)
    equal = {normalise(text) for text in held_out}
    fresh = [text for text in training if normalise(text) not in equal]
    assert len(fresh) > 500
    assert sum(known.find(text, every_gram=True) is not None for text in fresh) > 450
    assert sum(known.find(text) is not None for text in fresh) < 6


@pytest.mark.parametrize("made", [sums, gifts])
def test_an_instance_of_a_template_is_found_again_in_other_words_around_it(
    made: Callable[[int, int], list[str]],
) -> None:
    held_out, training = made(144, 0), made(560, 1)
    leaks = [f"Here is a task for you. {text} Thank you very much." for text in held_out[:20]]
    known = templated(held_out, [*training, *leaks])
    for number, text in enumerate(leaks):
        found = known.find(text)
        assert found is not None
        assert (found.problem_id, found.rule) == (str(number), "8-grams")


def test_a_set_phrase_is_no_evidence_and_the_rest_of_the_statement_is() -> None:
    phrase = "where m and n are relatively prime positive integers find m plus n"  # 13 words
    other = "the area of the small yellow triangle in the left part of the picture is a fraction of the square"
    training = [f"Number {word} of {word} things is {phrase}" for word in "abcdefghijklmnopqrst"]
    benchmark = f"{other} {phrase}"
    known = templated([benchmark], training)
    assert known.find(training[0]) is None
    assert known.find(training[0], every_gram=True).rule == "13-gram"  # type: ignore[union-attr]
    assert known.find(f"{other} and so on").rule == "13-gram"  # type: ignore[union-attr]
    assert known.find(f"Now {benchmark}").rule == "8-grams"  # type: ignore[union-attr]


def test_few_rows_make_no_template() -> None:
    """Ten variants of one benchmark problem are ten leaks and no template, whatever their share of the rows."""
    variants = [f"{LONG} number {n}" for n in range(10)]
    known = templated([LONG], variants)
    assert all(known.find(text) for text in variants)


def test_a_share_of_0_finds_no_template() -> None:
    held_out = sums(50, 0)
    known = templated(held_out, sums(50, 1), share=0)
    assert known.find(sums(1, 2)[0]).rule == "13-gram"  # type: ignore[union-attr]


def test_a_number_more_or_another_operator_is_another_slot() -> None:
    held_out = sums(144, 0)
    known = templated(held_out, sums(500, 1))
    one = held_out[0]
    expression = re.search(r"\d+ . \d+ . \d+", one)
    assert expression is not None
    swapped = expression[0].translate(str.maketrans("+-", "-+"))
    assert known.find(one.replace(expression[0], swapped)) is None
    assert known.find(one.replace(expression[0], f"{expression[0][:-1]}7777")) is None
