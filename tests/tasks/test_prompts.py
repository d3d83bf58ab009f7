"""What is sent to the model: template, system message, suffix, thinking."""

from __future__ import annotations

from typing import Any

import pytest

from extra_rl.errors import ModelError
from extra_rl.sections import TaskConfig
from extra_rl.tasks.prompts import render
from extra_rl.tasks.signed_sum import TASK
from extra_rl.tokenizers import byte_level, word_level

USER = "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("section", "prompt"),
    [
        ({}, USER),
        ({"suffix": " Box it."}, USER.replace("1 + 1?", "1 + 1? Box it.")),
        ({"system": "Be brief."}, f"<|im_start|>system\nBe brief.<|im_end|>\n{USER}"),
        ({"thinking": True}, USER),
        ({"thinking": False}, f"{USER}<think>\n\n</think>\n\n"),
        ({"chat_template": False, "suffix": " Box it.", "thinking": False}, "1 + 1? Box it."),
    ],
)
def test_the_exact_text(section: dict[str, Any], prompt: str) -> None:
    tokenizer = byte_level()
    ((text, tokens),) = render(["1 + 1?"], TaskConfig(name="math", **section), tokenizer)
    assert text == prompt
    assert tokenizer.decode(tokens) == prompt
    assert tokens.count(tokenizer.eos_token_id) == prompt.count("<|im_end|>")  # a turn's mark is one token


def test_without_a_template_the_text_has_the_tokenizers_own_special_tokens() -> None:
    tokenizer = word_level(TASK.vocabulary)
    ((text, tokens),) = render(["4 12 :"], TaskConfig(), tokenizer)
    assert text == "4 12 :"
    assert tokens == tokenizer("4 12 :")["input_ids"]
    assert tokens[0] == tokenizer.bos_token_id


def test_many_keep_their_order_and_none_is_none() -> None:
    texts = ["b" * 300, "a", "c"]
    prompts = [prompt for prompt, _ in render(texts, TaskConfig(chat_template=False), byte_level())]
    assert prompts == texts
    assert render([], TaskConfig(), byte_level()) == []


def test_a_tokenizer_of_another_task_is_one_clear_error() -> None:
    with pytest.raises(ModelError, match="tokenizer cannot read these problems"):
        render(["What is the least prime?"], TaskConfig(name="math"), word_level(TASK.vocabulary))
