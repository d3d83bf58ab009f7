r"""Finding the answer in a response: the last complete \boxed{}, then fallbacks, each of which can be switched off.

A fallback needs a sign that the response concludes ("the answer is", "####", "therefore", or nothing but the answer):
text that was cut off mentions many numbers, the gold among them, and concludes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mathjudge.braces import pairs
from mathjudge.phrases import FALLBACKS, MINERVA, without_markdown

BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(\{)|([-+]?[\w.]+))")
# What may stand between two boxes of one list: separators, "and", math delimiters, labels such as "y_2 =".
GLUE = re.compile(
    r"(?:[\s,;.&$]|\\[()\[\],;! ]|\\\\|\\q?quad|\\(?:text|mbox)\s*\{\s*(?:,?\s*(?:and|or))?\s*,?\s*\}|\band\b|\bor\b"
    r"|[A-Za-z](?:_\{?\w+\}?)?\s*=|(?<=\s)[a-z]+(?=\s*(?:,|and\b)))*"
)
# What ends a turn or begins the next, in the chat formats of many families: nothing behind it is the answer.
END_OF_TURN = re.compile(
    r"<[|｜](?:im_end|im_start|eot_id|eom_id|eot|eom|end|return|call|endoftext|end[_▁]of[_▁](?:text|turn|sentence|message)"
    r"|endofturn|END_OF_TURN_TOKEN|END_RESPONSE|START_OF_TURN_TOKEN|message_end|assistant_end|start_header_id"
    r"|start_of_role|start|user|system|User|observation)[|｜]>"
    r"|\[\|(?:endofturn|user|system)\|\]|</s>|<eos>|<(?:end|start)_of_turn>|<seed:eos>|\[/?INST\]"
)
# The head of the assistant's own turn, where a response repeats it.
ROLE = re.compile(
    r"^\s*(?:<\|im_start\|>(?:assistant)?|<\|start_header_id\|>assistant<\|end_header_id\|>|<start_of_turn>model\b"
    r"|<\|start\|>assistant|<[|｜][Aa]ssistant[|｜]>|\[/INST\]|\[\|assistant\|\])\s*"
)
# gpt-oss writes several messages in a turn, each with its channel: only `final` is for the reader.
CHANNEL = re.compile(
    r"(?:<\|end\|>\s*)?(?:<\|start\|>assistant\s*)?<\|channel\|>\s*(\w{1,20})[^<]{0,200}(?:<\|constrain\|>\s*\w*\s*)?"
    r"<\|message\|>"
)
THOUGHT = re.compile(
    r"(\[THINK\]|<\|START_THINKING\|>|<seed:think>|◁think▷)"
    r"|(?:\[/THINK\]|<\|END_THINKING\|>|</seed:think>|◁/think▷)"
)
# Any other special token: it says nothing, and it may touch an answer.
SPECIAL = re.compile(
    r"<[|｜][A-Za-z][\w▁]{3,}[|｜]>|<(?:pad|unk|bos|mask|s|unused\d+|extra_id_\d+|reserved_\d+)>|\[PAD\]"
)


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
    boxes = find_boxes(after_thought)
    if not boxes and not after_thought.strip():  # nothing was said after the thought
        boxes = find_boxes(text)
    closing = MINERVA.search(after_thought) if "minerva" in fallbacks and not truncated else None
    if boxes and not (closing and closing.start() > _last_box(after_thought)):
        return boxes
    if "\\boxed" in after_thought and not boxes:
        return Extraction((), "unclosed_box")
    unclosed_thought = "<think>" in text and "</think>" not in text
    return NOTHING if truncated or unclosed_thought else fall_back(after_thought.strip(), fallbacks)


def visible(response: str) -> str:
    """The assistant's own turn as its reader sees it, with thoughts in `<think>` and `</think>` whatever the family.

    Left out: the turn's own head, what follows an end of turn, and special tokens that mean neither.
    """
    text = CHANNEL.sub(lambda found: "</think>" if found[1] == "final" else "<think>", ROLE.sub("", response))
    text = THOUGHT.sub(lambda found: "<think>" if found[1] else "</think>", text)
    return SPECIAL.sub("", END_OF_TURN.split(text, maxsplit=1)[0])


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
        joined_by_or=any(re.search(r"\bor\b", gap) for gap in between) or _after_or(text, spans),
        separated=any(re.search(r"\b(?:or|and)\b|[,;]", re.sub(r"\\[,;]", "", gap)) for gap in between),
    )


def _after_or(text: str, spans: list[tuple[int, int, str]]) -> bool:
    """Whether the last box is one more guess of the same sentence: "6, or alternatively 5"."""
    if len(spans) < 2 or spans[-1][2].strip() == spans[-2][2].strip():
        return False
    gap = text[spans[-2][1] : spans[-1][0]]
    return len(gap) < 40 and bool(re.fullmatch(r"[^.!?\n]*\bor\b[^.!?\n]*", gap))


def fall_back(text: str, allowed: frozenset[str]) -> Extraction:
    """The answer of a text without a box, by the first allowed fallback that finds one."""
    text = without_markdown(text)
    for rule, find in FALLBACKS.items():
        if rule in allowed and (answer := find(text)):
            return Extraction((answer.strip(),), rule)
    return NOTHING
