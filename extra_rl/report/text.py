"""Text for the page and the terminal: numbers, untrusted text of a model, and the texts of single tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from extra_rl.comparison import lines
from extra_rl.comparison.lines import number

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MINUS = "\u2212"

UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are shown as code points: controls, format characters (text direction, zero width),
surrogates, private and unassigned code points, line and paragraph separators. rollout.js has the same list."""


def figure(value: float | None, form: str = ".1f") -> str:
    """Return a number with a true minus sign; "" for None."""
    return "" if value is None else format(value, form).replace("-", MINUS)


def signed(value: float | None) -> str:
    """Return a difference with its sign and one decimal; one that rounds to zero has no sign. "" for None."""
    return "" if value is None else number(value, signed=True).replace("-", MINUS)


def amount(value: float | None) -> str:
    """Return a positive number with three digits, whole from 100 on: `0.0123`, `12.3`, `12,345`. "" for None."""
    return "" if value is None else lines.amount(value)


def short_number(value: float) -> str:
    """Return a count with three digits and k, M or B: `1.72 B`, `134 M`, `85.2 k`, `912`."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def interval(ends: tuple[float, float] | None) -> str:
    """Return `[low, high]`; "" for None."""
    return f"[{signed(ends[0])}, {signed(ends[1])}]" if ends else ""


def span(ends: tuple[float, float] | None) -> str:
    """Return `[low, high]` of figures without a sign; "" for None."""
    return f"[{figure(ends[0])}, {figure(ends[1])}]" if ends else ""


def visible(text: str, keep: str = "\n") -> str:
    """Return `text` with every character of `UNSEEN`, except those in `keep`, written as `\\u{202e}`.

    Source: our decision; terminals execute controls, and U+202E reverses the text that follows.
    """
    return "".join(
        f"\\u{{{ord(letter):x}}}" if letter not in keep and unicodedata.category(letter) in UNSEEN else letter
        for letter in text
    )


def bounded(text: str, limit: int) -> str:
    """Return at most about `limit` characters: head and tail, and between them the number left out."""
    if len(text) <= limit:
        return text
    head, tail = limit - limit // 3, limit // 3
    return f"{text[:head]} [... {len(text) - head - tail:,} characters left out ...] {text[len(text) - tail :]}"


def tokenizer_of(results: Path) -> Tokenizer | None:
    """Return the tokenizer of a run's policies, from the first warm start's folder; None where it is missing.

    No stage changes a tokenizer, so all policies of the run have the same. Needs no torch.
    """
    from tokenizers import Tokenizer

    files = sorted(results.glob("warm_start*/policy/tokenizer.json"))
    return Tokenizer.from_file(str(files[0])) if files else None


def token_pieces(tokenizer: Tokenizer | None, token_ids: Sequence[int]) -> list[str]:
    """Return one text per token; joined they are the decoded response, special tokens included.

    Where several tokens encode one character, the last of them has the character and the others have the empty text.
    Without a tokenizer the texts are the ids. Source: `tokenizers.decoders.DecodeStream`, as serving engines decode.
    """
    if tokenizer is None:
        return [f"{token} " for token in token_ids]
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=False)
    try:
        pieces = [stream.step(tokenizer, token) or "" for token in token_ids]
    except Exception:  # DecodeStream raises a bare Exception where a later token changes earlier text
        return [tokenizer.decode([token], skip_special_tokens=False) for token in token_ids]
    if pieces and not pieces[-1]:  # the response ends inside a character
        pieces[-1] = tokenizer.decode(list(token_ids), skip_special_tokens=False)[len("".join(pieces)) :]
    return pieces


def joins_to(pieces: Sequence[str], response: str, tokenizer: Tokenizer | None) -> bool:
    """Return whether the tokens' texts contain the stored response, so that it need not be shown separately.

    A stored response begins after the leading special tokens and ends before the one that ends it.
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
