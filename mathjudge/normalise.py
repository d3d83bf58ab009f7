r"""One spelling for what LaTeX, Unicode and plain text spell differently. Text in, text out; nothing is evaluated.

`clean` maps an answer to canonical LaTeX: ASCII, no math delimiters, no sizing commands, `\frac{a}{b}`, `\sqrt{a}`,
`\text{...}` for every kind of text, `°` and `%` for degree and percent signs, `\le \ge \ne < >` for relations. Each
step is a small function; their order is that of STEPS.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mathjudge.braces import braced, pairs

SYMBOLS = {
    **dict.fromkeys("−–—‐‑‒﹣", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\u2007\u2008\u200a\u3000", " "),
    "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": r"\div ", "∗": "*", "∕": "/", "⁄": "/",
    "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∞": r"\infty ",
    "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∖": r"\setminus ", "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "º": "°", "˚": "°", "′": "'", "’": "'", "⟨": r"\langle ", "⟩": r"\rangle ", "∠": r"\angle ", "…": r"\dots ",
    "或": r"\text{ or }", "和": r"\text{ and }",
    "，": ",", "。": ".", "、": ",", "；": ";", "：": ":", "∶": ":", "∣": "|",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon ", "θ": r"\theta ",
    "λ": r"\lambda ", "μ": r"\mu ", "π": r"\pi ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi ",
    "ϕ": r"\phi ", "ψ": r"\psi ", "ω": r"\omega ", "Δ": r"\Delta ", "Ω": r"\Omega ",
    **{chr(0xFF01 + n): chr(0x21 + n) for n in range(94)},
}  # fmt: skip
TABLE = str.maketrans(SYMBOLS)
VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
    "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
    "⅑": (1, 9), "⅒": (1, 10),
}  # fmt: skip
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


MAX_GROUPS = 200
"""Braces of a text in which groups are looked at: their number times the text's length is the cost."""
# A brace that may group nothing: at the start, after an operator, a digit, a closing brace, a space or a dollar sign.
FREE_GROUP = re.compile(r"(?:^|[-+*/=(,;:<>\d}\s$])\{")


def repair_escapes(text: str) -> str:
    r"""Restore backslash commands that a JSON or Python escape consumed (a form feed and "rac" is \frac)."""
    text = re.sub(r"\\?\x0c(?=rac|orall)", r"\\f", text)
    text = re.sub(r"\\?\x08(?=eta|oxed|ar\b|inom|egin|igcup)", r"\\b", text)
    text = re.sub(r"\\?\t(?=ext|imes|heta|an\b|frac|au\b|o\b)", r"\\t", text)
    return re.sub(r"\\?\r(?=ight|ho\b)", r"\\r", text)


def ascii_symbols(text: str) -> str:
    """Unicode signs as LaTeX: minus signs and dashes, fractions, roots, powers, relations, Greek letters."""
    if text.isascii():
        return text
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda m: "^{" + m[0].translate(SUPERSCRIPTS) + "}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda m: "_{" + m[0].translate(SUBSCRIPTS) + "}", text)
    text = re.sub("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒]", lambda m: r"\frac{{{}}}{{{}}}".format(*VULGAR[m[0]]), text)
    text = re.sub(r"√\s*(\d+(?:\.\d+)?|[A-Za-zπ])", r"\\sqrt{\1}", text)
    text = text.replace("√", r"\sqrt ").replace("∛", r"\sqrt[3]")
    return text.translate(TABLE)


def strip_delimiters(text: str) -> str:
    r"""Remove $, $$, \( \), \[ \] and bold markers; \$ (a currency sign) stays."""
    text = re.sub(r"(?<!\\)\$+", " ", text)
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", text)
    text = re.sub(r"\\?[\"“”]", "", text)
    return re.sub(r"\*\*(?=\s|$)|(?:^|(?<=\s))\*\*|__", "", text)


def single_backslashes(text: str) -> str:
    r"""\\frac, escaped twice, is \frac. Matrices and cases keep theirs: there \\ ends a row."""
    return text if r"\begin" in text else re.sub(r"\\\\(?=[A-Za-z({\[|])", r"\\", text)


def thousands(text: str) -> str:
    r"""The typeset separators 1{,}000, 1,\!000, 1\,000 as 1,000. A comma and a space stays a list."""
    text = re.sub(r"(?<=\d)\s*\{\s*,\s*\}\s*(?=\d)", ",", text)
    text = re.sub(r",\s*\\!\s*", ",", text)
    text = re.sub(r"(?<=\d)(?:\\[,;!: ]\s*|~)(?=\d{3}(?!\d))", ",", text)
    return re.sub(r"(?<![\d.,])(\d{1,3})((?: \d{3})+)(?![\d./])", lambda m: m[1] + m[2].replace(" ", ","), text)


