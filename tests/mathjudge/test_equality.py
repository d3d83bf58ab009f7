"""Pairs of answers that are the same, and pairs that only look alike, by cause."""

from __future__ import annotations

import pytest

from mathjudge import Policy
from mathjudge.compare import same_text

SAME = [
    # numbers and their spellings
    ("5", "5.0"), ("1/2", ".5"), (r"\frac43", "4/3"), (r"1\frac{4}{5}", "1.8"), ("918.5", r"918\frac{1}{2}"),
    ("-5", "–5"), (r"\frac{1}{2}", "½"), (r"\sqrt{2}", "√2"), ("-2/3", "2/(-3)"), (r"-\frac{1}{3}", r"\frac{1}{-3}"),
    (r"4.45 \times 10^{15}", "4.45e15"), ("2 × 10^(-10)", r"2 \times 10^{-10}"), ("100", "10^2"), ("250", "2.5E2"),
    (r"\frac{1}{6}", r"0.1\overline{6}"), ("1000000", "1,000,000"), ("32348", r"32{,}348"), ("32348", r"32,\!348"),
    ("12345678", r"12\,345\,678"), ("1024", "2^{10}"), ("24", r"2^3 \cdot 3"), ("6", "(2)(3)"),
    ("18", r"3\binom{4}{2}"),
    (r"\sqrt{2}", "1.4142135623730951"), (r"\frac{1}{12}", "0.0833333333333333"),
    # units, percent, degrees, currency
    ("10", r"10 \text{ cm}"), (r"864 \mbox{ inches}^2", "864"), ("36", "36°"), (r"90^\circ", "90"),
    ("15th Day", "15"),
    (r"10 \text{ cm}", r"10 \text{ centimeters}"), (r"15\mbox{ cm}^2", r"15 \text{ square cm}"), (r"\$10", "10"),
    (r"50\%", "0.5"), (r"50\%", "50"), ("0.335", "33.5 percent"), ("62.5%", r"\frac{5}{8}"), ("42", "42 apples"),
    (r"\frac{\pi}{6}", r"30^\circ"), (r"\frac{270}{7}\text{ degrees}", r"\frac{270}{7}"),
    (r"5^\circ C", r"5^\circ\text{C}"), ("20°C", "20 degrees Celsius"), (r"20\text{ °C}", "20"), ("20 degrees", "20°C"),
    (r"20^{\circ}\mathrm{F}", "20°F"), (r"20 \text{ degrees Fahrenheit}", r"20^\circ\mathrm{F}"),
    # choices and words
    ("8", r"\textbf{(C)}\ 8"), (r"\text{(C)}", r"\textbf{(C)}\ 8"), ("C", r"\text{(C)}"),
    (r"\text{Evelyn}", "evelyn"),
    (r"\text{infinitely many}", r"\infty"), ("E", r"\mathrm{E}"),
    # lists, sets, tuples, signs
    ("1,2,3", "3, 1, 2"), (r"\{1,2\}", r"\{2,1\}"), ("1,3", r"1 \text{ and } 3"), ("100, 200", "100,200"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"), (r"0, \pm 1", r"\{-1, 0, 1\}"),
    ("(1,2)", r"\left( 1, 2 \right)"),
    ("(1,0), (-1,0)", r"(\pm 1, 0)"), ("(2,3)", "x=2, y=3"), ("(5,2),(7,2)", "p=5,q=2;p=7,q=2"),
    ("a=2, b=3", "b=3, a=2"), ("5:8", r"\frac{5}{8}"), ("3:1", "3"), ("2:4:6", "1:2:3"),
    # intervals and inequalities
    ("[0,1)", r"0 \le x < 1"), (r"x \in [-2,7]", "[-2, 7]"), (r"(-\infty,-5)", "k < -5"), ("x<1", "-x > -1"),
    (r"(-\infty, 2) \cup (3, \infty)", r"x < 2 \text{ or } x > 3"), (r"\{x|-1 < x < 1\}", "(-1, 1)"),
    (r"a \leqslant -2 \text{ or } a = 1", r"(-\infty, -2] \cup \{1\}"), (r"x \ne 3", r"(-\infty,3)\cup(3,\infty)"),
    (r"\mathbb{R}", r"(-\infty, \infty)"), ("2>x", "x<2"), ("(0,1)", "]0,1["),
    (r"2 \le x \le 6", r"x \ge 2 \text{ and } x \le 6"), (r"(-\infty,2)\cup(6,\infty)", r"x < 2 \text{ and } x > 6"),
    # labels and equations
    ("x=5", "5"), ("5", "2+3 = 5"), (r"\angle APC = 74^\circ", "74"), (r"\frac{NO}{BO}=\frac12", r"\frac12"),
    ("f(z)=z", "f(x)=x"), ("f(x)=1", r"f(x) = 1 \text{ for all } x > 0"), ("5x - 7y + 4 = 0", "-5x+7y-4=0"),
    ("y = 2x + 3", "2x - y + 3 = 0"), ("xy = 6", r"\frac{6}{x}"), ("4", r"4 \tag{1}"),
    (r"\rho\sin\theta = \sqrt{3}", r"\sqrt{3}\csc\theta"),
    (r"y^{\prime}+r y-r x(t)=0", "y' + ry = r x(t)"), (r"x = k\pi", r"n\pi"),
    # formulas and matrices
    (r"2 \arcsin \sqrt{a}", r"\arccos(1 - 2a)"), (r"\binom{2n}{n}", r"\frac{(2n)!}{(n!)^2}"), ("6 - 5i", "-5i + 6"),
    (r"\frac{1}{2} \cot t \cdot \ln(\cos t)", r"\frac{\cos t \ln(\cos t)}{2 \sin t}"), (r"\sin^2 x", r"1-\cos^2 x"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\left[\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}\right]"),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{pmatrix} 0.2 \\ -3.6 \end{pmatrix}"),
    # bases
    ("40_7", "40_{7}"), (r"(12)_{\text{five}}", "12_5"), ("54", "54_{10}"),
]  # fmt: skip

