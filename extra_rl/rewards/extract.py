r"""Finding the answer in a response: the last complete \boxed{}, then fallbacks, each of which can be switched off.

A fallback needs a sign that the response concludes ("the answer is", "####", "therefore", or nothing but the answer):
text that was cut off mentions many numbers, the gold among them, and concludes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from extra_rl.rewards.braces import pairs

BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(\{)|([-+]?[\w.]+))")
# What may stand between two boxes of one list: separators, "and", math delimiters, labels such as "y_2 =".
GLUE = re.compile(
    r"(?:[\s,;.&$]|\\[()\[\],;! ]|\\\\|\\q?quad|\\(?:text|mbox)\s*\{\s*(?:,?\s*(?:and|or))?\s*,?\s*\}|\band\b|\bor\b"
    r"|[A-Za-z](?:_\{?\w+\}?)?\s*=|(?<=\s)[a-z]+(?=\s*(?:,|and\b)))*"
)
END_OF_TURN = re.compile(r"<\|(?:im_end|eot_id|endoftext|end_of_text|end|im_start)\|>|</s>|<｜end▁of▁sentence｜>")
ROLE = re.compile(r"^\s*(?:<\|im_start\|>(?:assistant)?|<\|start_header_id\|>assistant<\|end_header_id\|>)\s*")
MATH = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\.|[^$\\])+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
MINERVA = re.compile(r"final answer\s*:?\s*(.{1,400}?)\.?\s*I hope (?:it|this) is correct", re.IGNORECASE | re.DOTALL)
HASHES = re.compile(r"####\s*([^\n]+)")
PHRASE = re.compile(
    r"(?:final\s+answer|(?:the\s+|our\s+|my\s+|correct\s+)*answer)\s*(?:\*\*)?\s*"
    r"(?:(?:is|are|was|=|:)|(?=[\s\n]*(?:\$|\\\(|\\\[)))[ \t]*(?:therefore|thus|simply|equal to)?\s*:?\s*(?:\*\*)?"
    r"|答案\s*(?:是|为|：|:)",
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
    r"\b(?:is|are|was|we|so|have|has|get|find|found|that|this|therefore|thus|hence|answer|it|not|be|our)\b",
    re.IGNORECASE,
)
POLITENESS = re.compile(r"\s*(?:I hope (?:it|this) (?:is correct|helps)|Let me know[^.]*)[.!]?\s*$", re.IGNORECASE)
# A statement asserts its value: by a formula that is set as one, or right after "is", "equals", "it's", "=".
ASSERTS = re.compile(
    MATH.pattern
    + r"|(?:\b(?:is|are|was|be|equals?|it['’]s)|=)\s*[$€£]?"
    + VALUE.pattern
    + r"(?:[^\d\s+*/=<>^-]{0,6}|(?:\s[A-Za-z]+){1,3}[.!])$",
    re.DOTALL,
)
# What follows an answer in its sentence and is not part of it.
REASON = re.compile(r",?\s+(?:because|since|as|which|not|rather\s+than|instead\s+of)\b")
BARE_LIMIT = 400


@dataclass(frozen=True)
class Extraction:
    """What was found. answers: the boxes of one list, or one text; joined_by_or: adjacent boxes with "or" between.

    rule: "box", "unclosed_box", "minerva", "hashes", "phrase", "bare", "conclusion", "statement" or "none".
    """

    answers: tuple[str, ...]
    rule: str
    joined_by_or: bool = False
    separated: bool = False  # a comma, "and" or "or" stands between the boxes: they are one list

    @property
    def text(self) -> str | None:
        return ", ".join(self.answers) if self.answers else None


NOTHING = Extraction((), "none")


def extract(response: str, fallbacks: frozenset[str], truncated: bool = False) -> Extraction:
    """The answer of a response. `truncated` (cut off at the token limit) leaves only boxes to be looked for."""
    text = visible(response)
    after_thought = text.rpartition("</think>")[2]
    boxes = find_boxes(after_thought) or find_boxes(text)
    closing = MINERVA.search(after_thought) if "minerva" in fallbacks and not truncated else None
    if boxes and not (closing and closing.start() > _last_box(after_thought)):
        return boxes
    if "\\boxed" in after_thought and not boxes:
        return Extraction((), "unclosed_box")
    unclosed_thought = "<think>" in text and "</think>" not in text
    return NOTHING if truncated or unclosed_thought else fall_back(after_thought.strip(), fallbacks)


def visible(response: str) -> str:
    """The assistant's own turn: role markers dropped, and whatever follows an end-of-turn token."""
    return END_OF_TURN.split(ROLE.sub("", response), maxsplit=1)[0]


def _last_box(text: str) -> int:
    return max(text.rfind("\\boxed"), text.rfind("\\fbox"))


def find_boxes(text: str) -> Extraction | None:
    """The last complete box, with the boxes before it that belong to the same list."""
    closing = pairs(text)
    spans: list[tuple[int, int, str]] = []
    for match in BOX.finditer(text):
        if match[1] is None:
            spans.append((match.start(), match.end(), match[2]))
        elif (end := closing.get(match.end() - 1)) is not None:
            spans.append((match.start(), end + 1, text[match.end() : end]))
    # A box inside a box is the answer, not the box around it.
    spans = [span for n, span in enumerate(spans) if n + 1 == len(spans) or spans[n + 1][0] >= span[1]]
    if not spans:
        return None
    group = [spans[-1]]
    between: list[str] = []
    for span in reversed(spans[:-1]):
        gap = text[span[1] : group[0][0]]
        if len(gap) > 60 or not GLUE.fullmatch(gap):
            break
        group.insert(0, span)
        between.append(gap)
    contents = list(dict.fromkeys(content.strip() for _, _, content in group))
    return Extraction(
        tuple(contents) if len(contents) > 1 else (group[-1][2].strip(),),
        "box",
        joined_by_or=any(re.search(r"\bor\b", gap) for gap in between),
        separated=any(re.search(r"\b(?:or|and)\b|[,;]", re.sub(r"\\[,;]", "", gap)) for gap in between),
    )


def fall_back(text: str, allowed: frozenset[str]) -> Extraction:
    """The answer of a text without a box, by the first allowed fallback that finds one."""
    for rule, find in FALLBACKS.items():
        if rule in allowed and (answer := find(text)):
            return Extraction((answer.strip(),), rule)
    return NOTHING


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
    if len(text) > 160 or "\n" in text.strip() or WORKING.match(text):
        return None
    sentences = re.split(r"(?<=[^\s.])\.(?=\s)", text.strip())
    return last_value(sentences[-1]) if len(sentences) == 1 and ASSERTS.search(sentences[-1]) else None


def last_sentence(text: str) -> str | None:
    """The last sentence if it is finished: it ends in a full stop or with a formula."""
    text = POLITENESS.sub("", text.rstrip())
    if not re.search(r"(?:[.!。$]|\\\)|\\\]|\*\*)$", text) and not re.search(r"[\d%)}]$", text):
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
    if formulas and (not numbers or formulas[-1].start() > numbers[-1].start()):
        tail = re.match(r"\s*(?:\\?%|percent)", sentence[formulas[-1].end() :])
        return formulas[-1][0] + (tail[0] if tail else "")
    return numbers[-1][0] if numbers else None


FALLBACKS = {
    "minerva": after_minerva,
    "hashes": after_hashes,
    "phrase": after_phrase,
    "bare": bare,
    "conclusion": conclusion,
    "statement": statement,
}