def matrix_commands(text: str) -> str:
    r"""\pmatrix{a \cr b}, \newline, starred and small matrices as environments of amsmath with rows that end in \\."""
    if not re.search(r"matri|\\cr(?![a-z])|\\newline|\\tabularnewline|Matrix", text):
        return text
    for match in reversed(list(re.finditer(r"\\([pbvBV]?)matrix\s*(?=\{)", text))):
        if (end := braced(text, match.end())) is not None:
            rows = text[match.end() + 1 : end]
            text = rf"{text[: match.start()]}\begin{{{match[1]}matrix}}{rows}\end{{{match[1]}matrix}}{text[end + 1 :]}"
    text = re.sub(r"\\(?:cr|newline|tabularnewline)(?![A-Za-z])|\\\\\*", r"\\\\", text)
    text = re.sub(r"\\(begin|end)\{([pbvBV])(?:small)?matrix\*?\}(?:\[[lcr]\])?", r"\\\1{\2matrix}", text)
    return re.sub(r"^\s*(?:\\text\{)?\s*(?:sp\.|sympy\.)?Matrix\s*\}?\s*\((\[\[.*\]\])\)\s*$", r"\1", text)


def strip_sizing(text: str) -> str:
    r"""Remove what only changes the look: \left, \big, \displaystyle, \limits; spacing commands become spaces."""
    text = re.sub(r"\{\s*(?:\\[,;: ])*\s*\\(?:rm|bf|it)(?![a-z])\s*([^{}]*)\}", r"\\text{\1}", text)
    text = re.sub(r"\s*\^\s*\{?\s*\\prime\s*\}?", "'", text)
    text = re.sub(r"\\left\s*\\\{(\s*\\begin\{array\}.*?\\end\{array\})\s*\\right\s*\.", r"\1", text, flags=re.DOTALL)
    text = re.sub(r"\\m?(?:left|right)(?![a-z])\s*\.?", "", text)
    text = re.sub(r"\\[bB]igg?[lrm]?(?![a-z])", "", text)
    text = re.sub(r"\\(?:displaystyle|textstyle|limits|nolimits|phantom\{[^{}]*\}|rm|bf|it)(?![a-z])", " ", text)
    text = re.sub(r"(?<!\\)\\(?:[,;:! ]|quad|qquad|enspace|thinspace|hspace\{[^{}]*\})|~", " ", text)
    text = re.sub(
        r"\\(?:color|hspace|tag\*?|label)\s*\{[^{}]*\}|\\(?:tiny|small|normalsize|large|Large|LARGE|huge|Huge)(?![a-z])",
        " ",
        text,
    )
    text = re.sub(r"\\(?:textcolor\s*\{[^{}]*\}|underline)\s*(?=\{)", "", text)
    text = re.sub(r"\\[lch]?dots[cbmio]?(?![a-z])|\.{3,}", r"\\dots ", text)
    return re.sub(r"\\[dtc]frac", r"\\frac", text)


def unify_text(text: str) -> str:
    r"""Every text command as \text{...}; function names in text (\text{sin}, \operatorname{arctan}) as functions."""
    text = re.sub(
        r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|operatorname\*?|bm|boldsymbol)\s*\{",
        r"\\text{",
        text,
    )
    text = re.sub(r"\\text\{\s*([,;]?|[-+]?\d[\d.,]*)\s*\}", r"\1 ", text)
    text = re.sub(r"(?<=\d)\s*\\text\{\s*to\s*\}\s*(?=\d)|(?<=\d) to (?=\d)", ":", text)
    text = re.sub(r"^\s*\\text\{([^{}]*[\d,][^{}]*)\}\s*$", r"\1", text)
    return re.sub(
        r"\\text\{\s*((?:arc)?(?:sin|cos|tan|cot|sec|csc)|ln|log|exp|gcd|lcm|(?:max|min)(?=\s*\}\s*[({_\\]))\s*\}",
        r"\\\1 ",
        text,
    )


def relations(text: str) -> str:
    """One command for each relation, also where programs' or words' spelling is used."""
    text = re.sub(r"\\(?:leqslant|leqq|leq|le(?![a-z]))|<=|=<", r"\\le ", text)
    text = re.sub(r"\\(?:geqslant|geqq|geq|ge(?![a-z]))|>=", r"\\ge ", text)
    text = re.sub(r"\\(?:neq|not\s*=|ne(?![a-z]))|!=", r"\\ne ", text)
    text = re.sub(r"\\lt(?![a-z])", "<", text)
    text = re.sub(r"\\gt(?![a-z])", ">", text)
    text = re.sub(r"\\(?:mid|vert|lvert|rvert)(?![a-z])", "|", text)
    text = re.sub(r"\\[lr]?Vert(?![a-z])", r"\\|", text)
    return re.sub(r"\\(?:colon)(?![a-z])", ":", text)


