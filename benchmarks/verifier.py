"""What a hang costs the mathematics verifier: a batch of which 1 % hang against the same batch without them.

    python benchmarks/verifier.py [--rows 20000] [--workers 2] [--timeout 0.5]

Rows are made here, from a seed: numbers, fractions, roots, lists, intervals, formulas and words, half of them right.
A hang is a power tower that SymPy tries to write out; each must end as `timeout`.
Printed: wall seconds and CPU-ms a row of both batches, and
ratio = (wall with hangs - hangs x timeout / workers) / wall without. It is to stay below 1.5.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter

from mathjudge import Item, Judgement, MathJudge, Verdict, judge_all

HANG = Item("x + 1", r"so it is \boxed{9^{9^{9}} x \cdot 9^{9^{9}} + 1}")
TEXT = "We compute step by step. " * 40
SHARE = 100  # one row in so many hangs


def row(random_: random.Random) -> Item:
    """One problem and a response of about 1,000 characters, right every other time."""
    a, b, c = (random_.randint(2, 60) for _ in range(3))
    gold, right, wrong = random_.choice([
        (f"{a * b}", f"{a * b}.0", f"{a * b + 1}"),
        (f"{a * b}", rf"{a * b} \text{{ cm}}", f"-{a * b}"),
        (rf"\frac{{{a}}}{{{b}}}", f"{a}/{b}", rf"\frac{{{a}}}{{{b + 1}}}"),
        (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b}}}", rf"\sqrt{{{a * b}}}"),
        (f"{a}, {-b}", f"{-b}, {a}", f"{a}, {b}"),
        (rf"[{-a}, {b})", rf"{-a} \le x < {b}", rf"[{-a}, {b}]"),
        (f"{a}x^2 + {b}x", f"x({a}x + {b})", f"{a}x^2 + {b}"),
        (rf"\sin^2 ({a}x)", rf"1 - \cos^2 ({a}x)", rf"\cos^2 ({a}x)"),
        (rf"\text{{{'even' if a % 2 else 'odd'}}}", "even" if a % 2 else "odd", "neither"),
        (rf"\begin{{pmatrix}} {a} \\ {b} \end{{pmatrix}}", f"({a}, {b})", f"({b}, {a + b})"),
    ])  # fmt: skip
    answer = right if c % 2 else wrong
    return Item(gold, rf"{TEXT}Therefore, the answer is $\boxed{{{answer}}}$.")


def measure(name: str, items: list[Item], workers: int, timeout: float) -> tuple[float, list[Judgement]]:
    began = time.perf_counter()
    judged = judge_all(MathJudge(), items, workers=workers, timeout_s=timeout)
    wall = time.perf_counter() - began
    counts = ", ".join(f"{verdict} {n}" for verdict, n in Counter(j.verdict.value for j in judged).most_common())
    print(
        f"{name:<14} {wall:7.1f} s wall, {1000 * wall * workers / len(items):.2f} worker-ms a row | {counts}",
        flush=True,
    )
    return wall, judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=0.5, help="CPU seconds of a row")
    options = parser.parse_args()
    random_ = random.Random(0)
    items = [row(random_) for _ in range(options.rows)]
    hung = [HANG if n % SHARE == SHARE // 2 else item for n, item in enumerate(items)]
    measure("(first batch)", items[:200], options.workers, options.timeout)  # pays for the start of the fork server
    without, _ = measure("without hangs", items, options.workers, options.timeout)
    with_hangs, judged = measure("1 % hang", hung, options.workers, options.timeout)
    hangs = sum(item is HANG for item in hung)
    timeouts = sum(j.verdict is Verdict.TIMEOUT for j in judged)
    waited = hangs * options.timeout / options.workers
    print(f"{timeouts} of {hangs} hangs ended as timeout; waited for them {waited:.1f} s")
    print(f"ratio {(with_hangs - waited) / without:.2f} (at most 1.5)")


if __name__ == "__main__":
    main()
