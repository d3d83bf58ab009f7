r"""Answers that are marked as such: "Final Answer: ...", "#### 42", "the answer is 42", a heading "Answer".

Each function returns the answer's text or None.
"""

from __future__ import annotations

import re

from mathjudge.sentences import (
    BARE_LIMIT,
    MATH,
    UNFINISHED,
    first_sentence,
    is_bare,
    last_value,
)

MINERVA = re.compile(r"final answer\s*:?\s*(.{1,400}?)\.?\s*I hope (?:it|this) is correct", re.IGNORECASE | re.DOTALL)
# GSM8K's mark; "#### Step 2" and "#### Final Answer" are headings.
HASHES = re.compile(
    r"####[^\S\n]*(?!\s|#|(?:final|the|answer|result|step|case|part|solution|conclusion|summary|check|verif\w+)\b)([^\n]+)",
    re.IGNORECASE,
)
HEADING = (
    r"(?:^|\n)[ \t]*(?:#+[ \t]*)?(?:\\(?:textbf|mathbf|text|(?:sub)*section\*?)\s*\{\s*)?"
    r"(?:(?:the[ \t]+)?final[ \t]+(?:answer|result|solution)|answer|最终答案|答案)s?[ \t]*:?[ \t]*\}?[ \t]*:?[ \t]*"
    r"\n(?:\s|---+\n)*"
)
PHRASE = re.compile(
    rf"{HEADING}"
    r"|(?:final\s+answer|(?:the\s+|our\s+|my\s+|correct\s+)*answers?|correct\s+(?:option|choice))\s*(?:\*\*)?\s*"
    r"(?:(?:is|are|was|=|:)|(?=[\s\n]*(?:\$|\\\(|\\\[)))[ \t]*(?:therefore|thus|simply|equal to)?\s*:?\s*(?:\*\*)?"
    r"|<answer>|【答案】|答案\s*(?:是|为|：|:)|(?:^|[\n。])\s*答\s*[:：]|故?选\s*[：:]?\s*(?=[A-H])",
    re.IGNORECASE,
)
# Before "the answer is" in its sentence: it is not claimed.
SUPPOSES = re.compile(
    r"(?:\b(?:suppose|assume|assuming|if|whether|guess|maybe|perhaps|unless)\b|假设|如果|若|设)[^.。\n]*$",
    re.IGNORECASE,
)
# After "the answer is": how it is found, and not what it is.
DERIVED = re.compile(
    r"(?:obtained|found|computed|calculated|derived|determined|given)\s+(?!to\s+be\b|as\b|by\s*:)", re.IGNORECASE
)
# Under a heading: a numbered list of steps.
ENUMERATED = re.compile(r"\s*\d{1,2}[.)]\s+[A-Za-z]")
MARKDOWN = re.compile(
    r"(?<![\w)}\]])\*\*(?=\S)|(?<=\S)\*\*(?![\w({\\-])|`|(?<!\w)__(?=[A-Za-z])|(?<=[A-Za-z:])__(?!\w)"
)


def without_markdown(text: str) -> str:
    """Return a text without bold, italic and code marks. The end of an answer tag ends its line."""
    text = re.sub(r"([^\S\n])[^\S\n]+", r"\1", text.replace("</answer>", "\n"))  # long runs make searches quadratic
    text = MARKDOWN.sub("", re.sub(r"\n{3,}", "\n\n", text)).strip()
    text = re.sub(r"(?m)^\*([^*\n]{1,40})\*$", r"\1", text)
    return text[1:-1] if re.fullmatch(r"\*[^*\s]+\*", text) else text


def after_minerva(text: str) -> str | None:
    """Return the answer of the Minerva prompt's closing formula, "Final Answer: ... I hope it is correct." """
    found = MINERVA.findall(text)
    return stated_value(found[-1]) if found else None


def after_hashes(text: str) -> str | None:
    """Return the answer after GSM8K's mark, "#### 42"."""
    found = HASHES.findall(text)
    return found[-1] if found else None


def after_phrase(text: str) -> str | None:
    """Return what follows the last "answer is", "Answer:" or heading: its formula, else the value of its sentence."""
    found = [
        match
        for match in PHRASE.finditer(text)
        if not SUPPOSES.search(text[max(0, match.start() - 60) : match.start()])
    ]
    if not found:
        return None
    stated = text[found[-1].end() :]
    if "\n" in found[-1][0] + stated[:1] and ENUMERATED.match(stated):
        return None
    return stated_value(stated.strip()[:BARE_LIMIT])


def stated_value(text: str) -> str | None:
    """Return the value that a statement begins with or ends in: "is 5", "The volume is $V = 5$", "5 hours"."""
    text = re.sub(r"^(?:the\s+final\s+answer|the\s+answer|it)\s+is\s*:?\s*", "", text.strip(), flags=re.IGNORECASE)
    if re.match(r"not\b", text) or DERIVED.match(text):
        return None
    if formula := MATH.match(text):
        rest = text[formula.end() :]
        if re.match(r"\s*,?\s*or\b", rest):
            return first_sentence(text)
        more = re.match(rf"(?:\s*(?:,|and|,\s*and)?\s*(?:{MATH.pattern}))*\s*(?:%|percent|\\%)?", rest, re.DOTALL)
        return text[: formula.end() + (more.end() if more else 0)]
    sentence = first_sentence(text.strip("* "))
    if not re.search(r"[\w\\]", sentence) or UNFINISHED.search(sentence):
        return None
    if is_bare(sentence):
        return sentence
    value = last_value(sentence)
    finished = text[len(sentence) :][:1] in (".", "\n", "。") or sentence.endswith(value or "\0")
    return value if finished else None
