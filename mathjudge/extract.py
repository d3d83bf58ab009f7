r"""Find the answer in a response: the last complete \boxed{}, then fallbacks, each of which can be switched off.

A fallback needs a sign that the response concludes ("the answer is", "####", "therefore", or nothing but the answer):
text that was cut off mentions many numbers, the reference answer among them, and concludes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mathjudge.boxes import find_boxes, has_unclosed_box, without_mentions
from mathjudge.conclusions import FALLBACKS
from mathjudge.phrases import MINERVA, without_markdown

# What ends a turn or begins the next, in the chat formats of many families: nothing after it is the answer.
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
# Any other special token: it carries no content and may touch an answer.
SPECIAL = re.compile(
    r"<[|｜][A-Za-z][\w▁]{3,}[|｜]>|<(?:pad|unk|bos|mask|s|unused\d+|extra_id_\d+|reserved_\d+)>|\[PAD\]"
)


@dataclass(frozen=True)
class Extraction:
    """The answer that was found in a response.

    Attributes:
        answers: the boxes of one list, or one text; empty if nothing was found.
        rule: "box", "unclosed_box", "minerva", "hashes", "phrase", "bare", "conclusion", "statement" or "none".
        joined_by_or: "or" stands between adjacent boxes.
        separated: a comma, "and" or "or" stands between adjacent boxes: they are one list.
        parts: the boxes of a list whose members are named between them; see `boxes.Boxes`.
    """

    answers: tuple[str, ...]
    rule: str
    joined_by_or: bool = False
    separated: bool = False
    parts: tuple[str, ...] = ()

    @property
    def text(self) -> str | None:
        """All answers as one list, or None."""
        return ", ".join(self.answers) if self.answers else None

    @property
    def list_text(self) -> str | None:
        """The answer as it is read where the reference answer is a list."""
        return ", ".join(self.parts) if len(self.parts) > len(self.answers) else self.text


NOTHING = Extraction((), "none")


def extract(response: str, fallbacks: frozenset[str], truncated: bool = False) -> Extraction:
    """Return the answer of a response. If `truncated` (cut off at the token limit), only boxes are looked for."""
    text = visible(response)
    after_thought = text.rpartition("</think>")[2]
    found = find_boxes(after_thought)
    if not found and not after_thought.strip():  # nothing follows the thought
        found = find_boxes(text)
    closing = MINERVA.search(after_thought) if "minerva" in fallbacks and not truncated else None
    if found and not (closing and closing.start() > _last_box(after_thought)):
        return Extraction(found.answers, "box", found.joined_by_or, found.separated, found.parts)
    if not found and has_unclosed_box(after_thought):
        return Extraction((), "unclosed_box")
    unclosed_thought = "<think>" in text and "</think>" not in text
    if truncated or unclosed_thought:
        return NOTHING
    if not found and _last_box(after_thought) >= 0:  # a box is only mentioned: the text around it is no bare answer
        return fall_back(without_mentions(after_thought), fallbacks - {"bare"})
    return fall_back(after_thought, fallbacks)


def visible(response: str) -> str:
    """Return the assistant's own turn as its reader sees it, with thoughts in `<think>` and `</think>`.

    The turn's own head, everything after an end of turn, and other special tokens are removed.
    """
    text = CHANNEL.sub(lambda found: "</think>" if found[1] == "final" else "<think>", ROLE.sub("", response))
    text = THOUGHT.sub(lambda found: "<think>" if found[1] else "</think>", text)
    return SPECIAL.sub("", END_OF_TURN.split(text, maxsplit=1)[0])


def _last_box(text: str) -> int:
    return max(text.rfind("\\boxed"), text.rfind("\\fbox"))


def fall_back(text: str, allowed: frozenset[str]) -> Extraction:
    """Return the answer of a text without a box, by the first allowed fallback that finds one."""
    text = without_markdown(text.strip())
    for rule, find in FALLBACKS.items():
        if rule in allowed and (answer := find(text)):
            return Extraction((answer.strip(),), rule)
    return NOTHING
