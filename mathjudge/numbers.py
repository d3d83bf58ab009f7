r"""Numbers read exactly: no floating point decides a verdict.

`read_number` knows the ways in which answers write a rational number: 1,234.5; .5; \frac{3}{4}; 3/4; 1\frac{4}{5};
4.45e15; 1 \times 10^{-10}; 0.1\overline{6}; 5 million; each with a sign. Anything else is a formula (`symbolic`). Input
is text cleaned by `normalise.clean`, without its unit (`units.split_unit`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 4000  # Python itself refuses longer decimal integers (a denial-of-service limit)
MAX_EXPONENT = 4000

GROUPED = r"\d{1,3}(?:,\d{3})+(?!\d)"
UNSIGNED = rf"(?:(?:{GROUPED}|\d+)(?:\.\d*)?|\.\d+)"
SIGNED = rf"[-+]?\s*{UNSIGNED}"
POWER_OF_TEN = r"10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|\(\s*([-+]?\d+)\s*\)|([-+]?\d+))"

PLAIN = re.compile(SIGNED)
E_NOTATION = re.compile(rf"({SIGNED})[eE]([-+]?\d+)")
SCIENTIFIC = re.compile(rf"(?:({SIGNED})\s*(?:\\times|\\cdot|[xX])\s*|([-+]?)\s*){POWER_OF_TEN}")
FRACTION = re.compile(rf"([-+]?)\s*\\frac\s*\{{\s*\(?({SIGNED})\)?\s*\}}\s*\{{\s*\(?({SIGNED})\)?\s*\}}")
SLASH = re.compile(rf"\(?\s*({SIGNED})\s*\)?\s*/\s*\(?\s*({SIGNED})\s*\)?")
MIXED = re.compile(r"([-+]?)\s*(\d+)\s*\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
MIXED_SLASH = re.compile(r"([-+]?)\s*(\d+)\s+(\d+)\s*/\s*(\d+)")
REPEATING = re.compile(r"([-+]?)\s*(\d*)\.(\d*)\s*\\(?:overline|bar|dot)\s*\{\s*(\d+)\s*\}")
BASE = re.compile(r"\(?\s*([0-9A-Fa-f][0-9A-Fa-f\s]*)\s*\)?_\s*\{?\s*(?:\\text\s*\{)?\s*\(?([A-Za-z]+|\d+)\)?\s*\}?\}?")
WORDED_BASE = re.compile(
    r"(\(?[0-9A-Fa-f]+\)?)(?:_\s*\{?\w+\}?)?\s*(?:\\text\s*\{\s*)?[\s(]*(?:in\s+)?base[\s-]*(\w+)[\s)]*\}?[\s)]*",
    re.IGNORECASE,
)
MULTIPLES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
MULTIPLE = re.compile(rf"({SIGNED})\s*(?:\\text\s*\{{\s*)?({'|'.join(MULTIPLES)})\s*\}}?", re.IGNORECASE)
CONTINUED = re.compile(r"([-+]?)\s*(\d*)\.(\d*?)(\d{1,6}?)\4\4*\s*\\dots")
BASE_WORDS = {
    w: n
    for n, w in enumerate(
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], start=2
    )
} | {"sixteen": 16}


@dataclass(frozen=True)
class Number:
    """An exact value. places: decimals written (None for integers and fractions); digits: significant digits."""

    value: Fraction
    places: int | None = None
    digits: int = 0


@dataclass(frozen=True)
class BaseDigits:
    """Digits in a stated base. 40_7 is neither 40 nor 28: the base is part of the answer."""

    digits: str
    base: int


def decimal(text: str) -> Number:
    """Return a decimal such as "-1,234.50" as an exact number with its written places. ValueError if it is too long."""
    bare = re.sub(r"[\s,]", "", text)
    whole, _, part = bare.partition(".")
    if len(bare) > MAX_DIGITS:
        raise ValueError("too many digits")
    number = Fraction(f"{whole if whole.strip('+-') else whole + '0'}.{part or '0'}")
    significant = len((whole.strip("+-") + part).lstrip("0"))
    return Number(number, len(part) if part else None, significant)


def read_number(text: str) -> Number | None:
    """Return the exact value of a number without a unit, or None if the text is not one."""
    text = text.strip()
    if len(text) > MAX_DIGITS or not re.search(r"\d", text):
        return None
    try:
        return _read(text)
    except (ValueError, ZeroDivisionError):
        return None


def _read(text: str) -> Number | None:
    if PLAIN.fullmatch(text):
        return decimal(text)
    if match := FRACTION.fullmatch(text):
        return Number(_sign(match[1]) * decimal(match[2]).value / decimal(match[3]).value)
    if match := SLASH.fullmatch(text):
        return Number(decimal(match[1]).value / decimal(match[2]).value)
    if match := MIXED.fullmatch(text) or MIXED_SLASH.fullmatch(text):
        return Number(_sign(match[1]) * (int(match[2]) + Fraction(int(match[3]), int(match[4]))))
    if match := E_NOTATION.fullmatch(text):
        return _scaled(decimal(match[1]), int(match[2]))
    if match := SCIENTIFIC.fullmatch(text):
        mantissa = decimal(match[1]) if match[1] else Number(Fraction(_sign(match[2])))
        return _scaled(mantissa, int(match[3] or match[4] or match[5]))
    if match := REPEATING.fullmatch(text):
        return Number(_sign(match[1]) * _repeating(match[2], match[3], match[4]))
    if (
        len(text) < 60
        and (match := CONTINUED.fullmatch(text))
        and len(text.partition(".")[2].partition("\\")[0].strip()) >= 3
    ):
        return Number(_sign(match[1]) * _repeating(match[2], match[3], match[4]))
    if match := MULTIPLE.fullmatch(text):
        return Number(decimal(match[1]).value * 10 ** MULTIPLES[match[2].lower()])
    return None


def _sign(text: str | None) -> int:
    return -1 if text == "-" else 1


def _scaled(mantissa: Number, exponent: int) -> Number | None:
    if abs(exponent) > MAX_EXPONENT:
        return None
    return Number(mantissa.value * Fraction(10) ** exponent, None, mantissa.digits)


def _repeating(whole: str, fixed: str, period: str) -> Fraction:
    head = Fraction(int(f"{whole or 0}{fixed}"), 10 ** len(fixed))
    return head + Fraction(int(period), 10 ** len(fixed) * (10 ** len(period) - 1))


def read_base(text: str) -> BaseDigits | None:
    r"""Return digits with their base, 204_5, 4210_{5}, (12)_{\text{five}}, or None. The caller treats base ten."""
    match = WORDED_BASE.fullmatch(text.strip()) or BASE.fullmatch(text.strip())
    if not match:
        return None
    base = int(match[2]) if match[2].isdigit() and len(match[2]) < 3 else BASE_WORDS.get(match[2].lower(), 0)
    digits = re.sub(r"[\s()]", "", match[1]).upper()
    if not 2 <= base <= 36 or not re.search(r"\d", digits):
        return None
    return BaseDigits(digits.lstrip("0") or "0", base)
