r"""Statements of problems in the forms in which they are compared: as one normalised text, and as words.

Figures in Asymptote code count for equality and not for n-grams, since two problems often share the code of a
coordinate grid. Chinese and other unspaced scripts count one character a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

Gram = tuple[str, ...]

_FIGURE = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|limits|qquad|quad|bigl?|bigr?|Bigl?|Bigr?|text[a-z]*|mathrm|mathbf|mathit|mbox"
    r"|operatorname|rm|bf|begin|end|tag)(?![A-Za-z])\*?|\\[,;:! \\]|[~$]|\\[()\[\]]"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_SINGLE = re.compile(r"\{([^{}\\]|\\[A-Za-z]+)\}")
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
_PROSE_MARK = re.compile(r"[;:?\"'`“”‘’…。，、；：？]|[.,](?!\d)|(?<!\d)[.,]")
_MATH = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_TEXT = re.compile(r"\\(?:text[a-z]*|mathrm|mbox|operatorname|begin|end)\s*\{([^{}]*)\}")
_SENTENCE = re.compile(r"(?<![\\A-Za-z])(?:[A-Za-z]{5,}|and|for|the|each|cost|costs|than|with)(?![A-Za-z])")
_WORD = re.compile(r"\d+|[a-z]+|[^\W\da-z_]")
_SYMBOL = re.compile(r"\d+|\\[a-z]+|[^\W\d_]")
_OPERATOR = re.compile(r"[-+*/^=<>×÷·±]|\\(?:times|div|cdot|pm|frac|sqrt|leq?|geq?)(?![A-Za-z])")


def normalise(statement: str) -> str:
    r"""Return a statement as it is compared for equality: equal texts are the same problem.

    Unicode NFKC, lower case; LaTeX spacing, font and delimiter commands, `$`, white space and sentence punctuation
    removed; `\dfrac` as `\frac`, braces around a single symbol removed, 1,000 as 1000. Operators, brackets, decimal
    points and the commas between numbers stay: x + 1 is not x - 1, and (1, 2) is not (12).
    """
    text = unicodedata.normalize("NFKC", statement)
    text = _FRACTION.sub(r"\\frac", _LAYOUT.sub(" ", text)).lower()
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = re.sub(r"(?<=\d),\s+(?=\d)", ",", text)
    text = _SINGLE.sub(r"\1", _PROSE_MARK.sub(" ", text))
    return "".join(text.split())


def words(statement: str) -> list[str]:
    r"""Return the words of a statement for n-grams: runs of letters and of digits, without operators and figures.

    In mathematics (between `$` and similar marks) every letter is a separate word, so that `xy` is `x y`. A command
    such as `\frac` is one word, and so is each word of a `\text{...}`. Text between two prices ($5 and $7) is prose.
    """
    text = _FIGURE.sub(" ", unicodedata.normalize("NFKC", statement)).replace(r"\$", " ")
    text = _FRACTION.sub(r"\\frac", text)
    found: list[str] = []
    end = 0
    for match in _MATH.finditer(text):
        found += _WORD.findall(_LAYOUT.sub(" ", text[end : match.start()]).lower())
        found += _mathematical_words(next(group for group in match.groups() if group is not None))
        end = match.end()
    return found + _WORD.findall(_LAYOUT.sub(" ", text[end:]).lower())


def _mathematical_words(formula: str) -> list[str]:
    found: list[str] = []
    parts = _TEXT.split(formula)  # formula, text, formula, ...
    for number, part in enumerate(parts):
        if number % 2 or _SENTENCE.search(part):
            found += _WORD.findall(part.lower())
        else:
            found += [word.lstrip("\\") for word in _SYMBOL.findall(_LAYOUT.sub(" ", part).lower())]
    return found


def grams(sequence: Sequence[str], length: int) -> set[Gram]:
    """Return the distinct n-grams of a word sequence."""
    return {tuple(sequence[i : i + length]) for i in range(len(sequence) - length + 1)}


def operators(statement: str) -> tuple[str, ...]:
    """Return the operators of a statement in order, which `words` leaves out."""
    return tuple(_OPERATOR.findall(unicodedata.normalize("NFKC", statement)))
