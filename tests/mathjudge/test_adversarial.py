r"""Incorrect answers that resemble the reference, and correct ones in unusual spellings: one list per cause.

Bare strings are the content of the last box; `Text(...)` is a whole response.
"""

from __future__ import annotations

import pytest

from mathjudge import Verdict, judge


class Text(str):
    """A whole response, not the content of a box."""


BIG = "1" * 30
MATRIX = r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"
CASES = r"\begin{cases}x&x>0\\-x&x\le0\end{cases}"

# cause: (reference answer, correct answers, incorrect answers)
PAIRS: dict[str, list[tuple[str, list[str], list[str]]]] = {
    "words that change a number": [
        ("3", [r"\text{exactly } 3", r"\text{approximately } 3", "The answer is 3", r"\approx 3", "=3", r"x \approx 3"],
         [r"\text{not } 3", r"\text{at least } 3", r"\text{more than } 3", r"3 \text{ or more}", r"\text{negative } 3",
          r"3 \text{ and a half}", r"3 \text{ squared}", "wrong: 3", r"\text{not} = 3", "3 million", r"\ge 3", r"\ne 3",
          r"3 \text{ (or possibly 4)}", "There are 4, not 3"]),
        ("5000000", ["5 million", r"5 \text{ million}"], ["5", r"5 \text{ billion}"]),
    ],
    "units": [
        ("5", [r"5~\text{m}\cdot\text{s}^{-1}", "5 m/s", r"5\text{ V}", "5个", r"\textcolor{red}{5}", r"\large 5"],
         ["5xy", "5abc", r"5\mathrm{x}", "5i", "5'", r"5 \pmod 7", r"5\cdot", "--5", "5*", r"\overline{5}"]),
        ("10 km/h", ["10", r"10 \text{ km per hour}", "10 kph"], ["10 m/s", "10 mph", "10 km"]),
        (r"5\text{ J}", ["5", r"5 \text{ joules}"], [r"5\text{ N}", r"5\%"]),
        (r"\sin 1", [r"\sin(1)"], [r"\sin 1^\circ"]),
        (r"\cos 36^\circ", [r"\frac{1+\sqrt5}{4}", r"\cos\frac{\pi}{5}"], [r"\cos 36", r"\cos 72^\circ"]),
    ],
    "numbers too large or too near for 25 digits": [
        ("2^{2023}-1", ["-1+2^{2023}"], ["2^{2023}", "2^{2023}+1"]),
        ("100!", [r"100 \cdot 99!"], ["100!+1"]),
        ("720", ["6!"], ["3!!", "(3!)!+1"]),
        ("1-2^{-200}", [], ["1"]),
        ("0", ["-0", "1-1"], ["2^{-500}", "10^{-40}"]),
        (r"\sqrt{10^{60}+1}", [], ["10^{30}"]),
        (BIG, [BIG + ".0"], [BIG[:-1] + "2", BIG + "1", "1.11111111111111e29"]),
        (r"\infty", [r"+\infty", r"\text{infinity}"], [r"-\infty", r"2\infty", "999999999"]),
    ],
    "capital and small letters": [
        ("R^2-r^2", ["(R-r)(R+r)"], ["r^2-R^2", "0", "R^2-R^2"]),
        ("A+a", ["a+A"], ["2a", "2A"]),
        ("2Cx", ["2cx"], ["2dx"]),
        ("e", [], ["E", "2.718281828"]),
        ("C", ["c", r"\text{Option C}", Text("The correct answer is **C**."), Text("故选：C")],
         ["C or D", Text("The correct option is B, not C.")]),
    ],
    "several answers": [
        ("5", ["5 or 5.0", Text(r"\boxed{6}. Second thoughts give \boxed{5}."), Text(r"\boxed{4} \boxed{5}")],
         ["5 or 6", "5, -5", r"\pm 5", r"5 \\ 6", "5 6", r"5 \;\&\; 6", r"5 \vee 6", "[5, 6]", "5-6",
          Text(r"\boxed{5} or \boxed{4}"), Text(r"It could be \boxed{6}, or alternatively \boxed{5}"),
          Text("\n".join(rf"\boxed{{{n}}}" for n in range(10)))]),
        (r"\frac12", [r"\frac{1}{2} \text{ or } 0.5"], [r"\frac{1}{2} \text{ or } 2"]),
        ("50%", ["0.5", "50"], ["50, 0.5", "5", "0.05"]),
        ("1,2,3", [r"1\text{, }2\text{, and }3", "3;2;1"], ["1 2 3", "123", "1,2", "1,2,3,3"]),
        ("5,-5", [r"\pm 5", Text("Hence $x=5$ or $x=-5$."), Text("因此，x=5或x=-5。")], ["5", Text("Hence $x=5$.")]),
        (r"2\pm\sqrt3", [r"2\mp\sqrt{3}"], [r"2+\sqrt3", r"-2\pm\sqrt3"]),
    ],
    "sets, tuples, matrices, cases": [
        (r"\{0,1\}", [r"\{1,0\}", r"\{0,1,1\}", r"\{0\} \cup \{1\}", "0, 1"], ["(0,1)", "[0,1]", r"\{0,1,2\}"]),
        (r"\emptyset", [r"\{\}", r"\text{no solution}", r"\varnothing"], ["0", r"\{0\}", r"\{\emptyset\}"]),
        (MATRIX, ["[[1,2],[3,4]]", rf"A = {MATRIX}"], ["(1,2,3,4)", rf"2{MATRIX}",
          r"\begin{vmatrix}1&2\\3&4\end{vmatrix}"]),
        (r"\begin{pmatrix}2&4\\6&8\end{pmatrix}", [rf"2{MATRIX}", rf"2 \cdot {MATRIX}"], [MATRIX, rf"-2{MATRIX}"]),
        (r"\begin{cases} x=1 \\ y=2 \end{cases}", ["x=1, y=2", "(1,2)"], ["x=2, y=1"]),
        ("x=1,y=2", [r"\left\{\begin{array}{l} x=1 \\ y=2 \end{array}\right."],
         [r"\begin{cases} x=2 \\ y=1 \end{cases}"]),
        (CASES, [r"\begin{cases}-x&\text{if }x\le0\\x&\text{if }x>0\end{cases}"],
         [r"\begin{cases}x&x>0\\x&x\le0\end{cases}"]),
    ],
    "times, dates, ratios, bases": [
        ("12:30", ["12:30 PM", "12:30"], ["0.4", "2:5", "12:45"]),
        (r"4:30 \text{ p.m.}", ["4:30 PM", "16:30", "4:30"], ["4:30 AM", "4:3"]),
        ("3:2", ["6:4", r"\frac32", r"3 \text{ to } 2"], ["2:3", "3:02", "3:20"]),
        ("2023-05-01", ["2023-05-01"], ["2017"]),
        ("40_7", [r"40 \text{ (base 7)}", r"40_7 \text{ in base 7}"], ["40", "28", r"40 \text{ (base 8)}"]),
        ("40", ["40 (base 10)"], [r"40 \text{ (base 7)}"]),
    ],
    "equations": [
        ("7", ["m+n=7", "7=m+n", r"\sum a_i = 7", r"\text{Area} = 7", "a+b+c=3+4=7", "6+1"],
         ["m+n=8", "6=7", "2x=7", "x=y+7", "x>7", r"f(7)=2"]),
        ("4", [], ["x^2=4", "2x=4"]),
        ("y=-x+3", ["x+y=3", "3-x"], ["x+y=-3", "3", "0=0"]),
        ("x=2", ["2"], ["x^2=4", "y=2"]),
        ("5", [], [r"\text{any real number}", r"\mathbb{R}", "x", r"\text{all of the above}", r"\frac{0}{0}", "5/0",
                    "True", ""]),
        (r"\mathbb{R}", [r"\text{any real number}", r"(-\infty,\infty)"], ["0", r"(0,\infty)"]),
    ],
    "repeating decimals, logarithms, binomials": [
        (r"\frac13", [r"0.\overline{3}", "0.333..."], ["0.333", "0.3333333", r"33\%"]),
        (r"\log_2 8", ["3"], ["2", r"\log_8 2"]),
        (r"\log_{10} 2", [r"\lg 2", r"\log 2"], [r"\ln 2"]),
        (r"\ln^2 2", [r"(\ln 2)^2"], [r"2\ln 2"]),
        (r"{5 \choose 2}", ["10", r"\binom{5}{3}"], ["5"]),
        (r"2\cdot 3", ["6"], ["2 3", "23"]),
    ],
    "text without a box": [
        ("5", [Text(t) for t in (
            "The answer is **5**.", "# Answer\n\n**5**", "<answer>5</answer>", "*5*", "The answer is `5`.",
            "所以 x=5。", "<think>maybe \\boxed{4}</think>The answer is 5.", "<think>so it is \\boxed{5}</think>",
            "The answers are 5.",
         )],
         [Text(t) for t in (
            "Therefore, it is not 5.", "So the answer cannot be 5.", "Therefore, x > 5.", "So x is at least 5.",
            "I cannot determine whether the answer is 5", "The answer is 50% likely to be 5",
            "The answer is $5$ or $6$.",
            "Thus the two values are 6 and 5.", "Thus x is divisible by 5.", "So we go to step 5.", "so $x = 5",
            "Thus we sum from 1 to 5.", "所以 x 至少为5。", "答案不是5。", "<think>\\boxed{5}</think>The answer is 4.",
            "<think>\\boxed{5}</think> I cannot solve it.", "<think>\\boxed{5}</think> \\boxed{", "So the area is x^5.",
         )]),
    ],
}  # fmt: skip

CASES_OF = [
    (cause, gold, answer if isinstance(answer, Text) else rf"Hence $\boxed{{{answer}}}$.", expected)
    for cause, rows in PAIRS.items()
    for gold, right, wrong in rows
    for answers, expected in ((right, True), (wrong, False))
    for answer in answers
]


@pytest.mark.parametrize(("cause", "gold", "response", "expected"), CASES_OF)
def test_verdict(cause: str, gold: str, response: str, expected: bool) -> None:
    judgement = judge(gold, response)
    assert (judgement.verdict is Verdict.RIGHT) is expected, (cause, judgement)
