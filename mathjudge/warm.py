"""Parse a few formulas on import: the fork server of `bounded` imports this for large batches.

ANTLR builds its prediction tables while it parses: the first formula costs 0.1 s and more, later ones 2 ms. Parsing the
formulas below costs 1.5 s once, and every worker starts with the tables. A small batch uses `warm_imports` alone. Do
not import this module elsewhere: it is slow on purpose.
"""

from __future__ import annotations

import gc

import mathjudge.warm_imports  # noqa: F401
from mathjudge.bounded import Item
from mathjudge.judge import MathJudge

FORMULAS = (
    r"\frac{1}{2}x^{2} + 3x - \sqrt{2}",
    r"\frac{3 + \sqrt{21}}{2}",
    r"2 \cdot \sin(x) \cos^{2}(y) + \log_{10}(2)",
    r"e^{-2t} \left(a_{1} + b\right)!",
    r"-\frac{n(n+1)}{2}",
    r"\pi r^{2} + |x - 1|",
    r"2^{k-n} \binom{n}{k}",
    r"\sum_{k=1}^{n} k^2",
    r"x_{1} + \alpha_{2} \cdot \theta",
    r"\arctan\left(\frac{x}{2}\right) + C",
    r"\lfloor \frac{n}{2} \rfloor + \lceil x \rceil",
    r"\sqrt[3]{a^{2} b} \ln x",
    r"\frac{(2 + i) x^{3}}{\sqrt{y}} - f(x)",
    r"\tan \frac{\pi}{5} + e^{i \pi}",
    r"\int_0^1 x dx",
    r"-5 - 3 \sqrt{7}",
    r"y^2 - 3y + 2",
    r"3By^2 - (B + 1)y",
    r"\frac{(3 - \sqrt{2}) \pi b^2}{12}",
    r"\frac{1}{4y^{3/2}}",
    r"\sqrt{a^2 b^2 + c^2}",
    r"G_m",
    r"\sin^{2}(y) + \tan(\frac{\pi}{3} y)",
    r"(2 \cdot \sqrt{3})/5",
    r"\frac{-q^2 + 2}{5}",
)

for _formula in FORMULAS:
    MathJudge()(Item(gold="0", response=_formula))

# Exempt all objects from garbage collection: forked workers would copy every page that the collector touches.
gc.collect()
gc.freeze()
