"""From the token ids of responses to the texts that are judged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from extra_rl.models.protocol import Tokenizer

Decode = Callable[[Sequence[Sequence[int]]], list[str]]
"""Token ids of responses -> their texts."""


def response_decoder(tokenizer: Tokenizer, ends: Collection[int] | None = None, stop: Sequence[str] = ()) -> Decode:
    """Return a function that turns the token ids of responses into the texts that are judged.

    A text reaches to the first token that ends a response, exclusive: what a model invents after its turn is no part
    of its answer. Padding and beginning-of-sequence tokens at its borders are left out. Special tokens within it stay
    visible, because they can carry meaning (`<think>`) and a judge must not accept what it cannot see.

    ends: ids that end a response; None for those that the tokenizer and its chat template name. stop: texts that end
    a response too, and are no part of it.
    """
    from extra_rl.models.turns import known_end_ids

    final = frozenset(known_end_ids(tokenizer) if ends is None else ends)
    margin = frozenset((tokenizer.pad_token_id, tokenizer.bos_token_id))

    def decode(tokens: Sequence[Sequence[int]]) -> list[str]:
        shown = [_without_margin(_until(ids, final), margin) for ids in tokens]
        # The library takes an empty batch for one empty sequence.
        texts: list[str] = tokenizer.batch_decode(shown, skip_special_tokens=False) if shown else []
        return [until_stop(text, stop) for text in texts]

    return decode


def until_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first place at which a stop string begins; all of it where there is none."""
    return text[: min((place for string in stop if (place := text.find(string)) >= 0), default=len(text))]


def _until(ids: Sequence[int], ends: Collection[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:end])


def _without_margin(ids: list[int], margin: Collection[int | None]) -> list[int]:
    inner = [place for place, token in enumerate(ids) if token not in margin]
    return ids[inner[0] : inner[-1] + 1] if inner else []
