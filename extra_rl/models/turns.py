"""The tokens that end a response: those in the model's files, and the one that its chat template writes after a
turn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extra_rl.errors import ModelError
from extra_rl.models.chat_template import note_once, render_chat
from extra_rl.models.protocol import CausalLM, Tokenizer

USER, ANSWER, NEXT, SYSTEM = "Userqxz", "Answerqxz", "Nextqxz", "Systemqxz"
"""Messages of the conversations that are rendered to find what a template writes around them."""

ANY_DATE = "2024-07-26"
"""Date of these conversations; it has no effect on the end of a turn."""


@dataclass(frozen=True)
class TurnEnd:
    """The end of an assistant's turn in a chat template.

    text: content of the token, or a text. token_id: None for a text that is not a single token of the vocabulary.
    """

    text: str
    token_id: int | None


def eos_token_ids(model: CausalLM, tokenizer: Tokenizer, source: Path | str) -> tuple[int, ...]:
    """Return the ids that end a response, sorted.

    These are the ids in the generation config, the tokenizer and the model's config, and the token that ends a turn in
    the chat template. A note is printed if that token is in neither of the first two, unless `source` is a run's
    policy, whose warm start has printed it.

    Args:
        model: with `generation_config` and `config`.
        tokenizer: of the model.
        source: directory or hub name of the model, for messages.
    Raises ModelError where there is none.
    """
    config = getattr(model, "config", None)
    named = _named(getattr(model, "generation_config", None), config, tokenizer)
    end = turn_end(tokenizer)
    ids = named | _config_ids(config, tokenizer) | _turn_end_ids(end)
    if not ids:
        raise ModelError(
            f"{source}: the model has no end-of-sequence token, so every response would run into the token limit. "
            "Set eos_token in its tokenizer config or eos_token_id in generation_config.json."
        )
    if end is not None and not (Path(source) / "manifest.json").exists():
        _print_note(end, named, ids, tokenizer, source)
    return tuple(sorted(ids))


def known_end_ids(tokenizer: Tokenizer, directory: Path | None = None) -> tuple[int, ...]:
    """Return the ids that `eos_token_ids` would return, from the tokenizer and the files in `directory`, sorted.

    No weights are read. Empty where there is none. Raises ModelError for a config that is not JSON.
    """
    generation = _read_json(directory / "generation_config.json") if directory else {}
    config = _read_json(directory / "config.json") if directory else {}
    named = _named(generation, config, tokenizer)
    return tuple(sorted(named | _config_ids(config, tokenizer) | _turn_end_ids(turn_end(tokenizer))))


def turn_end(tokenizer: Tokenizer) -> TurnEnd | None:
    """Return the end of an assistant's turn in the chat template; None without a template, or if it writes no end.

    A conversation is rendered with a known word as the assistant's last message; the first added token after that word
    is the end. The end of the last message has priority over that of one in the middle, because some templates
    (gpt-oss) end a message in the middle with a token that the model also writes between its own messages. If the
    template writes no token after the last message, another message of the user is appended:

    - a token that closes the turn is the end;
    - a token that opens the user's turn only (`<|user|>` of GLM) is the only mark of the end, so it is the end too;
    - a token that opens every turn (`<|im_start|>`, `<|start|>`) is not: the model may open its own message with it.

    A template that refuses these conversations has no turn end here; rendering the prompts reports its errors.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    marks = _Marks(tokenizer)
    last = _rendered(tokenizer, (USER, ANSWER)) or _rendered(tokenizer, (SYSTEM, USER, ANSWER))
    middle = _rendered(tokenizer, (USER, ANSWER, NEXT)) or _rendered(tokenizer, (SYSTEM, USER, ANSWER, NEXT))
    after_last = _after(last, ANSWER)
    between = _between(middle, ANSWER, NEXT)
    end = marks.first(after_last)
    if end is not None and not marks.opens_answer(last, middle):
        return end
    found = marks.first(between)
    if found is None:
        text = _text_end(after_last, between)
        return end or (TurnEnd(text, None) if text and not marks.of(text) else None)
    return found if marks.closes(found, middle or "") else None


class _Marks:
    """The added tokens of a tokenizer that can mark a place in a conversation, found in text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._ids = {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if _marks(token)}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._bos = tokenizer.bos_token if tokenizer.bos_token_id != tokenizer.eos_token_id else None

    def of(self, text: str) -> list[str]:
        """The marks in a text, in order."""
        return self._pattern.findall(text)

    def first(self, text: str) -> TurnEnd | None:
        """The first mark in a text; None without one, or if it is the beginning of a sequence."""
        found = self.of(text)
        return TurnEnd(found[0], self._ids[found[0]]) if found and found[0] != self._bos else None

    def opens_answer(self, last: str | None, middle: str | None) -> bool:
        """Whether the template always opens another turn of the assistant after the conversation without ending one."""
        if last is None or middle is None:
            return False
        opening = self.of(_between(last, USER, ANSWER))
        after = self.of(_after(last, ANSWER))
        return after == opening and self.of(_between(middle, ANSWER, NEXT))[:1] not in ([], after[:1])

    def closes(self, mark: TurnEnd, middle: str) -> bool:
        """Whether a mark between an answer and the next question ends the answer, or opens only the user's turn."""
        before = [found for found in self.of(middle[: middle.index(USER)]) if found != self._bos]
        opening_answer = self.of(_between(middle, USER, ANSWER))
        opens_any_turn = before[:1] == [mark.text] and mark.text in opening_answer
        return not opens_any_turn


