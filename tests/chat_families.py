"""Small tokenizers with one token per byte and chat templates in the style of known families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extra_rl.models.tokenizers import CHATML_TEMPLATE, byte_level

CHATML = CHATML_TEMPLATE
CHATML_DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}" + CHATML
)
CHATML_OPEN_END = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if not loop.last or add_generation_prompt %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_NO_END = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{% endif %}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set messages = messages[1:] %}{% endif %}"
    "<|eot_id|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
GLM = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GLM_ALWAYS_OPENS = GLM.replace("{% if add_generation_prompt %}<|assistant|>{% endif %}", "<|assistant|>")
GPT_OSS = (
    "<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}<|end|>{% for m in messages %}"
    "{% if m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
NEWLINE_BEFORE_END = (
    "{% for m in messages %}### {{ m.role }}:\n{{ m.content | trim }}\n<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant:\n{% endif %}"
)
TEXT_END = (
    "{% for m in messages %}<<{{ m.role }}>>\n{{ m.content }}<<stop>>\n{% endfor %}"
    "{% if add_generation_prompt %}<<assistant>>\n{% endif %}"
)
REFUSES_A_LAST_ANSWER = (
    "{% if messages[-1].role == 'assistant' %}{{ raise_exception('the last message must be a question') }}{% endif %}"
) + CHATML
NEEDS_A_SYSTEM_MESSAGE = (
    "{% if messages[0].role != 'system' %}{{ raise_exception('a system message comes first') }}{% endif %}"
) + CHATML
BROKEN = "{% for m in messages %}{{ m.content }}"


def tokenizer_with(
    template: Any, special: Sequence[str] = (), *, eos: str = "<|endoftext|>", bos: str | None = None, plain: Any = ()
) -> Any:
    """A tokenizer with one token per byte and a chat template.

    Args:
        template: of the chat, or several by name.
        special: further special tokens.
        eos, bos: end and beginning of a sequence; the tokens of ChatML are special without being either.
        plain: added tokens that are not special.
    """
    tokenizer = byte_level()
    marks = [*special, eos, *([bos] if bos else [])]
    tokenizer.add_special_tokens({"additional_special_tokens": list(dict.fromkeys(marks))})
    tokenizer.add_tokens(list(plain))
    tokenizer.eos_token, tokenizer.bos_token = eos, bos
    tokenizer.chat_template = template
    return tokenizer
