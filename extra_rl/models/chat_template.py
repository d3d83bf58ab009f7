"""Render chat templates in the sandbox of transformers, with a fixed date instead of today's."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from extra_rl.models.protocol import Tokenizer

DATE_STRING = "%d %b %Y"
"""Format of `date_string` in the templates that read it (Llama 3.1 and later): 26 Jul 2024."""

_noted: set[str] = set()


def render_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    date: str,
    *,
    add_generation_prompt: bool = True,
    **switches: object,
) -> str:
    """The text of a conversation in the tokenizer's chat template, at midnight of `date`.

    A template reads the date from `strftime_now` or from `date_string`. Both are passed, so that a prompt does not
    depend on the day on which it is rendered; the first shadows the function of that name that transformers passes.

    Args:
        tokenizer: with a chat template.
        messages: with `role` and `content`.
        date: in ISO 8601.
        add_generation_prompt: whether the text ends with the beginning of the assistant's turn.
        switches: further variables of the template.
    Raises the errors of the template: those of jinja2, and any error of an expression in it.
    """
    midnight = datetime.fromisoformat(date)
    text: str = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        strftime_now=midnight.strftime,
        date_string=midnight.strftime(DATE_STRING),
        **switches,
    )
    return text


def name_of(tokenizer: Tokenizer) -> str:
    """The directory or hub name that the tokenizer was read from, for messages."""
    return str(getattr(tokenizer, "name_or_path", "") or "the tokenizer")


def reason_of(error: Exception, longest: int = 300) -> str:
    """An error's type and message in one line of bounded length."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text if len(text) <= longest else text[:longest] + ' ...'}"


def note_once(line: str) -> None:
    """Print a line to standard error, once per process."""
    if line not in _noted:
        _noted.add(line)
        print(line, file=sys.stderr, flush=True)
