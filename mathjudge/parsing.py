r"""LaTeX formulas as SymPy expressions, through the parser of math-verify (latex2sympy2_extended, an ANTLR grammar).

The parser's errors are corrected here. No text reaches Python's `eval` (README.md, Safety).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

MAX_EXPONENT_DIGITS = 4
MAX_CHARS = 1000  # of one formula; the parser needs seconds for longer ones
# An ellipsis, numbers side by side, a number with a prime, two signs, n!!: the grammar reads them as something else.
MEANINGLESS = re.compile(r"dots|(?<![_^\d.])(?:\d*\.)?\d+\s+\d|\d\s*'|^\s*(?:--|\+\+)|!\s*!")
TRIGONOMETRIC = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
DEGREES = re.compile(r"(\d+(?:\.\d+)?|\\frac\{[^{}]*\}\{[^{}]*\}|\([^()]*\)|\\?[a-zA-Z]+)\s*°")
DERIVATIVE = re.compile(r"\\frac\{?(?:d|\\partial)(?![a-z])")


class UnparseableError(ValueError):
    """The text is not a formula that the parser knows."""


@lru_cache(maxsize=512)
def parse_latex(latex: str) -> Any:
    r"""Return the SymPy expression of a LaTeX formula, with decimals as exact rationals and i as the imaginary unit.

    UnparseableError for text outside the grammar, for nesting that is too deep, and for more than MAX_CHARS characters.
    """
    import sympy
    from latex2sympy2_extended import NormalizationConfig, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from sympy.core.function import AppliedUndef

    if len(latex) > MAX_CHARS or MEANINGLESS.search(latex):
        raise UnparseableError(latex[:80])
    config = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
    )
    try:
        expression = converter()(is_real=True, config=ConversionConfig(lowercase_symbols=False)).parse(
            normalize_latex(respell(latex), config)
        )
        if not isinstance(expression, (sympy.Basic, sympy.MatrixBase)):
            raise UnparseableError(latex[:80])
        exact = {sympy.Symbol("i", real=True): sympy.I, sympy.Symbol("e", real=True): sympy.E}
        # x(t) and dx/dt have no value at a point, but they are equal where their names are.
        for named in expression.atoms(sympy.Derivative, AppliedUndef):
            exact[named] = sympy.Symbol(str(named), real=True)
        return expression.xreplace(exact)
    except MemoryError:
        raise
    except Exception as error:  # the parser raises bare Exception
        raise UnparseableError(f"{type(error).__name__}: {latex[:80]}") from error


@lru_cache(maxsize=1)
def converter() -> Any:
    r"""Return the converter class of latex2sympy2_extended 1.11 with three changes.

    - It reads every integer before another number as the whole part of a mixed fraction, so (2)(3) is 5 and
      3\binom{4}{2} is 9. Here only a \frac may follow.
    - It makes numbers with sympy.Number(text), which passes the digits to parse_expr and so to `eval`. Here they
      become exact rationals without it.
    - ANTLR tries SLL prediction first, which is eight times as fast and gives the same result if it succeeds. Full LL
      prediction parses the texts that SLL refuses, a sixth of all.
    """
    import sympy
    from antlr4.atn.PredictionMode import PredictionMode  # type: ignore[import-untyped]
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    class Converter(_Latex2Sympy):  # type: ignore[misc]
        prediction = PredictionMode.SLL

        def create_parser(self, latex_str: str) -> Any:
            parser = super().create_parser(latex_str)
            parser._interp.predictionMode = self.prediction
            return parser

        def parse(self, latex_str: str) -> Any:
            try:
                return super().parse(latex_str)
            except MemoryError:
                raise
            except Exception:  # the parser raises bare Exception
                self.prediction = PredictionMode.LL
                return super().parse(latex_str)

        def parse_number(self, text: str) -> Any:
            value = exact_value(text)
            return sympy.Rational(value.numerator, value.denominator)

        def convert_postfix_list(self, arr: list[Any], i: int = 0) -> Any:
            here, following = arr[i].getText(), arr[i + 1].getText() if i + 1 < len(arr) else ""
            mixed = here.isdigit() and following.startswith(r"\frac")
            if mixed or not following or DERIVATIVE.match(here):
                return super().convert_postfix_list(arr, i)
            left, right = self.convert_postfix(arr[i]), self.convert_postfix_list(arr, i + 1)
            matrix = any(getattr(factor, "is_Matrix", False) for factor in (left, right))
            return self.mat_mul_flat(left, right) if matrix else self.mul_flat(left, right)

    return Converter


def exact_value(text: str) -> Fraction:
    """Return a number of the grammar (digits, a point, perhaps an exponent) as an exact fraction."""
    _, _, exponent = text.upper().partition("E")
    if len(exponent) > MAX_EXPONENT_DIGITS:
        raise UnparseableError(f"exponent too large: {text[:20]}")
    return Fraction(text.replace(",", "").replace(" ", ""))


def respell(latex: str) -> str:
    r"""Replace what the grammar does not know by what it knows.

    y' (it would drop the prime), E_1, M_\odot, \lg, \choose, a colon as division, degrees inside functions, and
    thousands separators.
    """
    latex = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", latex)
    latex = re.sub(r"(?<=[\w)}\]])\s*:\s*(?=[\w(\\{])", r" \\div ", latex)
    latex = re.sub(r"\\lg(?![a-z])", r"\\log_{10}", re.sub(r"\\log\s*_\s*\{?\s*e\s*\}?(?![a-z])", r"\\ln ", latex))
    latex = re.sub(r"\{?([^{}]+)\\choose(?![a-z])([^{}]+)\}?", r"\\binom{\1}{\2}", latex)
    if TRIGONOMETRIC.search(latex):
        latex = DEGREES.sub(r"(\1 \\cdot \\frac{\\pi}{180})", latex)
    latex = re.sub(
        r"([A-Za-z])(_(?:\{[^{}]*\}|\w))?('+)",
        lambda m: rf"\text{{{m[1]}{'prime' * len(m[3])}}}{m[2] or ''}",
        latex,
    )
    return re.sub(r"(?<![\\A-Za-z])E(?=\s*_)", r"\\text{E}", latex).replace(r"\odot", "o")
