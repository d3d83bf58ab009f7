"""The text of a response, and the stop strings that end it (docs/sampling.md).

One function (`response_decoder`) turns token ids into the text that is judged, and samplers look for stop strings in
that same text, so they cannot disagree with the verifier. Decoding every response after every token could cost more
than sampling it. So the tokens that can complete a stop string are found once per tokenizer, and only a response that
has just sampled one of them is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from extra_rl.config.sections import SamplingConfig
from extra_rl.errors import ConfigError
from extra_rl.models.protocol import Tokenizer

Decode = Callable[[Sequence[Sequence[int]]], list[str]]
"""Token ids of responses -> their texts."""

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What bytes that form no whole character are decoded to."""


def response_decoder(tokenizer: Tokenizer, ends: Collection[int] | None = None, stop: Sequence[str] = ()) -> Decode:
    """Return a function that turns the token ids of responses into the texts that are judged.

    A text ends before the first token that ends a response: what a model writes after its turn is not part of its
    answer. Padding and beginning-of-sequence tokens at its borders are left out. Special tokens within it stay visible,
    because they can carry meaning (`<think>`), and a verifier must not accept what it cannot see.

    ends: ids that end a response; None: those that the tokenizer and its chat template name. stop: strings that end a
    text too, and are not part of it.
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
    """Return the text before the first stop string in it; all of it where there is none."""
    return text[: min((place for string in stop if (place := text.find(string)) >= 0), default=len(text))]


def _until(ids: Sequence[int], ends: Collection[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:end])


def _without_margin(ids: list[int], margin: Collection[int | None]) -> list[int]:
    inner = [place for place, token in enumerate(ids) if token not in margin]
    return ids[inner[0] : inner[-1] + 1] if inner else []


@dataclass(frozen=True)
class StopRule:
    """Stop strings, for one tokenizer.

    completing: token ids after which a text can contain a stop string that it did not contain before. decode: token ids
    of responses -> texts, not cut at stop strings.
    """

    stop: tuple[str, ...]
    completing: frozenset[int]
    decode: Decode

    def may_end(self, token: int, sampled: int, prefix_length: int) -> bool:
        """Whether `token`, the last of `sampled` tokens after the prefix, can have completed a stop string.

        The first token after a prefix always can, because the prefix has not been searched yet.
        """
        return token in self.completing or (sampled == 1 and prefix_length > 0)

    def contain(self, responses: Sequence[Sequence[int]]) -> list[bool]:
        """Return which of the responses (token ids) contain a stop string."""
        return [any(string in text for string in self.stop) for text in self.decode(responses)]

    def end_of(self, prefix: Sequence[int], sampled: Sequence[int], seen: int = 0) -> int | None:
        """Return the number of sampled tokens up to and including the first that completes a stop string; None: no end.

        prefix: tokens of the response before the sampled ones. seen: number of sampled tokens already searched.
        """
        for count in range(seen + 1, len(sampled) + 1):
            if self.may_end(sampled[count - 1], count, len(prefix)):
                (ended,) = self.contain([[*prefix, *sampled[:count]]])
                if ended:
                    return count
        return None


class StopStrings:
    """The stop rules of one tokenizer. ends: ids that end a response (`response_decoder`)."""

    def __init__(self, tokenizer: Tokenizer, ends: Collection[int] | None = None) -> None:
        self._tokenizer, self._ends = tokenizer, ends
        self._rules: dict[tuple[str, ...], StopRule] = {}

    def rule(self, stop: Sequence[str]) -> StopRule | None:
        """Return the rule of these strings, built once; None where there are none.

        Raises ConfigError for a string with a character that no token can produce.
        """
        strings = tuple(stop)
        if strings and strings not in self._rules:
            if _only_appends(self._tokenizer):
                for string in strings:
                    self._refuse_unwritable(string)
            decode = response_decoder(self._tokenizer, self._ends)
            self._rules[strings] = StopRule(strings, self._completing(strings), decode)
        return self._rules.get(strings)

    @cached_property
    def _texts(self) -> dict[int, tuple[str, str]]:
        """Text of each token at the beginning of a response, and after a word, where some tokenizers add a space.

        The second is INCOMPLETE, for unknown, where the vocabulary has no plain word to decode before the token.
        """
        ids = sorted(self._tokenizer.get_vocab().values())
        alone = self._decoded([[token] for token in ids])
        words = (n for n, text in enumerate(alone) if text.isascii() and text.isalnum())
        place = next(words, None)
        if place is None:
            return {token: (text, INCOMPLETE) for token, text in zip(ids, alone, strict=True)}
        # The text after a word: decode both, and take the word away.
        both = self._decoded([[ids[place], token] for token in ids])
        behind = [text.removeprefix(alone[place]) for text in both]
        return {token: pair for token, *pair in zip(ids, alone, behind, strict=True)}  # type: ignore[misc]

    def _decoded(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = self._tokenizer.batch_decode(tokens, skip_special_tokens=False)
        return texts

    def _completing(self, stop: Sequence[str]) -> frozenset[int]:
        """Token ids that can complete one of the strings; all where that cannot be decided token by token."""
        unsure = not _only_appends(self._tokenizer) or any(INCOMPLETE in string for string in stop)
        if unsure or any(_completes(text, stop) for text in self._unseen_at_the_end()):
            return frozenset(self._texts)
        return frozenset(
            token
            for token, texts in self._texts.items()
            if any(_completes(text, stop) for text in texts) or not any(texts)  # an empty text can still change others
        )

    def _unseen_at_the_end(self) -> Iterator[str]:
        """Texts of the tokens that are left out at the end of a response and shown once another token follows."""
        for token in (self._tokenizer.pad_token_id, self._tokenizer.bos_token_id):
            yield from self._texts.get(token, ())

    def _refuse_unwritable(self, string: str) -> None:
        characters = self._characters
        missing = [character for character in string if character not in characters]
        if missing and INCOMPLETE not in characters:  # else single bytes can produce any character
            raise ConfigError(
                f"sampling.stop (of an evaluation: evaluate.stop) contains {string!r}, but no token of the policy's "
                f"tokenizer can produce {missing[0]!r}, so it would never end a response. Remove it."
            )

    @cached_property
    def _characters(self) -> frozenset[str]:
        return frozenset(character for texts in self._texts.values() for text in texts for character in text)


def stop_rule(stops: StopStrings | None, config: SamplingConfig) -> StopRule | None:
    """Return the rule of `sampling.stop`, None without stop strings; ValueError for a sampler without a tokenizer."""
    if not config.stop:
        return None
    if stops is None:
        raise ValueError("this sampler was created without a tokenizer, so it cannot find stop strings: pass `stops`")
    return stops.rule(config.stop)


def _completes(text: str, stop: Sequence[str]) -> bool:
    """Whether a text that continues with `text` can contain a stop string that ends in it; True for broken bytes."""
    if INCOMPLETE in text:
        return True
    # The string's last character must be in the text, which excludes most of a vocabulary.
    likely = [string for string in stop if string[-1] in text]
    beginnings = [text[:count] for count in range(1, len(text) + 1)] if likely else []
    # It ends in the text if a beginning of the text ends with it, or is itself its end (it then begins further back).
    return any(b.endswith(string) or string.endswith(b) for string in likely for b in beginnings)


def _only_appends(tokenizer: Tokenizer) -> bool:
    """Whether a further token leaves the text before it unchanged (broken bytes excepted).

    Not where spaces are cleaned up afterwards, nor with decoders that read the following token; tokenizers in Python
    may do anything. The library does not clean up the text of BPE unless it is forced to.
    """
    if not tokenizer.is_fast:
        return False
    if any(name in repr(tokenizer.backend_tokenizer.decoder) for name in ("BPEDecoder", "CTC")):
        return False
    forced = getattr(tokenizer, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    exempt = type(tokenizer.backend_tokenizer.model).__name__ == "BPE" and not forced
    return exempt or not tokenizer.clean_up_tokenization_spaces