DIFFERENT = [
    (r"5^\circ C", r"5^\circ F"), ("20°C", "20 degrees Fahrenheit"), (r"20\text{ °C}", r"20\text{ °F}"),
    (r"\frac{1}{0}", r"\frac{2}{0}"), (r"\infty", r"\frac{1}{0}"),
    ("3", "-3"), ("3", "3.01"), ("17.001", "17"), ("12", "1,2"), ("11", "1 1"), ("5", "2 3"), ("46", "12 34"),
    (r"\frac{1}{3}", "0.333333"), ("0.458", r"\frac{27}{59}"), (r"2\pi", "6.28"), ("50", "0.5"),
    ("30", r"\frac{\pi}{6}"),
    ("40", "40_7"), ("40_7", "40"), ("40_7", "28"), ("4210_5", "4210_6"),
    (r"10 \text{ cm}", r"10 \text{ m}"), (r"15\text{ cm}^2", r"15 \text{ cm}^3"), (r"5.4 \text{ cents}", r"\$5.4"),
    ("C", "D"), ("C", r"\textbf{(D)}\ 8"), ("8", r"\textbf{(C)}\ 9"), ("odd", r"\text{oddd}"),
    ("5", r"5 \text{ or } 6"), ("5", "5, 6"), (r"\sqrt{67},-\sqrt{85}", r"\sqrt{67}"), ("1,2", "1,2,2,3"),
    ("(1,2)", "(2,1)"),
    (r"\{1,2\}", "(2,1)"), (r"1 \pm \sqrt{19}", r"1+\sqrt{19}"), ("a=2, b=3", "a=3, b=2"), ("2:1", "1"),
    ("1:2:3", "1:2:4"),
    ("[0,1)", "(0,1)"), ("[0,1)", "[0,1]"), ("x > 5", "x < 5"), (r"k \ge 2", "k > 2"), (r"a \ge 0", "[0, 1)"),
    ("x<1", "-x < -1"),
    ("x=5", "y=5"), ("2x + z = 1", "1"), ("7 = 11a+c", "11a+c"), ("a + 3z = 0", "0"), ("12", "3 * 4 = 13"),
    ("xy = 6", "6"),
    ("5x + 4 = 0", "5x - 4 = 0"), (r"\rho\sin\theta = \sqrt{3}", r"\sqrt{3} \sin\theta"), (r"x = k\pi", r"2n\pi"),
    ("x^2+1", "x^2"), ("a-b", "b-a"), ("f'", "f"), ("f(x)=x", "f(x)=x^2"), ("e^{2x}", "e^{x}"), ("7", "x"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ("100000000001000000000", "1e20"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_same(gold: str, answer: str) -> None:
    assert same_text(gold, answer) is not None


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different(gold: str, answer: str) -> None:
    assert same_text(gold, answer) is None


@pytest.mark.parametrize(
    ("gold", "answer", "switch", "expected"),
    [
        ("10", r"10 \text{ cm}", {"optional_units": False}, None),
        ("0.5", r"50\%", {"percent_as_decimal": False}, None),
        (r"\frac{\pi}{6}", r"30^\circ", {"degrees_as_radians": False}, None),
        ("1,2", "2,1", {"ordered_lists": True}, None),
        ("2.74", "2,74", {"decimal_comma": True}, "text"),
        (r"\sqrt{2}", "1.4142135623730951", {"long_decimal_digits": 0}, None),
        ("2.65", "2.66", {"relative_tolerance": 0.01}, "tolerance"),
        (r"2\pi", "6.28", {"relative_tolerance": 0.01}, "tolerance"),
        ("2.65", "2.70", {"relative_tolerance": 0.01}, None),
        ("4.2", "4.3", {"absolute_tolerance": 0.11}, "tolerance"),
        ("x + 1", "1 + x", {"max_answer_chars": 4}, None),
    ],
)
def test_switches(gold: str, answer: str, switch: dict[str, object], expected: str | None) -> None:
    assert same_text(gold, answer, Policy(**switch)) == expected  # type: ignore[arg-type]


def test_the_rule_that_decided_is_named() -> None:
    assert same_text("1/2", "0.5") == "number"
    assert same_text("0.5", r"50\%") == "percent"
    assert same_text("1,2", "2,1") == "list"
    assert same_text("x=1, x=2", r"\{2, 1\}") == "list"