def brackets(text: str) -> str:
    r"""Brackets as the signs they print, ]a, b[ as (a, b); the empty set as \emptyset; \cupdot as \cup."""
    for command, sign in (("lbrace", r"\{"), ("rbrace", r"\}"), ("lbrack", "["), ("rbrack", "]")):
        text = re.sub(rf"\\{command}(?![a-z])", lambda _, s=sign: s, text)  # type: ignore[misc]
    text = re.sub(r"\\langle(?![a-z])|^\s*\](?=.*,)", "(", text)
    text = re.sub(r"\\rangle(?![a-z])|(?<!\\)\[\s*$", ")", text)
    text = re.sub(r"^\s*([A-H])\)(?=\s)", r"(\1)", text)
    text = re.sub(r"(\\text\{\s*(?:[Pp]art\s*)?)([A-Ha-h]|i{1,3}|iv|v)\)", r"\1(\2)", text)
    text = re.sub(r"\\varnothing|\\\{\s*\\\}", r"\\emptyset ", text)
    return re.sub(r"\\(?:bigcup|cupdot|sqcup)(?![a-z])", r"\\cup ", text)


SCALES = {"C": "celsius", "F": "fahrenheit", "K": "kelvin"}
TEMPERATURE = re.compile(
    r"\s*(?:(\\text\s*\{)\s*)?(?:°\s*(?:\\text\s*\{\s*([CFK])\s*\}|([CFK])\b)|"
    r"(?<=[\d}\s{])degrees?\s+([Cc]elsius|[Ff]ahrenheit)\b)(?(1)\s*\})"
)


def degrees_and_percent(text: str) -> str:
    """° and % for their many spellings, the words included."""
    text = re.sub(
        r"\s*(?:\^\s*(?:\{\s*\\(?:circ|degree)\s*\}|\\(?:circ|degree)(?![a-z])\s*)|\\(?:degree|textdegree|textcirc)(?![a-z]))",
        "°",
        text,
    )
    text = TEMPERATURE.sub(lambda found: rf" \text{{{SCALES[(found[2] or found[3] or found[4])[0].upper()]}}}", text)
    text = re.sub(r"\s*°", "°", text)
    text = re.sub(r"(?<=[\d}\s)])\s*(?:\\text\{\s*)?\bdegrees?\b\s*\}?", "°", text)
    text = re.sub(r"\s*\\%|\s+%", "%", text)
    return re.sub(r"\s*(?:\\text\{\s*)?(?<![a-z])(?:percent(?:age)?|per cent|pct)\b\.?(?:\s*\})?", "%", text)


def programming(text: str) -> str:
    r"""Operators of programming languages: ** and *, sqrt(x), pi, inf, infinity."""
    text = text.replace("**", "^")
    text = re.sub(r"(?<=[\w)}\]\s])\s*\*\s*(?=[\w({\\\-])", r" \\cdot ", text)
    text = re.sub(r"(?<![A-Za-z\\])sqrt(?=\s*[({\d])", r"\\sqrt", text)
    text = re.sub(r"(?<![A-Za-z\\])(?:pi)(?![A-Za-z])", r"\\pi ", text)
    text = re.sub(r"(?<![A-Za-z\\])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty ", text)
    return re.sub(r"\+\s*\\infty", r"\\infty", text)


def function_arguments(text: str) -> str:
    r"""\cot t \cdot x as \cot(t) \cdot x: the parser would read the whole product as the argument."""
    return re.sub(
        r"(\\(?:arc)?(?:sin|cos|tan|cot|sec|csc|ln|log)(?:\^\s*(?:\{[^{}]*\}|\w))?)\s*(\d*\s*[a-zA-Z]|\\[a-z]+)(?=\s*\\(?:cdot|times)(?![a-z]))",
        r"\1(\2)",
        text,
    )


def arguments(text: str) -> str:
    r"""Braces around the arguments of \frac and \sqrt: \frac43, \frac{a}b, \sqrt2, \sqrt(3), \sqrt[3]4."""
    out: list[str] = []
    at = 0
    for match in re.finditer(r"\\(frac|sqrt)(?![a-z])", text):
        if match.start() < at:
            continue
        end = match.end()
        out.append(text[at : match.start()] + match[0])
        if match[1] == "sqrt" and (index := re.compile(r"\s*(\[[^\[\]]*\])").match(text, end)):
            out.append(index[1])
            end = index.end()
        for _ in range(2 if match[1] == "frac" else 1):
            part, end = argument(text, end)
            out.append("{" + arguments(part) + "}" if part else "")
        at = end
    return "".join(out) + text[at:]


