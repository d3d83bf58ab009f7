"""Stop strings: after which token a response ends because its text contains one (docs/sampling.md).

The text is that of `response_decoder`, so a sampler and the text that is judged cannot disagree. To decode every
response after every token could cost more than to sample it. So it is found out once which tokens can complete a stop
string, and only a response that has just got one of them is decoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from extra_rl.config.sections import SamplingConfig
from extra_rl.errors import ConfigError
from extra_rl.models.protocol import Tokenizer
from extra_rl.sampling.text import Decode, response_decoder

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What bytes are decoded to that are no whole character."""


@dataclass(frozen=True)
class StopRule:
    """Some stop strings, for one tokenizer. completing: token ids after which a text can contain one of them that it
    did not contain before; `decode`: responses to texts, not cut."""

    stop: tuple[str, ...]
    completing: frozenset[int]
    decode: Decode

    def may_end(self, token: int, sampled: int, prefix_length: int) -> bool:
        """Whether a response can end by `token`, of the `sampled` tokens behind its prefix the last.

        The first token can end it whatever it is where there is a prefix, as nobody has looked at that.
        """
        return token in self.completing or (sampled == 1 and prefix_length > 0)

    def hold(self, responses: Sequence[Sequence[int]]) -> list[bool]:
        """Which of the responses (token ids) contain a stop string."""
        return [any(string in text for string in self.stop) for text in self.decode(responses)]

    def end_of(self, prefix: Sequence[int], sampled: Sequence[int], seen: int = 0) -> int | None:
        """How many of the sampled tokens there are up to the first that completes a stop string, that token included;
        None where none does.

        prefix: tokens of the response before the sampled ones. seen: how many sampled tokens are known not to end it.
        """
        for count in range(seen + 1, len(sampled) + 1):
            if self.may_end(sampled[count - 1], count, len(prefix)):
                (over,) = self.hold([[*prefix, *sampled[:count]]])
                if over:
                    return count
        return None


class StopStrings:
    """The stop rules of one tokenizer. ends: ids that end a response by themselves (`response_decoder`)."""

    def __init__(self, tokenizer: Tokenizer, ends: Collection[int] | None = None) -> None:
        self._tokenizer, self._ends = tokenizer, ends
        self._rules: dict[tuple[str, ...], StopRule] = {}

    def rule(self, stop: Sequence[str]) -> StopRule | None:
        """The rule of these strings, None where there are none; made once.

        ConfigError for a string with a character that no token can write.
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
        """What each token writes: at the beginning of a response, and behind a word, where some tokenizers put a space
        before it. INCOMPLETE, that is unknown, where the tokenizer has no plain word to put before it."""
        ids = sorted(self._tokenizer.get_vocab().values())
        alone = self._decoded([[token] for token in ids])
        words = (n for n, text in enumerate(alone) if text.isascii() and text.isalnum())
        place = next(words, None)
        if place is None:
            return {token: (text, INCOMPLETE) for token, text in zip(ids, alone, strict=True)}
        both = self._decoded([[ids[place], token] for token in ids])
        behind = [text.removeprefix(alone[place]) for text in both]
        return {token: pair for token, *pair in zip(ids, alone, behind, strict=True)}  # type: ignore[misc]

    def _decoded(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = self._tokenizer.batch_decode(tokens, skip_special_tokens=False)
        return texts

    def _completing(self, stop: Sequence[str]) -> frozenset[int]:
        unsure = not _only_appends(self._tokenizer) or any(INCOMPLETE in string for string in stop)
        if unsure or any(_completes(text, stop) for text in self._unseen_at_the_end()):
            return frozenset(self._texts)
        return frozenset(
            token
            for token, texts in self._texts.items()
            if any(_completes(text, stop) for text in texts) or not any(texts)
        )

    def _unseen_at_the_end(self) -> Iterator[str]:
        """Texts of the tokens that a response shows only once there is another token behind them."""
        for token in (self._tokenizer.pad_token_id, self._tokenizer.bos_token_id):
            yield from self._texts.get(token, ())

    def _refuse_unwritable(self, string: str) -> None:
        characters = self._characters
        lacking = [character for character in string if character not in characters]
        if lacking and INCOMPLETE not in characters:
            raise ConfigError(
                f"sampling.stop (of an evaluation: evaluate.stop) has {string!r}, but no token of the policy's "
                f"tokenizer can write {lacking[0]!r}, so it would never end a response. Remove it."
            )

    @cached_property
    def _characters(self) -> frozenset[str]:
        return frozenset(character for texts in self._texts.values() for text in texts for character in text)


def stop_rule(stops: StopStrings | None, config: SamplingConfig) -> StopRule | None:
    """The rule of `sampling.stop`, None without stop strings. ValueError for a sampler that has no tokenizer."""
    if not config.stop:
        return None
    if stops is None:
        raise ValueError(
            "this sampler was made without a tokenizer: it cannot know where a stop string ends a response"
        )
    return stops.rule(config.stop)


def _completes(text: str, stop: Sequence[str]) -> bool:
    """Whether a text that goes on with `text` can contain a stop string that ends in it. Not sure of broken bytes."""
    if INCOMPLETE in text:
        return True
    likely = [string for string in stop if string[-1] in text]  # few, of a whole vocabulary
    beginnings = [text[:count] for count in range(1, len(text) + 1)] if likely else []
    return any(b.endswith(string) or string.endswith(b) for string in likely for b in beginnings)


def _only_appends(tokenizer: Tokenizer) -> bool:
    """Whether a further token leaves the text before it as it is (broken bytes apart).

    Where spaces are cleaned up afterwards it may not, nor with decoders that look at the token behind; of tokenizers in
    Python nothing is known. The library does not clean up what BPE writes unless it is forced to.
    """
    if not tokenizer.is_fast:
        return False
    if any(name in repr(tokenizer.backend_tokenizer.decoder) for name in ("BPEDecoder", "CTC")):
        return False
    forced = getattr(tokenizer, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    exempt = type(tokenizer.backend_tokenizer.model).__name__ == "BPE" and not forced
    return exempt or not tokenizer.clean_up_tokenization_spaces
