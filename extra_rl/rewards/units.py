r"""Units at the end of an answer: taken off, named, and compared.

A unit may be added or dropped, since the problem usually states it; but 5 cm is not 5 m. Units are found in text
commands (\text{ cm}^2), as words after a number (42 apples), as ordinals (15th) and as currency signs. A bare single
letter is a variable: 6m is six times m, 6 \text{ m} is six metres.
"""

from __future__ import annotations

import re

WORDS = re.compile(
    r"(?<=[\d}\])\s])(?<![\\A-Za-z])([A-Za-z]{2,}(?:\.?[\s/-]{1,3}[A-Za-z]{2,}){0,8})\.?((?:\s?\^\s?\{?[23]\}?)?)\s?$"
)
TEXT = re.compile(r"\s*/?\\text\s*\{([^{}]*)\}\s*(?:(?:\^|\*\*)\s*\{?\s*(-?\d)\s*\}?)?\s*$")
LEADING_TEXT = re.compile(r"^\s*\\text\s*\{[^{}\d]*\}\s*")
CURRENCY = re.compile(r"^\s*(-?)\s*(?:\\\$|\\text\s*\{\s*\\?\$\s*\}|\\pounds|\\euro|[€£¥₹])\s*(?=[-\d.\\])")
TRAILING_CURRENCY = re.compile(r"(?<=\d)\s*(?:\\\$|[€£¥₹])\s*$")
ORDINAL = re.compile(
    r"^\s*(-?\d+)\s*(?:\^\s*\{?)?\s*(?:\\text\s*\{)?\s*(?:st|nd|rd|th)\b\s*\}?\s*\}?\s*(?:[A-Za-z]+)?$"
)
ATTACHED = re.compile(r"(?<=\d)\s*(?:m|g|s|h|L|l|J|N|K|V|W|A|C|F|Hz)(?:\^\s*\{?[23]\}?)$")
FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "log",
        "ln",
        "exp",
        "max",
        "min",
        "gcd",
        "lcm",
        "arcsin",
        "arccos",
        "arctan",
        "mod",
        "sqrt",
        "pi",
    ]
)

SYNONYMS = {
    "cm": "cm centimeter centimetre", "mm": "mm millimeter millimetre", "m": "m meter metre", "g": "g gram gramme",
    "km": "km kilometer kilometre", "kg": "kg kilogram", "s": "s sec second", "min": "min minute", "h": "h hr hour",
    "day": "day", "week": "week", "month": "month", "year": "year yr", "in": "in inch inche", "ft": "ft foot feet",
    "yd": "yd yard", "mi": "mi mile", "L": "l liter litre", "mL": "ml milliliter millilitre", "cent": "cent ¢",
    "$": "$ dollar usd", "€": "€ euro", "£": "£", "lb": "lb pound", "oz": "oz ounce", "rad": "rad radian",
}  # fmt: skip
CANONICAL = {spelling: unit for unit, spellings in SYNONYMS.items() for spelling in spellings.split()}


def split_unit(text: str) -> tuple[str, str]:
    """(the answer without its unit, the unit as written or ""). "%" and "°" are units here."""
    text = text.strip()
    if match := ORDINAL.match(text):
        return match[1], ""
    if text.endswith(("%", "°")):
        return text[:-1].strip(), text[-1]
    if match := CURRENCY.match(text):
        sign = re.sub(r"[\\\s{}text-]", "", match[0]) or "$"
        inner, _ = split_unit(text[match.end() :])
        return match[1] + inner, "$" if sign == "$" else sign
    if match := TRAILING_CURRENCY.search(text):
        return text[: match.start()], match[0].strip(" \\")
    for pattern in (TEXT, WORDS):
        match = pattern.search(text)
        if match and match.start() > 0 and not _is_function(match[1]):
            core = text[: match.start()].strip()
            if re.search(r"[\d}A-Za-z)\]°%]$", core) and not core.endswith(("^", "_", "=")):
                more, inner = split_unit(core)
                return (more, inner) if inner in ("%", "°") else (more, f"{match[1].strip()}{match[2] or ''}")
    if match := ATTACHED.search(text):
        return text[: match.start()], match[0].strip()
    return text, ""


def _is_function(words: str) -> bool:
    return any(word in FUNCTIONS for word in re.findall(r"[A-Za-z]+", words))


def strip_leading_text(text: str) -> str:
    r"""Drop words before a formula: \text{only }x = 0."""
    shorter = LEADING_TEXT.sub("", text)
    return shorter if shorter.strip() else text


def canonical(unit: str) -> str | None:
    """The one name of a known unit ("square feet" and "ft^2" are "ft2"), or None for a word that is none."""
    unit = unit.lower().strip(" .")
    if unit in ("%", "°"):
        return unit
    power = ""
    if found := re.search(r"\^\s*\{?\s*(-?\d)\s*\}?$|(?<=[a-z])([23])$", unit):
        power, unit = found[1] or found[2], unit[: found.start()].strip()
    for word, exponent in (("square", "2"), ("sq", "2"), ("cubic", "3"), ("cu", "3")):
        if re.match(rf"{word}\b\.?", unit):
            power, unit = exponent, re.sub(rf"^{word}\b\.?\s*", "", unit)
    name = CANONICAL.get(unit) or CANONICAL.get(unit.removesuffix("s"))
    return name + power if name else None


def compatible(a: str, b: str) -> bool:
    """Whether two units can belong to the same answer: one is absent or unknown, or both are the same unit."""
    if not a or not b:
        return True
    left, right = canonical(a), canonical(b)
    return left is None or right is None or left == right
