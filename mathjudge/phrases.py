r"""Answers that are stated without a box: one function a fallback, each returns the answer's text or None.

Every one needs a sign that the text concludes, or that nothing but the answer is there. Regular expressions only, on
bounded stretches of text.
"""

from __future__ import annotations

import re

MATH = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\.|[^$\\])+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
MINERVA = re.compile(r"final answer\s*:?\s*(.{1,400}?)\.?\s*I hope (?:it|this) is correct", re.IGNORECASE | re.DOTALL)
HASHES = re.compile(r"####\s*([^\n]+)")
PHRASE = re.compile(
    r"(?:final\s+answer|(?:the\s+|our\s+|my\s+|correct\s+)*answers?|correct\s+(?:option|choice))\s*(?:\*\*)?\s*"
    r"(?:(?:is|are|was|=|:)|(?=[\s\n]*(?:\$|\\\(|\\\[)))[ \t]*(?:therefore|thus|simply|equal to)?\s*:?\s*(?:\*\*)?"
    r"|(?:^|\n)#+\s*(?:final\s+)?answer\s*\n|<answer>|答案\s*(?:是|为|：|:)|故?选\s*[：:]?\s*(?=[A-H])",
    re.IGNORECASE,
)
CONCLUDES = re.compile(
    r"(?:^|[\s,])(?:therefore|thus|hence|so|consequently|we\s+conclude|in\s+conclusion|finally)\b"
    r"|\bis\s+(?:the|our)\s+(?:solution|answer)\b|∴|\\therefore|因此|所以|故",
    re.IGNORECASE,
)
# Before "the answer is" in its sentence: it is not claimed. At the end of a text: it was cut off.
SUPPOSES = re.compile(r"\b(?:suppose|assume|assuming|if|whether|guess|maybe|perhaps|unless)\b[^.\n]*$", re.IGNORECASE)
UNFINISHED = re.compile(r"(?:\b(?:and|or|plus|minus|times|of|the|by|over)|[-+*/=<>,(^])\s*$", re.IGNORECASE)
WORKING = re.compile(
    r"^\W*(?:first|next|then|let|since|because|suppose|consider|note|if|given|step|now|we\s+have|we\s+know|assume|for|when)\b",
    re.IGNORECASE,
)
VALUE = re.compile(r"[-+−–]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?(?:\s*(?:%|°))?")
SENTENCE = re.compile(
    r"\b(?:is|are|was|we|so|have|has|get|find|found|that|this|therefore|thus|hence|answer|it|not|be|our)\b|所以|因此|故|是|为",
    re.IGNORECASE,
)
MARKDOWN = re.compile(r"(?<![\w)}\]])\*\*(?=\S)|(?<=\S)\*\*(?![\w({\\-])|`")
POLITENESS = re.compile(r"\s*(?:I hope (?:it|this) (?:is correct|helps)|Let me know[^.]*)[.!]?\s*$", re.IGNORECASE)
# Shortly before a value: it is denied, bounded or doubted.
DENIED = re.compile(
    r"(?:\b(?:not|cannot|never|nor|neither|if|whether|at\s+least|at\s+most|(?:more|less|fewer|greater|larger|smaller)\s+than|"
    r"between|up\s+to|exceeds?|likely|except|不)\b|n['’]t\b|不)(?:\s*[^\s,;.\d]+){0,3}\s*$"
    r"|(?:[<>≤≥≠^_]\{?|\\(?:[lg]eq?|neq?|lt|gt)(?![a-z])|\b(?:over|under|above|below|modulo|mod|step|theorem|lemma|equation|"
    r"case|part|figure|section|problem|divisible\s+by|divided\s+by|multiplied\s+by|(?:multiple|factor|power|root|square|cube|"
    r"half)s?\s+of|twice|from\s+\S+\s+to|negative|minus))\s*\(?\s*$"
    r"|(?:至少|至多|大于|小于|不等于|超过|负)[是为]?\s*$",
    re.IGNORECASE,
)
# A statement asserts its value: by a formula that is set as one, or right after "is", "equals", "it's", "=".
ASSERTS = re.compile(
    MATH.pattern
    + r"|(?:\b(?:is|are|was|be|equals?|it['’]s)|=)\s*[$€£]?"
    + VALUE.pattern
    + r"(?:[^\d\s+*/=<>^-]{0,6}|(?:\s[A-Za-z]+){1,3}[.!])$",
    re.DOTALL,
)
NAME = r"(?:[A-Za-z]\s*=\s*)?"
# Between the values of one list: "2, 3 and 5", "x = 2 or x = 3".
LAST_GAP = re.compile(rf"\s*(?:,?\s*(?:and|or)\s+|或|和|、){NAME}")
GAP = re.compile(rf"{LAST_GAP.pattern}|\s*,\s*{NAME}")
# What follows an answer in its sentence and is not part of it.
REASON = re.compile(r",?\s+(?:because|since|as|which|not|rather\s+than|instead\s+of)\b")
BARE_LIMIT = 400


