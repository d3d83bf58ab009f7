"""Prompts that are conversations: messages in the notation of OpenAI or ShareGPT, checked before they are sent.

A message is `{"role": "user", "content": "..."}` or `{"from": "human", "value": "..."}`. Content is a text or a list of
text parts (`{"type": "text", "text": "..."}`). Content that a chat template could drop silently is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
}
"""Role in a file -> role that is passed to the chat template."""

INSTRUCTIONS = ("system", "developer")
NOTATIONS = (("role", "content"), ("from", "value"))
TEXT_PARTS = ("text", "input_text")
PYTHON_LIST = re.compile(r"\[\s*\{\s*'(?:role|from|content|value)'\s*:")


class ConversationError(ValueError):
    """The reason why a value cannot be sent as a conversation; the caller adds file and row."""


@dataclass(frozen=True)
class Message:
    """One turn. role: a value of `ROLES`. content: text, never empty."""

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """The messages of one prompt; the policy answers the last one. place: file and row, for errors."""

    messages: tuple[Message, ...]
    place: str

    @property
    def instruction(self) -> Message | None:
        """The leading system or developer message, None if there is none."""
        first = self.messages[0]
        return first if first.role in INSTRUCTIONS else None

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages after the instruction."""
        return self.messages[1:] if self.instruction else self.messages

    @property
    def text(self) -> str:
        """The turns as one text, which is compared to find equal problems."""
        return "\n\n".join(message.content for message in self.turns)


def is_conversation(value: object) -> bool:
    """Return whether a cell contains messages: a list of mappings, or the JSON text of one, that is not empty."""
    if isinstance(value, str):
        return value.lstrip().startswith("[") and _from_json(value) is not None
    return isinstance(value, Sequence) and any(isinstance(member, Mapping) for member in value)


def parse_conversation(value: object, share_gpt: bool = True) -> tuple[Message, ...]:
    """Return the messages of a cell. An empty system message is left out, since it contains nothing.

    Args:
        value: as `is_conversation` accepts it.
        share_gpt: whether the notation `from` and `value` is expected there.

    Raises ConversationError, with the number of the message from 1, for an unknown notation or role, content that is
    missing or not text, tool calls, and a conversation that has no user message or does not end in a message to answer.
    """
    members = _from_json(value) if isinstance(value, str) else value
    assert isinstance(members, Sequence)
    messages = []
    notations = NOTATIONS if share_gpt else NOTATIONS[:1]
    for number, member in enumerate(members, 1):
        if not isinstance(member, Mapping):
            raise ConversationError(f"message {number} is a {type(member).__name__}; expected an object with a role")
        message = _message(number, member, notations)
        if message.content.strip():
            messages.append(message)
        elif message.role not in INSTRUCTIONS:
            raise ConversationError(f"message {number} ({message.role}) has no content")
    roles = [message.role for message in messages]
    if "user" not in roles:
        raise ConversationError(f"it has no user message (its roles: {', '.join(roles) or 'none'})")
    if roles[-1] not in ("user", "tool"):
        raise ConversationError(
            f"it ends in a message of the role {roles[-1]}, so there is nothing to answer: remove that message, and "
            "name a column with the reference answer"
        )
    return tuple(messages)


def python_list(text: str) -> bool:
    """Return whether a text is a printed Python list of messages, which pandas writes into CSV files."""
    return PYTHON_LIST.match(text.lstrip()) is not None


def _from_json(text: str) -> list[object] | None:
    """Return the list of messages that a text encodes, None if it encodes anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    keys = {key for notation in NOTATIONS for key in notation}
    messages = isinstance(found, list) and any(isinstance(member, dict) and keys & set(member) for member in found)
    return found if messages else None


def _message(number: int, member: Mapping[str, object], notations: Sequence[tuple[str, str]]) -> Message:
    found = next((pair for pair in notations if member.get(pair[0]) is not None), None)
    if found is None and member.get("from") is not None:
        raise ConversationError(
            f"message {number} has the keys {', '.join(member)}: the notation of ShareGPT is read from the column "
            "`conversations`; rename the column, or name it with `problem` of the source"
        )
    if found is None:
        raise ConversationError(
            f"message {number} has neither `role` and `content` nor `from` and `value` (its keys: "
            f"{', '.join(map(str, member)) or 'none'})"
        )
    role = ROLES.get(str(member[found[0]]))
    if role is None:
        raise ConversationError(f"message {number} has the role {member[found[0]]!r}; known: {', '.join(ROLES)}")
    if member.get("tool_calls"):
        raise ConversationError(f"message {number} ({role}) calls tools, which cannot be sent")
    if found[1] not in member:
        raise ConversationError(f"message {number} ({role}) has no `{found[1]}` (its keys: {', '.join(member)})")
    return Message(role, _content(number, member[found[1]]))


def _content(number: int, content: object) -> str:
    """Return the text of a message's content, empty if it is null."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, Sequence):
        raise ConversationError(f"message {number} has content of the type {type(content).__name__}; expected text")
    return "".join(_part(number, part) for part in content)


def _part(number: int, part: object) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind not in TEXT_PARTS or not isinstance(text, str):
        raise ConversationError(f"message {number} has a part of the type {kind!r}; only text can be sent")
    return text