def argument(text: str, at: int) -> tuple[str, int]:
    r"""Return the argument that starts at `at`, and its end: a braced or parenthesised group, a command with its own
    arguments, or one character."""
    while at < len(text) and text[at] == " ":
        at += 1
    if at >= len(text):
        return "", at
    if text[at] in "{(" and (end := braced(text, at)) is not None:
        return text[at + 1 : end], end + 1
    if command := re.compile(r"\\[A-Za-z]+").match(text, at):
        end = command.end()
        while end < len(text) and text[end] == "{" and (close := braced(text, end)) is not None:
            end = close + 1
        return text[at:end], end
    return text[at], at + 1


def free_groups(text: str) -> str:
    r"""Braces that group nothing, as spaces: {5} \text{ cm}. Around a sum or before a power they become parentheses."""
    if not 0 < text.count("{") <= MAX_GROUPS:
        return text
    text = re.sub(r"^\\\{([^{},|]*)\\\}\s*(?=\\text\{[^{}]*\}$)", r"\1 ", text)
    if not FREE_GROUP.search(text):
        return text
    text = re.sub(r"\{([^{}]*)\\over(?![a-z])([^{}]*)\}", r"\\frac{\1}{\2}", text)
    closing = pairs(text)
    for start, end in sorted(closing.items(), reverse=True):
        content = text[start + 1 : end]
        if not _is_free(text, start) or r"\choose" in content:
            continue
        powered = re.match(r"\s*[\^_'!]", text[end + 1 :]) and not re.fullmatch(r"\w|\\[A-Za-z]+", content)
        summed = re.search(r"(?<=[\w)}\s])[-+]", content) and (text[:start].strip() or text[end + 1 :].strip())
        opening, close = ("(", ")") if powered or summed else (" ", " ")
        text = f"{text[:start]}{opening}{content}{close}{text[end + 1 :]}"
    return text


def _is_free(text: str, start: int) -> bool:
    """Whether the brace at `start` is no argument: of a command, an index, a power, or of the group before it."""
    before = text[:start].rstrip()
    if not before or before.endswith("\\$"):
        return True
    if before[-1] in "^_}]\\" or re.search(r"\\[A-Za-z]+\*?$", before):
        return before[-1] == "}" and _closes_text(before)
    return True


def _closes_text(before: str) -> bool:
    r"""Whether a text ends in \text{...}, which takes one argument, or in a free group with only a number or a unit."""
    return bool(re.search(r"(?:\\text\s*|(?:^|[-+*/=(,;:<>\s])\s*)\{[^{}]*\}$", before))


def trim(text: str) -> str:
    """Drop a final full stop, comma, colon, lone backslash, quotes; collapse spaces."""
    text = re.sub(r"\s+", " ", text).strip()
    previous = None
    while previous != text:
        previous = text
        text = re.sub(r"(?<!\\)[.,;:!\"`]+$|\\+$|^[\"`:]+", "", text).strip() if not text.endswith("!") else text
        if text.startswith("{") and text.endswith("}") and braced(text, 0) == len(text) - 1:
            text = text[1:-1].strip()
    return text


STEPS: tuple[Callable[[str], str], ...] = (
    repair_escapes,
    ascii_symbols,
    matrix_commands,
    single_backslashes,
    strip_delimiters,
    thousands,
    strip_sizing,
    unify_text,
    relations,
    brackets,
    degrees_and_percent,
    programming,
    arguments,
    free_groups,
    function_arguments,
    trim,
)


def clean(text: str) -> str:
    """Return the canonical spelling of an answer; see the module's docstring."""
    for step in STEPS:
        text = step(text)
    return text


def squash(text: str) -> str:
    """Return a canonical answer without spaces, braces around single characters and multiplication signs."""
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"(?<=\d)\s*(?:\\(?:cdot|times)(?![a-z])|[*])\s*(?=\d)", "*", text)
    text = re.sub(r"(?:\\(?:cdot|times)(?![a-z])|[*](?!\d))(?=\s*[^\s,;)\]}])", "", text)
    text = re.sub(r"(?<=\d)\s+(?=\d)", "_", text)
    text = re.sub(r"\s", "", text)
    return re.sub(r"(?<=[\^_])\{(\w)\}", r"\1", text)
