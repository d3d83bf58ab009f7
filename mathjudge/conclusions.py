r"""Answers that are not marked: nothing but an answer, a sentence that concludes, a single sentence that asserts.

A value counts only if its sentence asserts it at its end ("so the area is 42 cm"). A sentence that uses it
("so we multiply 42 by 3"), supposes it, or asserts something about it ("so 42 is even") is a step of an argument
that may have been cut off.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mathjudge.phrases import after_hashes, after_minerva, after_phrase
from mathjudge.sentences import (
    BARE_LIMIT,
    MATH,
    NUMBER,
    POLITENESS,
    UNFINISHED,
    inside_formula,
    is_bare,
    last_sentence,
    last_span,
    last_value,
)

MAX_SENTENCE = 4000
"""Characters of the longest sentence that is searched for an asserted value."""

# A sentence concludes if it opens with such a word: ", so there are 12 of them" inside a sentence is a step. Sentences
# are not always split, so a capital letter marks the opening as well.
CONCLUDES = re.compile(
    r"^\W*(?:(?:and|but)\s+)?(?i:therefore|thus|hence|so|consequently|we\s+conclude|in\s+conclusion|finally)\b"
    r"|(?<=[\s.])(?:Therefore|Thus|Hence|So|Consequently|We\s+conclude|In\s+conclusion|Finally)\b"
    r"|\bis\s+(?:the|our)\s+(?:solution|answer)\b|∴|\\therefore"
    r"|因此|所以|故|因而|从而|于是|综上|由此可|可知|可得|解得|求得|得到|即|一?共有|结果[是为]"
)
# The text ends with its sentence: a full stop, or a displayed formula.
FINISHED = re.compile(r"[.!。](?:\s|\$|\\[)\]]|\*)*$|(?:\$\$|\\\])\s*$")
WORKING = re.compile(
    r"^\W*(?:first|next|then|let|since|because|suppose|consider|note|if|given|step|now|assume|for|when|to|\w+ing|"
    r"we\s+(?:also\s+)?(?:have|know))\b",
    re.IGNORECASE,
)
# The last line belongs to an item of a numbered list: a step of the solution.
NUMBERED = re.compile(r"^\s*\d{1,2}[.)]\s", re.MULTILINE)
INDENTED_END = re.compile(r"\n[^\S\n]+\S[^\n]*\s*$")
STEP_LINE = re.compile(
    r"\W*(?:\d{1,2}[.)]\s|(?:first|now|next|let|suppose|consider|step|case|part|try)\b)", re.IGNORECASE
)
# In the sentence of a value: it is supposed, or belongs to a step before the last.
INTERMEDIATE = re.compile(
    r"\b(?:intermediate|so\s+far|for\s+now|first|second|third|partial|previous|initial|auxiliary|discriminant|case|step|next|"
    r"temporar\w+|squared|given|candidates?\s+(?:is|are)|(?<!only\s)possible|favou?rable|exists?|such\s+that|"
    r"one\s+(?:\w+\s+)?(?:solution|root|value|answer|option|case)|try|trying|consider\w*|check\w*|test\w*|suppos\w+|"
    r"assum\w+|recall\w*|remember|note|notice|let|if|whether|unless|would|could|may|might|perhaps|maybe|"
    r"(?:need|want|remains?|left|going|continue)\s+to|"
    r"we\s+(?:can\s+)?(?:simplify|compute|calculate|substitute|solve|add|subtract|multiply|divide|use|apply|set|write|"
    r"rewrite|expand|factor|isolate|combine|evaluate|plug))\b"
    r"|\b(?:take|choose|set|pick|put|fix|define|denote|use|for|with|when)\s+(?:[A-Za-z]\s*=\s*)?$"
    r"|首先|接下来|下面|假设|如果|若|考虑|检查|第[一二三]步|先",
    re.IGNORECASE,
)
# Quantities that a solution computes on its way: no subject of a conclusion with "so" alone.
STEP_NOUNS = (
    r"slope|intercept|coefficient|denominator|numerator|exponent|midpoint|derivative|hypotenuse|multiplier|gradient|"
    r"expression|equation|constant"
)
STEP = re.compile(rf"\b(?:{STEP_NOUNS})\b", re.IGNORECASE)
# Further ones that are no subject of a single statement.
ON_THE_WAY = re.compile(
    rf"\b(?:{STEP_NOUNS}|radius|diameter|base|side|edge|leg|common|each|every|one\s+of|term|factor|digit|angle|remainder|"
    r"rest|determinant|last|formula|theorem|definition|we\s+(?:have|know|see|need))\b",
    re.IGNORECASE,
)
# What ends right before an asserted value.
ASSERTS = re.compile(
    r"(?:(?:\b(?:is|are|was|were|be|equals?|equal|gets?|got|obtains?|finds?|found|have|has|had|gives?|gave|yields?|costs?|"
    r"earn(?:s|ed)?|pays?|paid|spen(?:d|ds|t)|needs?|takes?|took|makes?|made|contains?|sold|sells?|buys?|bought|"
    r"receives?d?|reads?|eats?|ate|drives?|drove|travels?|walks?|walked|runs?|ran|scores?d?|wins?|won|lo(?:se|ses|st)|"
    r"saves?d?|collects?|collected|produces?d?|weighs?|holds?|keeps?|kept|sees?|saw|uses?d?|owes?d?|charges?d?|lasts?|"
    r"reach(?:es|ed)?|raises?d?|requires?d?|gains?|gained|conclude(?:\s+that)?|it['’]s|that['’]s|"
    r"(?:amounts?|simplif(?:y|ies)|reduces?|comes?|adds?\s+up|evaluates?|converges?|equal)\s+to|"
    r"(?:increases?|decreases?|changes?|grows?|rises?|falls?|drops?)\s+by|(?:a|the)\s+total\s+of)"
    r"|[=≈:])(?:\s*(?:now|also|thus|therefore|then|exactly|only|just|equal\s+to|a\s+total\s+of|all|about))*\s*[:,]?"
    r"|(?:[是为等于得到有共需花用剩约了＝：即]))\s*(?:\\?\$|[€£¥])?\s*$",
    re.IGNORECASE,
)
# Nothing but connectives since the last comma: "Hence $x = 5$".
CONNECTIVES = re.compile(
    r"(?:[\s,:;，]|\b(?:and|therefore|thus|hence|so|consequently|finally|in\s+conclusion|we\s+conclude|then|that|it\s+follows|"
    r"we\s+(?:have|get|obtain|find|see)|this\s+means|must\s+be)\b|∴|\\therefore"
    r"|因此|所以|故|因而|从而|于是|综上(?:所述)?|由此可[得知见]|可[知得]|解得|求得|得到?|即|或)*",
    re.IGNORECASE,
)
# After a value that is the subject of its sentence: it is the answer.
IS_THE_ANSWER = re.compile(
    r"\s*is\s+(?:indeed\s+)?(?:the|our|my)\s+(?:(?:only|final|correct|required|desired|sought)\s+)?"
    r"(?:answer|solution|result|smallest|largest|least|greatest|minimum|maximum|minimal|maximal|required|desired|correct)\b"
    r"(?:\s+[^\s,;]+){0,3}\s*",
    re.IGNORECASE,
)
# After an asserted value: the end, or the words of its unit.
UNIT_WORDS = re.compile(r"\s*(?:[A-Za-z%°²³€£¥₹'’/^()$\\{}\d-]+(?:\s+|$)){0,16}")
CHINESE_UNIT = re.compile(r"\s*[\u4e00-\u9fff]{0,10}(?:\s*[a-zA-Z²³]{0,3})")
NO_UNIT = re.compile(
    r"\b(?:is|are|was|were|must|can|cannot|could|should|would|will|may|might|has|have|had|do|does|did|we|it|they|he|she|you|"
    r"this|which|where|while|but|when|if|because|since|so|then|into|divides?|cancels?|vanish\w*|appears?|works?|fails?|"
    r"holds?|remains?|follows?|gives?|means?|implies|satisf\w+|next|below|above|first|second|step|case|as|by|both\s+sides|"
    r"hundred|dozen|half|equations?|conditions?|constraints?|inequalit\w+|unknowns?|"
    r"to\s+(?:finish|check|solve|consider|try|examine|test|go|find|compute|be|get|obtain|both))\b"
    r"|[是否满足整除代入但则能需继续选再]|可以|^\s*(?:[万亿百十]|千(?![米克瓦]))",
    re.IGNORECASE,
)
AS_REQUIRED = re.compile(r",?\s+as\s+(?:required|desired|claimed|expected|needed|stated|wanted)\s*$", re.IGNORECASE)
CONDITION = re.compile(r",?\s+(?:where|for\s+(?:all|any|every|some|each))\s.*$", re.IGNORECASE | re.DOTALL)
SHOWN = rf"(?:{MATH.pattern}|{NUMBER.pattern})"
NAMED = rf"(?:the\s+)?([A-Za-z][A-Za-z ]{{0,30}}?|\([a-z]{{1,3}}\))\s*(?:\bis\b|\bare\b|=|:|(?<=\)))\s*({SHOWN})"
NAMED_VALUES = re.compile(rf"{NAMED}(?:\s*,?\s*(?:and|,)\s*{NAMED})+\s*", re.IGNORECASE | re.DOTALL)


def bare(text: str) -> str | None:
    """Return the whole text, or its last line after a line of work, if that is no more than an answer.

    A reason after the answer is dropped ("42 because ...").
    """
    if len(text) <= BARE_LIMIT:
        answer = re.split(r",?\s+(?:because|since)\b", text, maxsplit=1)[0]
        opens_work = WORKING.match(answer) and len(answer.split()) > 2
        if is_bare(answer) and not _is_work(answer) and not opens_work:
            return answer
    return _last_line(text[-2 * BARE_LIMIT :])


def _is_work(text: str) -> bool:
    """Whether a text of several lines shows how its last line was found."""
    lines = [line for line in text.split("\n") if line.strip()]
    return len(lines) > 1 and not re.match(r"\s*(?:\\\[|\$\$|\\begin)", text)


def _last_line(text: str) -> str | None:
    """Return the last line if it is only a value and follows a finished line of work.

    "2." may be the number of the next step, and a value after a numbered step is one of several.
    """
    lines = [line.strip() for line in re.sub(r"\\\[\s*(.*?)\s*\\\]", r"\\[\1\\]", text, flags=re.DOTALL).split("\n")]
    lines = [line for line in lines if line]
    if len(lines) < 2 or not _is_value(lines[-1]) or _is_value(lines[-2]):
        return None
    before = lines[-2]
    if re.fullmatch(r"\d{1,2}[.)]", lines[-1]) or STEP_LINE.match(before):
        return None
    return lines[-1] if re.search(r"(?:[.!。]|[\d$)}%]|\\\])$", before) else None


def _is_value(line: str) -> bool:
    """Whether a line is a number, a tuple or a formula without a relation, with at most two words of a unit."""
    line = line.rstrip(".")
    line = line if line.endswith("$") else re.sub(r"^\\?\$(?=[\d.])", "", line)
    if re.search(r"[=<>≤≥]|\\(?:[lg]eq?|neq?|approx)(?![a-z])|[-+*/]\s*$", line):
        return False
    unit = r"(?:\s*[%°]|(?:\s*[A-Za-z²³]+){0,2})"
    return bool(
        re.fullmatch(rf"(?:{SHOWN}){unit}", line, re.DOTALL)
        or (re.match(r"[-+]?\d*\s*\\[A-Za-z]", line) and is_bare(line))
    )


def conclusion(text: str) -> str | None:
    """Return the value that a finished last sentence concludes ("Therefore ...", "Thus ...")."""
    sentence = last_sentence(text)
    if sentence is None or not CONCLUDES.search(sentence) or not FINISHED.search(POLITENESS.sub("", text.rstrip())):
        return None
    if INDENTED_END.search(text) and NUMBERED.search(text):
        return None
    return asserted_value(sentence)


def statement(text: str) -> str | None:
    """Return the value that a response of one short sentence asserts, unless the sentence is a step ("First, ...")."""
    if len(text) > 160 or "\n" in text.strip() or WORKING.match(text) or inside_formula(text):
        return None
    sentences = re.split(r"(?<=[^\s.])\.(?=\s)", text.strip())
    if len(sentences) != 1 or ON_THE_WAY.search(sentences[0]):
        return None
    if CONDITION.search(text) and not FINISHED.search(text):
        return None
    return asserted_value(sentences[0])


def asserted_value(sentence: str) -> str | None:
    """Return the value that a sentence asserts at its end, with its unit, or None.

    Values of several names ("the maximum is 2 and the minimum is 1") are returned as a list with these names.
    """
    if len(sentence) > MAX_SENTENCE:
        return None
    sentence = AS_REQUIRED.sub("", sentence.strip().rstrip(".!。"))
    sentence = CONDITION.sub("", sentence)
    span = last_span(sentence)
    if span is None:
        return None
    before, value, after = sentence[: span[0]], sentence[span[0] : span[1]], sentence[span[1] :]
    claim = MATH.sub(" ", _since_conclusion(before))
    if INTERMEDIATE.search(claim) or (re.match(r"\W*(?:so|thus|hence)\b", claim, re.I) and STEP.search(claim)):
        return None
    if (named := NAMED_VALUES.search(sentence)) and named.end() == len(sentence):
        return _named_list(named[0])
    if IS_THE_ANSWER.fullmatch(after):
        return value
    if not _ends_with_unit(after):
        return None
    clause = re.split(r"[,;，；](?!\d)", before)[-1]
    says_something = bool(re.search(r"[=<>≤≥∈]|\\(?:[lg]eq?|neq?|in|lt|gt)(?![a-z])", value))
    if ASSERTS.search(before) or (says_something and not after.strip()):
        return last_value(sentence)
    alone = CONNECTIVES.fullmatch(clause) and not after.strip()
    return last_value(sentence) if alone and MATH.match(value) else None


def _since_conclusion(before: str) -> str:
    """Return the end of a text from its last word that opens a concluding sentence ("Therefore") on."""
    opening = [match.start() for match in CONCLUDES.finditer(before) if match[0].strip()[:1].isupper()]
    return before[opening[-1] :] if opening else before[-160:]


def _ends_with_unit(after: str) -> bool:
    """Whether what follows a value is nothing, or a unit and what it counts, and not the rest of an argument."""
    counted = re.split(r"\b(?:that|who|such)\b", after, maxsplit=1)[0]
    if NO_UNIT.search(counted) or UNFINISHED.search(after):
        return False
    return bool(UNIT_WORDS.fullmatch(counted) or CHINESE_UNIT.fullmatch(counted))


def _named_list(text: str) -> str:
    r"""Return "so the maximum is 2 and the minimum is 1" as "\text{maximum} = 2, \text{minimum} = 1"."""
    pairs = re.findall(NAMED, text, re.IGNORECASE | re.DOTALL)
    names = [
        re.sub(r"^(?:.*\b(?:so|thus|hence|therefore|and|the)\s+)", "", name, flags=re.IGNORECASE) for name, _ in pairs
    ]
    return ", ".join(rf"\text{{{name}}} = {value}" for name, (_, value) in zip(names, pairs, strict=True))


FALLBACKS: dict[str, Callable[[str], str | None]] = {
    "minerva": after_minerva,
    "hashes": after_hashes,
    "phrase": after_phrase,
    "bare": bare,
    "conclusion": conclusion,
    "statement": statement,
}