def _marks(token: Any) -> bool:
    """Whether an added token can be a mark: special, or not a word or white space of the ordinary vocabulary."""
    text = token.content.strip()
    return bool(text) and (token.special or not (text[0].isalnum() or text[-1].isalnum()))


def _rendered(tokenizer: Tokenizer, contents: tuple[str, ...]) -> str | None:
    """The text of the conversation; None where the template refuses it or omits a message."""
    turns = [content for content in contents if content != SYSTEM]
    messages = [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(turns)]
    if len(turns) < len(contents):
        messages.insert(0, {"role": "system", "content": SYSTEM})
    try:
        text = render_chat(tokenizer, messages, ANY_DATE, add_generation_prompt=False)
    except Exception:  # a template can raise any error; `extra_rl.tasks.prompts` reports it when prompts are rendered
        return None
    places = [text.find(content) for content in contents]
    return text if -1 not in places and places == sorted(places) else None


def _after(text: str | None, word: str) -> str:
    """The text after the last occurrence of a word."""
    return "" if text is None else text.rpartition(word)[2]


def _between(text: str | None, left: str, right: str) -> str:
    """The text between the first occurrence of `left` and the last one of `right`."""
    return "" if text is None else text[text.index(left) + len(left) : text.rindex(right)]


def _text_end(after_last: str, between: str) -> str:
    """The text that ends a turn without a token: what follows both the last answer and one in the middle."""
    length = 0
    while length < min(len(after_last), len(between)) and after_last[length] == between[length]:
        length += 1
    return (after_last[:length] if between else after_last).strip()


def _turn_end_ids(end: TurnEnd | None) -> set[int]:
    return set() if end is None or end.token_id is None else {end.token_id}


def _print_note(end: TurnEnd, named: set[int], ids: set[int], tokenizer: Tokenizer, source: Path | str) -> None:
    if end.token_id is None:
        ends = ", ".join(repr(tokenizer.convert_ids_to_tokens(index)) for index in sorted(ids))
        note_once(
            f"{source}: the chat template ends a turn with the text {end.text!r}, which is not a single token of this "
            f"tokenizer, so it does not end a response; {ends} does."
        )
    elif end.token_id not in named:
        note_once(
            f"{source}: the chat template ends a turn with {end.text!r}, which is not an end of sequence in "
            "the generation config or the tokenizer; it is used as an end of response too."
        )


def _named(generation: Any, config: Any, tokenizer: Tokenizer) -> set[int]:
    """Ids in the generation config and in the tokenizer."""
    ids = set(_ids(generation))
    if _get(generation, "_from_model_config"):  # derived from the model's config by transformers
        ids -= _accidental(config, tokenizer)
    return ids | ({tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set())


def _config_ids(config: Any, tokenizer: Tokenizer) -> set[int]:
    """Ids in the model's config and in its text part."""
    texts = _get(config, "text_config")
    return (set(_ids(config)) | set(_ids(texts))) - _accidental(config, tokenizer)


def _accidental(config: Any, tokenizer: Tokenizer) -> set[int]:
    """Default ids of the config's class that are ordinary tokens in this vocabulary.

    A LlamaConfig without `eos_token_id` has 2, the end of sequence in Llama's vocabulary; in another it may be `#`.
    """
    defaults = {index for part in (config, _get(config, "text_config")) for index in _class_default(part)}
    special = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    return {index for index in defaults - special if index < len(tokenizer)}


def _class_default(config: Any) -> Iterator[int]:
    """The ids that the class of a config has by default; `config` is a config, a mapping of config.json, or None."""
    if config is None:
        return iter(())
    if not isinstance(config, Mapping):
        return _ids(type(config))
    from transformers import CONFIG_MAPPING

    known = config.get("model_type") in CONFIG_MAPPING
    return _ids(CONFIG_MAPPING[config["model_type"]]) if known else iter(())


def _ids(config: Any) -> Iterator[int]:
    """The ids in `eos_token_id`, which is one id, a list, or None; -1 means none."""
    found = _get(config, "eos_token_id")
    several = found if isinstance(found, list | tuple) else [found]
    return (index for index in several if isinstance(index, int) and index >= 0)


def _get(config: Any, key: str) -> Any:
    return config.get(key) if isinstance(config, Mapping) else getattr(config, key, None)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error}).") from error
    return found if isinstance(found, dict) else {}
