r"""Units at the end of an answer: removed, named and compared.

A unit may be added or dropped, since the problem usually states it; but 5 cm is not 5 m. Units are found in text
commands (\text{ cm}^2), as words after a number (42 apples), as ordinals (15th) and as currency signs. A bare single
letter is a variable: 6m is six times m, 6 \text{ m} is six metres.
"""

from __future__ import annotations

import re

from mathjudge.parsing import TRIGONOMETRIC

WORDS = re.compile(
    r"(?<=[\d}\])\s])(?<![\\A-Za-z])([A-Za-z]{2,}(?:\.?[\s/-]{1,3}[A-Za-z]{2,}){0,8})\.?((?:\s?\^\s?\{?[23]\}?)?)\s?$"
)
ONE_TEXT = r"\\text\s*\{[^{}]*\}(?:\s*\^\s*\{?\s*-?\d(?:\s*\})?)?"
TEXT = re.compile(rf"\s*/?({ONE_TEXT}(?:\s*(?:(?:/|\\cdot)\s*)?{ONE_TEXT})*)()\s*$")
CHINESE = re.compile(r"(?<=[\d}%])\s*()([\u4e00-\u9fff]{1,6})$")
SYMBOLS = r"(?:[kcm]?m|km|[km]?g|[km]?[JNWVA]|[mk]?[Ll]|mol|s|h|min|hr|mi|ft|in|yd|Hz|Pa|rad)"
COMPOUND = re.compile(rf"(?<=[\d}}\s])({SYMBOLS}(?:\s*\^\s*\{{?-?\d\}}?)?/{SYMBOLS})((?:\s*\^\s*\{{?-?\d\}}?)?)$")
# Words next to a number that change it or deny it: they are no unit and no introduction.
QUALIFIES = re.compile(
    r"\b(?:not|no|never|or|and|at\s+least|at\s+most|more|less|fewer|greater|larger|bigger|smaller|than|above|below|under|"
    r"over|between|up\s+to|almost|nearly|except|excluding|wrong|incorrect|false|minus|negative|plus|half|quarter|third|"
    r"thousand|million|billion|trillion|if|unless|base|mod|maybe|perhaps|possibly|multiples?|factorial|squared|cubed)\b"
    r"|n['’]t\b|\d|[不非或万亿千百]",
    re.IGNORECASE,
)
LEADING_TEXT = re.compile(r"^\s*\\text\s*\{[^{}\d]*\}(?!\s*(?:[=<>:]|[(\[][^()\[\]]*[)\]]\s*=))\s*")
CURRENCY = re.compile(r"^\s*(-?)\s*(?:\\\$|\\text\s*\{\s*\\?\$\s*\}|\\pounds|\\euro|[€£¥₹])\s*(?=[-\d.\\])")
TRAILING_CURRENCY = re.compile(r"(?<=[\d}])\s*(?:\\\$|[€£¥₹])\s*$")
ORDINAL = re.compile(
    r"^\s*(-?\d+)\s*(?:\^\s*\{?)?\s*(?:\\text\s*\{)?\s*(?:st|nd|rd|th)\b\s*\}?\s*\}?\s*(?:[A-Za-z]+)?$"
)
ATTACHED = re.compile(r"(?<=\d)\s*(?:m|g|s|h|L|l|J|N|K|V|W|A|C|F|Hz)(?:\^\s*\{?[23]\}?)$")
POWER = re.compile(r"\^\s*\{?\s*-?\d\s*\}?|(?<=[A-Za-z])[23]\b")
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
    "$": "$ dollar usd", "€": "€ euro", "£": "£", "lb": "lb pound", "oz": "oz ounce", "J": "j joule", "N": "n newton",
    "W": "w watt", "Hz": "hz hertz", "mol": "mol mole", "kJ": "kj kilojoule", "ms": "ms millisecond",
    "dm": "dm decimeter decimetre", "rad": "rad radian", "celsius": "celsius", "fahrenheit": "fahrenheit",
    "kelvin": "kelvin",
}  # fmt: skip
COMPOUND_NAMES = {"mph": "mi/h", "kph": "km/h", "kmh": "km/h"}
TEMPERATURES = frozenset(["celsius", "fahrenheit"])
CANONICAL = {spelling: unit for unit, spellings in SYNONYMS.items() for spelling in spellings.split()}


def split_unit(text: str) -> tuple[str, str]:
    """Return the answer without its unit, and the unit as written or "". "%" and "°" are units here."""
    text = text.strip()
    if match := ORDINAL.match(text):
        return match[1], ""
    if text.endswith(("%", "°")) and not (text.endswith("°") and TRIGONOMETRIC.search(text)):
        return text[:-1].strip(), text[-1]
    if match := CURRENCY.match(text):
        sign = re.sub(r"[\\\s{}text-]", "", match[0]) or "$"
        inner, _ = split_unit(text[match.end() :])
        return match[1] + inner, "$" if sign == "$" else sign
    if match := TRAILING_CURRENCY.search(text):
        return text[: match.start()], match[0].strip(" \\")
    for pattern in (TEXT, WORDS, COMPOUND, CHINESE):
        match = pattern.search(text)
        if match and match.start() > 0 and not _is_function(match[1]):
            core = text[: match.start()].strip()
            unit = re.sub(r"\\text\s*\{([^{}]*)\}\s*", r"\1", match[1]).strip() + match[2]
            if QUALIFIES.search(POWER.sub("", unit)) or _is_product(match, text, pattern is WORDS):
                return text, ""
            if re.search(r"[\d}A-Za-z)\]°%]$", core) and not core.endswith(("^", "_", "=")):
                more, inner = split_unit(core)
                return (more, inner) if inner in ("%", "°") else (more, unit)
    if match := ATTACHED.search(text):
        return text[: match.start()], match[0].strip()
    return text, ""


def _is_product(match: re.Match[str], text: str, words: bool) -> bool:
    r"""Whether letters after a number are variables: 6xy and 6\mathrm{x} are products, 6cm and 6 men are not."""
    if not words:
        return bool(re.fullmatch(r"\\text\s*\{\s*[a-z]\s*\}", match[1].strip())) and not re.search(
            r"[mgshl]", match[1][5:]
        )
    attached = not text[match.start() - 1].isspace()
    return (
        len(match[1]) < (4 if attached else 3)
        and canonical(match[1]) is None
        and match[1].lower() not in COMPOUND_NAMES
    )


def _is_function(words: str) -> bool:
    return any(word in FUNCTIONS for word in re.findall(r"[A-Za-z]+", words))


def strip_leading_text(text: str) -> str:
    r"""Drop words before a formula: \text{only }x = 0."""
    match = LEADING_TEXT.match(text)
    shorter = text[match.end() :].lstrip(" ,;:") if match and not QUALIFIES.search(match[0]) else ""
    return shorter if shorter.strip() else text


def canonical(unit: str) -> str | None:
    """Return the one name of a known unit ("square feet" and "ft^2" are "ft2"), or None."""
    unit = COMPOUND_NAMES.get(unit.lower().strip(" ."), unit.lower().strip(" ."))
    parts = re.split(r"\s*(?:/|\bper\b)\s*", unit)
    if len(parts) == 2:  # km/h is "km per hour"
        names = [canonical(part) for part in parts]
        return f"{names[0]}/{names[1]}" if all(names) else None
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
    if "°" in (left, right) and {left, right} & TEMPERATURES:  # degrees of a scale that the problem states
        return True
    return left is None or right is None or left == right
