"""From a problem's text to what the model reads: suffix, system message, chat template, token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extra_rl.errors import ModelError
from extra_rl.sections import TaskConfig


def render(texts: Sequence[str], task: TaskConfig, tokenizer: Any) -> list[tuple[str, list[int]]]:
    """Prompt and token ids of each text. Exactly this is sent; `prompt` and `prompt_tokens` of a problem keep it.

    The bare text, with the tokenizer's own special tokens, where it has no chat template or `task.chat_template` is
    false. `task.thinking` is handed to the template as `enable_thinking`; a template may ignore it.
    Raises ModelError where the tokenizer has no tokens for a text.
    """
    texts = [text + task.suffix for text in texts]
    if not (task.chat_template and tokenizer.chat_template):
        return _with_tokens(texts, tokenizer, add_special_tokens=True)
    switches = {} if task.thinking is None else {"enable_thinking": task.thinking}
    system = [{"role": "system", "content": task.system}] if task.system else []
    prompts = [
        tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": text}], add_generation_prompt=True, tokenize=False, **switches
        )
        for text in texts
    ]
    return _with_tokens(prompts, tokenizer, add_special_tokens=False)


def _with_tokens(prompts: list[str], tokenizer: Any, *, add_special_tokens: bool) -> list[tuple[str, list[int]]]:
    if not prompts:
        return []
    try:
        tokens: list[list[int]] = tokenizer(prompts, add_special_tokens=add_special_tokens)["input_ids"]
    except Exception as error:  # the tokenizers library raises nothing more special
        raise ModelError(
            f"the model's tokenizer cannot read these problems ({error}). Its vocabulary is made for another task: "
            "evaluate this policy on the problems it was trained for."
        ) from error
    return list(zip(prompts, tokens, strict=True))