def without_markdown(text: str) -> str:
    """Bold, italic and code marks removed; the end of an answer tag ends its line."""
    text = re.sub(r"([^\S\n])[^\S\n]+", r"\1", text.replace("</answer>", "\n"))  # long runs make searches quadratic
    text = MARKDOWN.sub("", re.sub(r"\n{3,}", "\n\n", text)).strip()
    return text[1:-1] if re.fullmatch(r"\*[^*\s]+\*", text) else text


def after_minerva(text: str) -> str | None:
    """The closing formula of the Minerva prompt, "Final Answer: ... I hope it is correct." """
    found = MINERVA.findall(text)
    return stated_value(found[-1]) if found else None


def after_hashes(text: str) -> str | None:
    """GSM8K's "#### 42"."""
    found = HASHES.findall(text)
    return found[-1] if found else None


def after_phrase(text: str) -> str | None:
    """What follows the last "answer is" or "Answer:": its formula if it has one, else the rest of the sentence."""
    found = [
        match
        for match in PHRASE.finditer(text)
        if not SUPPOSES.search(text[max(0, match.start() - 60) : match.start()])
    ]
    if not found:
        return None
    return stated_value(text[found[-1].end() :].strip()[:BARE_LIMIT])


def stated_value(text: str) -> str | None:
    """The value that a statement begins with or ends in: "is 5", "The volume is $V = 5$", "5 hours"."""
    text = re.sub(r"^(?:the\s+final\s+answer|the\s+answer|it)\s+is\s*:?\s*", "", text.strip(), flags=re.IGNORECASE)
    if re.match(r"not\b", text):
        return None
    if formula := MATH.match(text):
        rest = text[formula.end() :]
        if re.match(r"\s*,?\s*or\b", rest):
            return first_sentence(text)
        more = re.match(r"(?:\s*(?:,|and|,\s*and)?\s*(?:" + MATH.pattern + r"))*\s*(?:%|percent|\\%)?", rest, re.DOTALL)
        return text[: formula.end() + (more.end() if more else 0)]
    sentence = first_sentence(text.strip("* "))
    if not re.search(r"[\w\\]", sentence):
        return None
    if UNFINISHED.search(sentence):
        return None
    if is_bare(sentence):
        return sentence
    finished = text[len(sentence) :][:1] in (".", "\n", "。") or sentence.endswith(last_value(sentence) or "\0")
    return last_value(sentence) if finished else None


def first_sentence(text: str) -> str:
    """Up to a full stop that is not a decimal point, or the end of the line."""
    line = REASON.split(text.split("\n", 1)[0], maxsplit=1)[0]
    return re.split(r"(?<=[^\s.])\.(?=\s|$)|。", line, maxsplit=1)[0].strip()


