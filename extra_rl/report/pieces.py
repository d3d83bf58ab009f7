"""Texts of single tokens, so that a response can be shown token by token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def tokenizer_of(results: Path) -> Tokenizer | None:
    """The tokenizer of a run's policies, from the first warm start's folder; None where it is not there.

    No stage changes a tokenizer, so it is that of every policy of the run. torch is not needed.
    """
    from tokenizers import Tokenizer

    files = sorted(results.glob("warm_start*/policy/tokenizer.json"))
    return Tokenizer.from_file(str(files[0])) if files else None


def token_pieces(tokenizer: Tokenizer | None, token_ids: Sequence[int]) -> list[str]:
    """One text a token; joined they are the decoded response, special tokens included.

    A token that is only a part of a character has the empty text, and the last part has the character. Without a
    tokenizer the texts are the ids themselves. Source: `tokenizers.decoders.DecodeStream`, as serving engines decode.
    """
    if tokenizer is None:
        return [f"{token} " for token in token_ids]
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=False)
    try:
        pieces = [stream.step(tokenizer, token) or "" for token in token_ids]
    except Exception:  # its own error for a text that changes backwards is a bare Exception
        return [tokenizer.decode([token], skip_special_tokens=False) for token in token_ids]
    if pieces and not pieces[-1]:  # the response ends within a character
        pieces[-1] = tokenizer.decode(list(token_ids), skip_special_tokens=False)[len("".join(pieces)) :]
    return pieces


def joins_to(pieces: Sequence[str], response: str, tokenizer: Tokenizer | None) -> bool:
    """Whether the pieces show the stored response, so that it need not be shown too.

    A stored response begins behind the special tokens at its border and ends before the one that ends it.
    """
    if tokenizer is None:
        return not response
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    response = response.strip()
    for begin, piece in enumerate(pieces):
        rest = "".join(pieces[begin:]).strip()
        if rest.startswith(response):
            behind = rest[len(response) :].lstrip()
            return not behind or behind.startswith(tuple(special))
        if piece.strip() not in special:
            break
    return False
