"""Tokenizers that are built without a network, for the generated tasks and for smoke tests on any text.

Both are ordinary fast tokenizers of transformers: `save_pretrained` writes them, `AutoTokenizer` loads them, and
samplers treat them like downloaded ones. Source: our decision (O).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from extra_rl.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
CHAT_BOS, CHAT_EOS = "<|im_start|>", "<|im_end|>"

CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
"""As in Qwen3: with `enable_thinking=False` the answer begins with an empty think block; otherwise the model
decides."""


def word_level(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word; texts are words joined by single spaces, and decoding restores them exactly.

    Ids: 0 pad, 1 bos, 2 eos, then the words in order. `tokenizer(text)` adds bos in front; encode a response with
    `add_special_tokens=False`. There is no unknown token, because the model could generate it: encoding a word outside
    of the vocabulary raises an error.
    Raises ConfigError for a word that is repeated, empty or special, or contains white space.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = (PAD, BOS, EOS)
    words = [*special, *vocabulary]
    invalid = sorted({word for word in words if words.count(word) > 1 or word.split() != [word]})
    if invalid:
        raise ConfigError(f"words of a vocabulary must be distinct and without white space; correct {invalid[:5]}")
    ids = {word: index for index, word in enumerate(words)}
    # WordLevel requires a name of the unknown token; with one outside of the vocabulary, encoding raises an error.
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<none>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    return _fast(tokenizer, pad=PAD, bos=BOS, eos=EOS)


def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer of 256 byte tokens, then pad, bos and eos, with the ChatML template, whose turn marks are bos and
    eos.

    Encoding and decoding restores any UTF-8 text. Bytes that are not UTF-8 decode to the replacement character without
    an error. `tokenizer(text)` adds no special token; `apply_chat_template` writes bos and eos.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = _fast(tokenizer, pad=PAD, bos=CHAT_BOS, eos=CHAT_EOS)
    fast.chat_template = CHATML_TEMPLATE
    return fast


def _fast(tokenizer: Tokenizer, *, pad: str, bos: str, eos: str) -> PreTrainedTokenizerFast:
    """The tokenizer wrapped for transformers, with left padding, which batched generation needs."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
