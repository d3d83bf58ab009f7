"""One completion of another program's file, in one notation for all formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from extra_rl.problems.columns import ABSENT, CellError, cell, text_of
from extra_rl.problems.files import Row
from extra_rl.tasks.conversation import Conversation, ConversationError, is_conversation, parse_conversation

Finish = Literal["stop", "length"]


class BadRowError(ValueError):
    """The reason why a row cannot be imported; the caller adds file and row."""


@dataclass(frozen=True)
class Record:
    """A completion as its file has it; what the file does not say is None.

    Args:
        place: file and row, for messages.
        problem: the statement or the conversation, which the tokenizer's template renders.
        prompt: the text that the model read.
        prompt_tokens: the token ids that the model read.
        response: text.
        tokens: token ids of the response, end-of-sequence included.
        logprobs: of these tokens, under the distribution that they were sampled from, in nats.
        finish: how it ended.
        answer: reference answer.
        problem_id: stable name of the problem.
        level: its data set or level.
        metadata: JSON of further data for the problem's verifier.
        group: name of the group of completions that share the prompt.
        step: number of the training step.
        reward, advantage: numbers that the file gives it.
        further: other numbers of the row, by column.
    """

    place: str
    problem: str | Conversation | None = None
    prompt: str | None = None
    prompt_tokens: list[int] | None = None
    response: str | None = None
    tokens: list[int] | None = None
    logprobs: list[float] | None = None
    finish: Finish | None = None
    answer: str | None = None
    problem_id: str | None = None
    level: str | None = None
    metadata: str | None = None
    group: str | None = None
    step: int | None = None
    reward: float | None = None
    advantage: float | None = None
    further: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bad:
    """A row that cannot be imported: file and row, and the reason."""

    place: str
    reason: str


def first(row: Row, names: Sequence[str]) -> object:
    """The first of these columns that the row has with a value; None without one."""
    for name in names:
        value = cell(row, name)
        if value is not ABSENT and value is not None:
            return value
    return None


def text(row: Row, names: Sequence[str]) -> str | None:
    """The first of these columns as text (`columns.text_of`); None where it is missing or means no value."""
    try:
        return text_of(first(row, names))
    except CellError as error:
        raise BadRowError(f"{_named(row, names)} {error}") from None


def raw_text(row: Row, names: Sequence[str]) -> str | None:
    """The first of these columns unchanged: a completion `None` is a text, and an empty one is a completion."""
    value = first(row, names)
    if value is not None and not isinstance(value, str):
        raise BadRowError(f"{_named(row, names)} holds a {type(value).__name__}; expected text")
    return value


def number(row: Row, names: Sequence[str]) -> float | None:
    """The first of these columns as a finite number; None where it is missing."""
    value = first(row, names)
    if value is None or value == "":
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise BadRowError(f"{_named(row, names)} holds {str(value)[:40]!r}; expected a number") from None
    return found if found == found and abs(found) != float("inf") else None


def whole(row: Row, names: Sequence[str]) -> int | None:
    """The first of these columns as a whole number; None where it is missing."""
    found = number(row, names)
    if found is not None and (found != int(found) or abs(found) > 2**53):
        raise BadRowError(f"{_named(row, names)} holds {found}; expected a whole number")
    return None if found is None else int(found)


def numbers(row: Row, names: Sequence[str]) -> list[float] | None:
    """The first of these columns as a list of numbers; None where it is missing."""
    value = first(row, names)
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadRowError(f"{_named(row, names)} holds no list")
    try:
        return [float(one) for one in value]
    except (TypeError, ValueError):
        raise BadRowError(f"{_named(row, names)} holds something that is not a number") from None


def token_ids(row: Row, names: Sequence[str]) -> list[int] | None:
    """The first of these columns as token ids; None where it is missing."""
    found = numbers(row, names)
    if found is not None and any(one != int(one) or one < 0 for one in found):
        raise BadRowError(f"{_named(row, names)} holds something that is not a token id")
    return None if found is None else [int(one) for one in found]


def finish_of(row: Row) -> Finish | None:
    """How the completion ended, by the columns that say so; None where none does."""
    reason = first(row, ("finish_reason",))
    if reason is not None:
        return "length" if str(reason).lower() in ("length", "max_tokens") else "stop"
    cut = first(row, ("is_truncated", "truncated"))
    return None if cut is None else "length" if str(cut).lower() in ("true", "1", "1.0") else "stop"


def prompt_of(value: object, place: str) -> str | Conversation | None:
    """A prompt as text, or as a conversation where it holds messages; None where it is missing."""
    if value is None:
        return None
    if is_conversation(value):
        try:
            return Conversation(parse_conversation(value), place)
        except ConversationError as error:
            raise BadRowError(f"the prompt's conversation cannot be sent: {error}") from None
    if isinstance(value, str):
        return value
    raise BadRowError(f"the prompt is a {type(value).__name__}; expected text or messages")


def answer_text(value: object) -> str | None:
    """The text of a completion: itself, or the content of its only message, the assistant's.

    Raises BadRowError for several turns and tool calls, which one rollout cannot represent.
    """
    if value is None or isinstance(value, str):
        return value
    messages = [one for one in value if isinstance(one, Mapping)] if isinstance(value, Sequence) else []
    if not messages:
        return None
    if len(messages) > 1:
        raise BadRowError(f"the completion has {len(messages)} messages; only a single answer can be imported")
    (message,) = messages
    if message.get("tool_calls"):
        raise BadRowError("the completion calls tools, which cannot be imported")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise BadRowError("the completion's content is not text")
    return content


def _named(row: Row, names: Sequence[str]) -> str:
    found = next((name for name in names if cell(row, name) not in (ABSENT, None)), names[0])
    return f"column {found}"
