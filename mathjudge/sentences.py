r"""Values in running text: formulas, numbers and tuples, the sentence they end, and whether it denies them.

Regular expressions only, on bounded stretches of text. Nothing here decides whether a text concludes: that is
`phrases` (marked answers) and `conclusions`.
"""

from __future__ import annotations

import re

BARE_LIMIT = 400
"""Characters of the longest text that can be an answer and nothing else."""

MATH = re.compile(r"\$\$.+?\$\$|(?<!\\)\$(?:\\.|[^$\\])+?(?<!\\)\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
# Digits with separators of any kind are one number. A space separates thousands only.
SPACED = r"(?<![\d.,])\d{1,3}(?:(?:\\[,;:! ]|[ ~\u00a0\u2009\u202f])\d{3})+(?!\d)"
DIGITS = rf"(?:{SPACED}|\d+(?:(?:,|\{{,\}}|,\\!|\\[,;:])\d+)*)"
MULTIPLE = r"(?:thousand|million|billion|trillion)\b"
VALUE = rf"[-+−–]?(?:{DIGITS}(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?(?:\s*(?:%|°|{MULTIPLE}))?"
TUPLE = rf"[(\[]\s*{VALUE}(?:\s*[,;]\s*{VALUE})+\s*[)\]]"
NUMBER = re.compile(rf"{TUPLE}|{VALUE}")
MONEY = re.compile(r"(?<!\\)\$\d[\d.,]*(?=\s+[A-Za-z]{2,})")
# LaTeX without delimiters: numbers inside it are no values of their own.
COMMAND = re.compile(r"\\[A-Za-z]+(?:\s*\{(?:[^{}]|\{[^{}]*\})*\})*|[\^_](?:\{[^{}]*\}|\S)")

SENTENCE = re.compile(
    r"\b(?:is|are|was|we|so|have|has|get|find|found|that|this|therefore|thus|hence|answer|it|not|be|our|cannot|can|"
    r"unable|know|tell|sure|there|follows?|must|gives?|gave|yields?|let|then|into|from|when)\b|[是为得有则设由不综首先接考虑因所以故答需可能假如从于即解]",
    re.IGNORECASE,
)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
TEXT_COMMAND = re.compile(r"\\(?:text|mbox|textbf|mathrm)\s*\{[^{}]*\}")
UNFINISHED = re.compile(r"(?:\b(?:and|or|plus|minus|times|of|the|by|over)|[-+*/=<>,(^])\s*$", re.IGNORECASE)
# Shortly before a value: it is denied, bounded or doubted.
DENIED = re.compile(
    r"(?:\b(?:not|cannot|never|nor|neither|if|whether|at\s+least|at\s+most|(?:more|less|fewer|greater|larger|smaller)\s+than|"
    r"between|up\s+to|exceeds?|likely|except|不)\b|n['’]t\b|不)(?:\s*[^\s,;.\d]+){0,3}\s*$"
    r"|(?:[<>≤≥≠^_]\{?|\\(?:[lg]eq?|neq?|lt|gt)(?![a-z])|\b(?:over|under|above|below|modulo|mod|step|theorem|lemma|equation|"
    r"case|part|figure|section|problem|divisible\s+by|divided\s+by|multiplied\s+by|(?:multiple|factor|power|root|square|cube|"
    r"half)s?\s+of|twice|from\s+\S+\s+to|negative|minus))\s*\(?\s*$"
    r"|(?:至少|至多|大于|小于|不等于|超过|负)[是为有]?\s*$",
    re.IGNORECASE,
)
NAME = r"(?:[A-Za-z]\s*=\s*)?"
# Between the values of one list: "2, 3 and 5", "x = 2 or x = 3".
LAST_GAP = re.compile(rf"\s*(?:,?\s*(?:and|or)\s+|或|和|、){NAME}")
GAP = re.compile(rf"{LAST_GAP.pattern}|\s*,\s*{NAME}")
# What follows an answer in its sentence and is not part of it.
REASON = re.compile(r",?\s+(?:because|since|as|which|not|rather\s+than|instead\s+of)\b")
POLITENESS = re.compile(r"\s*(?:I hope (?:it|this) (?:is correct|helps)|Let me know[^.]*)[.!]?\s*$", re.IGNORECASE)
LATEX_VALUE = re.compile(r"(?:\b(?:is|are|equals|be|get|have|obtain)|=)\s+(?=\S)", re.IGNORECASE)


def first_sentence(text: str) -> str:
    """Return the text up to a full stop that is not a decimal point, or to the end of the line."""
    line = REASON.split(text.split("\n", 1)[0], maxsplit=1)[0]
    return re.split(r"(?<=[^\s.])\.(?=\s|$)|。", line, maxsplit=1)[0].strip()


def last_sentence(text: str) -> str | None:
    """Return the last sentence if it is finished: it ends in a full stop, a number or a formula; else None."""
    text = POLITENESS.sub("", text.rstrip())
    if not re.search(r"(?:[.!。$]|\\\)|\\\]|\*\*)$", text) and not re.search(r"[\d%)}]$", text):
        return None
    if inside_formula(text):
        return None
    protected = MATH.sub(lambda m: re.sub(r"[.\n]", "\x00", m[0]), text.rstrip(".!。* "))
    parts = re.split(r"(?<=[^\s.\d])\.(?=\s)|(?<=\d)\.(?=\s+[A-Z])|\n\n|。", protected)
    return text[len(protected) - len(parts[-1]) :].strip()


def inside_formula(text: str) -> bool:
    """Whether a text ends inside a formula that was cut off ("so $x = 4"); "$42." is a sum of money."""
    unclosed = re.search(r"\\[(\[][^$]*$", MATH.sub("", text[-2000:]))
    if unclosed and not re.search(r"\\[)\]]", unclosed[0]):
        return True
    last_line = MONEY.sub("", MATH.sub("", text[-2000:]).rpartition("\n\n")[2])
    return bool(re.search(r"(?<!\\)\$(?!\s*[\d.,{}\\!]+\W*$)", last_line))


def is_bare(text: str) -> bool:
    """Whether a text is an answer and nothing else: short, and without the words of a sentence around it."""
    if not text or len(text) > BARE_LIMIT or "\n\n" in text:
        return False
    outside = TEXT_COMMAND.sub(" ", MATH.sub(" ", text))
    if SENTENCE.search(outside):
        return False
    has_value = bool(NUMBER.search(text) or MATH.search(text))
    if len(CHINESE.findall(outside)) > (4 if has_value else 12):
        return False
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", outside)
    return len(words) <= 4 or (len(words) <= 12 and not has_value)


def last_value(sentence: str) -> str | None:
    """Return the last value of a sentence, or the list that it ends; None if there is none or it is denied."""
    span = last_span(sentence)
    if span is None:
        return None
    unit = re.match(r"\s*(?:\\?%|percent)", sentence[span[1] :])
    return sentence[span[0] : span[1]] + (unit[0] if unit else "")


def last_span(sentence: str) -> tuple[int, int] | None:
    """Return where the last value or list of values of a sentence starts and ends; None if it is denied.

    A value is a formula, a number or a tuple of numbers. LaTeX without delimiters is a value from its verb on.
    """
    formulas = list(MATH.finditer(sentence))
    outside = MATH.sub(lambda m: " " * len(m[0]), sentence)
    commands = list(COMMAND.finditer(outside))
    if any(re.match(r"\\[a-zA-Z]", command[0]) for command in commands):
        return _latex_span(sentence, outside)
    for command in commands:
        outside = outside[: command.start()] + " " * len(command[0]) + outside[command.end() :]
    values = sorted(formulas + list(NUMBER.finditer(outside)), key=lambda match: match.start())
    if commands and (not values or values[-1].end() < commands[-1].end()):
        return None
    if not values:
        return None
    start, end, gap = values[-1].start(), values[-1].end(), LAST_GAP
    for value in reversed(values[:-1]):
        if not gap.fullmatch(sentence, value.end(), start):
            break
        start, gap = value.start(), GAP
    return None if DENIED.search(sentence[max(0, start - 80) : start]) else (start, end)


def _latex_span(sentence: str, outside: str) -> tuple[int, int] | None:
    r"""Return the span of LaTeX that is set without delimiters: "the probability is \frac{3}{4}"."""
    end = len(sentence.rstrip(". "))
    for verb in LATEX_VALUE.finditer(outside):
        value = sentence[verb.end() : end]
        if re.search(r"\\[a-zA-Z]", value) and is_bare(value):
            return verb.end(), end
    return None
