"""Tokenizers built on the spot, without a network: for the generated tasks and for smoke runs on any text.

Both are ordinary fast transformers tokenizers: `save_pretrained` writes them, `AutoTokenizer` loads them,
and a sampler sees no difference from a downloaded one. Source: our decision (O).
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
"""As Qwen3's: `enable_thinking=False` opens the answer with an empty think block; otherwise the model decides."""


def word_level(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token a word; texts are words joined by single spaces, and decode gives them back exactly.

    Ids: 0 pad, 1 bos, 2 eos, then the words in order. `tokenizer(text)` puts bos in front; encode a
    response with `add_special_tokens=False`. There is no unknown token (the model could emit it): encoding
    a word outside of the vocabulary raises. Raises ConfigError for a word that is repeated, empty, special
    or holds white space.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = (PAD, BOS, EOS)
    words = [*special, *vocabulary]
    faulty = sorted({word for word in words if words.count(word) > 1 or word.split() != [word]})
    if faulty:
        raise ConfigError(f"words of a vocabulary must be distinct and without white space; mend {faulty[:5]}")
    ids = {word: index for index, word in enumerate(words)}
    # WordLevel insists on a name for the unknown token; one outside of the vocabulary makes encoding raise.
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<none>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    return _fast(tokenizer, pad=PAD, bos=BOS, eos=EOS)


def byte_level() -> PreTrainedTokenizerFast:
    """256 byte tokens, then pad, bos and eos, with the ChatML template whose turn marks are bos and eos.

    Any UTF-8 text survives encode and decode. Bytes that are no UTF-8 decode to the replacement character
    and never raise. `tokenizer(text)` adds no special token; `apply_chat_template` writes bos and eos.
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
    """Wrap for transformers; left padding, as generation from a batch of prompts needs it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