def is_bare(text: str) -> bool:
    """Whether a text is an answer and nothing else: short, and without the words of a sentence around it."""
    if not text or len(text) > BARE_LIMIT or "\n\n" in text:
        return False
    outside = re.sub(r"\\(?:text|mbox|textbf|mathrm)\s*\{[^{}]*\}", " ", MATH.sub(" ", text))
    if SENTENCE.search(outside):
        return False
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", outside)
    return len(words) <= 4 or (len(words) <= 12 and not VALUE.search(text) and not MATH.search(text))


def bare(text: str) -> str | None:
    """The whole text, where it is no more than an answer; a reason after it is dropped ("42 because ...")."""
    if len(text) > BARE_LIMIT:
        return None
    text = re.split(r",?\s+(?:because|since)\b", text, maxsplit=1)[0]
    return text if is_bare(text) else None


def conclusion(text: str) -> str | None:
    """The value in a last sentence that concludes ("Therefore ...", "Thus ..."); it must be complete."""
    sentence = last_sentence(text)
    if sentence is None or not CONCLUDES.search(sentence):
        return None
    return last_value(sentence)


def statement(text: str) -> str | None:
    """The value that a response of one short sentence asserts, unless the sentence is a step ("First, ...")."""
    if len(text) > 160 or "\n" in text.strip() or WORKING.match(text) or inside_formula(text):
        return None
    sentences = re.split(r"(?<=[^\s.])\.(?=\s)", text.strip())
    return last_value(sentences[-1]) if len(sentences) == 1 and ASSERTS.search(sentences[-1]) else None


def inside_formula(text: str) -> bool:
    """Whether a text ends inside a formula that was cut off ("so $x = 4"); "$42." is a sum of money."""
    last_line = MATH.sub("", text[-2000:]).rpartition("\n\n")[2]
    return bool(re.search(r"(?<!\\)\$(?!\s*[\d.,]+\W*$)", last_line))


def last_sentence(text: str) -> str | None:
    """The last sentence if it is finished: it ends in a full stop or with a formula."""
    text = POLITENESS.sub("", text.rstrip())
    if not re.search(r"(?:[.!。$]|\\\)|\\\]|\*\*)$", text) and not re.search(r"[\d%)}]$", text):
        return None
    if inside_formula(text):
        return None
    protected = MATH.sub(lambda m: re.sub(r"[.\n]", "\x00", m[0]), text.rstrip(".!。* "))
    parts = re.split(r"(?<=[^\s.\d])\.(?=\s)|(?<=\d)\.(?=\s+[A-Z])|\n\n|。", protected)
    return text[len(protected) - len(parts[-1]) :].strip()


def last_value(sentence: str) -> str | None:
    """The last formula of a sentence, else its last number; LaTeX without delimiters is taken from its verb on."""
    if tail := re.search(r"\b(?:is|are|equals|be)\s+(\\?\S*\\[a-z]+.*)$", MATH.sub("", sentence)):
        value = tail[1].rstrip(". ")
        return value if is_bare(value) else None
    formulas = list(MATH.finditer(sentence))
    numbers = list(VALUE.finditer(MATH.sub(lambda m: " " * len(m[0]), sentence)))
    values = sorted(formulas + numbers, key=lambda match: match.start())
    if not values:
        return None
    last, start, gap = values[-1], values[-1].start(), LAST_GAP
    for before in reversed(values[:-1]):
        if not gap.fullmatch(sentence, before.end(), start):
            break
        start, gap = before.start(), GAP
    if DENIED.search(sentence[max(0, start - 80) : start]):
        return None
    tail = re.match(r"\s*(?:\\?%|percent)", sentence[last.end() :])
    return sentence[start : last.end()] + (tail[0] if tail else "")


FALLBACKS = {
    "minerva": after_minerva,
    "hashes": after_hashes,
    "phrase": after_phrase,
    "bare": bare,
    "conclusion": conclusion,
    "statement": statement,
}
