"""Conversations as prompts: sent whole through the template, or refused with the row and the reason."""

from __future__ import annotations

from typing import Any

import pytest

from extra_rl.config.sections import TaskConfig
from extra_rl.errors import InputError
from extra_rl.models import chat_template
from extra_rl.models.tokenizers import byte_level
from extra_rl.tasks.conversation import Conversation, Message, parse_conversation
from extra_rl.tasks.prompts import render
from tests import chat_families as families
from tests.chat_families import tokenizer_with

TURNS = (
    Message("system", "Be brief."),
    Message("user", "1 + 1?"),
    Message("assistant", "2"),
    Message("user", "And 2 more?"),
)


def prompt_of(messages: tuple[Message, ...], tokenizer: Any = None, **section: Any) -> str:
    conversation = Conversation(messages, "a.jsonl, row 7")
    ((prompt, tokens),) = render([conversation], TaskConfig(name="math", **section), tokenizer or byte_level())
    assert tokenizer is not None or byte_level().decode(tokens) == prompt
    return prompt


def chatml(*turns: tuple[str, str]) -> str:
    return "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns) + "<|im_start|>assistant\n"


def test_all_turns_are_sent_and_the_suffix_follows_the_last() -> None:
    assert prompt_of(TURNS, suffix=" Box it.") == chatml(
        *(("system", "Be brief."), ("user", "1 + 1?"), ("assistant", "2"), ("user", "And 2 more? Box it."))
    )


def test_the_system_message_of_a_conversation_replaces_the_configured_one_and_a_note_counts_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chat_template, "_noted", set())
    assert prompt_of(TURNS, system="Be long.") == prompt_of(TURNS)
    assert "1 of 1 conversations have their own system message" in capsys.readouterr().err
    assert prompt_of(TURNS[1:], system="Be long.").startswith(chatml(("system", "Be long."))[:40])


def test_examples_are_between_the_system_message_and_the_conversation() -> None:
    conversation = Conversation(TURNS[:2], "a.jsonl, row 7")
    ((prompt, _),) = render([conversation], TaskConfig(name="math"), byte_level(), [("0 + 1?", "1")])
    assert prompt == chatml(("system", "Be brief."), ("user", "0 + 1?"), ("assistant", "1"), ("user", "1 + 1?"))


@pytest.mark.parametrize(
    ("messages", "template", "message"),
    [
        (TURNS[:2], families.GEMMA, r"refuses this conversation .*System role not supported.*roles: system, user"),
        ((TURNS[1], TURNS[1]), families.GEMMA, "refuses this conversation .*alternate"),
        (TURNS, "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", r"message 1 \(system\)"),
        (TURNS, "{{ messages[-1].content }}", r"does not write message 1 \(system\)"),
        (TURNS[1:], "{{ messages[-1].content }}", r"does not write message 1 \(user\)"),
    ],
)
def test_a_conversation_that_the_template_refuses_or_shortens_is_an_error_with_its_row(
    messages: tuple[Message, ...], template: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        prompt_of(messages, tokenizer_with(template, bos="<bos>"))
    assert str(refused.value).startswith("a.jsonl, row 7: ")


def test_a_template_may_omit_the_thinking_of_earlier_turns() -> None:
    template = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}\n{% endfor %}"
    turns = (TURNS[1], Message("assistant", "<think>easy</think>It is 2."), TURNS[3])
    assert prompt_of(turns, tokenizer_with(template)) == "1 + 1?\nIt is 2.\nAnd 2 more?\n"


def test_bare_text_has_a_system_line_and_one_turn_only() -> None:
    assert prompt_of(TURNS[:2], chat_template=False, suffix=" Box it.") == "Be brief.\n1 + 1? Box it."
    with pytest.raises(InputError, match=r"row 7: a conversation of 3 turns needs a chat template"):
        prompt_of(TURNS, chat_template=False)


def test_the_compared_text_has_all_turns_and_no_instruction() -> None:
    assert Conversation(TURNS, "").text == "1 + 1?\n\n2\n\nAnd 2 more?"


def test_roles_parts_and_empty_instructions() -> None:
    given = [
        {"from": "system", "value": " "},
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "a"},
        {"role": "user", "content": [{"type": "text", "text": "r"}, "s", {"type": "text", "text": "t", "image": None}]},
    ]
    assert parse_conversation(given) == (Message("user", "q"), Message("assistant", "a"), Message("user", "rst"))
