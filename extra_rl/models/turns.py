"""The tokens that end a response: those that the model's files name, and the one that its chat template writes."""

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
"""Messages of the conversations that are rendered to see what a template writes around them."""

ANY_DATE = "2024-07-26"


@dataclass(frozen=True)
class TurnEnd:
    """What a chat template writes after an assistant's message.

    text: the token's content, or a text. token_id: None for a text that is no single token of the vocabulary.
    """

    text: str
    token_id: int | None


def eos_token_ids(model: CausalLM, tokenizer: Tokenizer, source: Path | str) -> tuple[int, ...]:
    """Return the ids that end a response, sorted.

    They are those of the generation config, the tokenizer and the model's config, and the token that ends a turn in
    the chat template. A template whose turn end the first two do not name is noted on standard error, unless `source`
    is a run's policy: its warm start has printed the note.

    Args:
        model: with `generation_config` and `config`.
        tokenizer: of the model.
        source: directory or hub name of the model, for messages.
    Raises ModelError when there is none.
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
        _note(end, named, ids, tokenizer, source)
    return tuple(sorted(ids))


def known_end_ids(tokenizer: Tokenizer, directory: Path | None = None) -> tuple[int, ...]:
    """Return the ids that `eos_token_ids` would find, from the tokenizer and the files in `directory`, sorted.

    No weights are read. Empty where nothing names an end. Raises ModelError for a config that is no JSON.
    """
    generation = _read_json(directory / "generation_config.json") if directory else {}
    config = _read_json(directory / "config.json") if directory else {}
    named = _named(generation, config, tokenizer)
    return tuple(sorted(named | _config_ids(config, tokenizer) | _turn_end_ids(turn_end(tokenizer))))


def turn_end(tokenizer: Tokenizer) -> TurnEnd | None:
    """Return what ends an assistant's turn in the chat template; None without a template, or where it writes nothing.

    A conversation is rendered with a known word as the assistant's last message, and the first added token after that
    word is the end. What ends the last message is taken before what ends one in the middle, because some templates
    (gpt-oss) end a message in the middle with a token that the model also writes between its own messages.
    Where the template writes no token after the last message, another user's message is appended:

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
        return self._pattern.findall(text)

    def first(self, text: str) -> TurnEnd | None:
        """The first mark of a text, unless it begins a sequence."""
        found = self.of(text)
        return TurnEnd(found[0], self._ids[found[0]]) if found and found[0] != self._bos else None

    def opens_answer(self, last: str | None, middle: str | None) -> bool:
        """Whether the template opens another assistant's turn after every conversation, and ends none before it."""
        if last is None or middle is None:
            return False
        opening = self.of(_between(last, USER, ANSWER))
        after = self.of(_after(last, ANSWER))
        return after == opening and self.of(_between(middle, ANSWER, NEXT))[:1] not in ([], after[:1])

    def closes(self, mark: TurnEnd, middle: str) -> bool:
        """Whether a mark between an answer and the next question ends the answer or opens nothing but the question."""
        before = [found for found in self.of(middle[: middle.index(USER)]) if found != self._bos]
        opening_answer = self.of(_between(middle, USER, ANSWER))
        opens_any_turn = before[:1] == [mark.text] and mark.text in opening_answer
        return not opens_any_turn


def _marks(token: Any) -> bool:
    """Whether an added token can be a mark: special, or not a word or white space of the ordinary vocabulary."""
    text = token.content.strip()
    return bool(text) and (token.special or not (text[0].isalnum() or text[-1].isalnum()))


def _rendered(tokenizer: Tokenizer, contents: tuple[str, ...]) -> str | None:
    """The conversation's text, None where the template refuses it or leaves a message out."""
    turns = [content for content in contents if content != SYSTEM]
    messages = [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(turns)]
    if len(turns) < len(contents):
        messages.insert(0, {"role": "system", "content": SYSTEM})
    try:
        text = render_chat(tokenizer, messages, ANY_DATE, add_generation_prompt=False)
    except Exception:  # a template can raise anything; `extra_rl.tasks.prompts` reports it where prompts need it
        return None
    places = [text.find(content) for content in contents]
    return text if -1 not in places and places == sorted(places) else None


def _after(text: str | None, word: str) -> str:
    return "" if text is None else text.rpartition(word)[2]


def _between(text: str | None, left: str, right: str) -> str:
    return "" if text is None else text[text.index(left) + len(left) : text.rindex(right)]


def _text_end(after_last: str, between: str) -> str:
    """The text that ends a turn where no token does: what stands after the last answer and after one in the middle."""
    length = 0
    while length < min(len(after_last), len(between)) and after_last[length] == between[length]:
        length += 1
    return (after_last[:length] if between else after_last).strip()


def _turn_end_ids(end: TurnEnd | None) -> set[int]:
    return set() if end is None or end.token_id is None else {end.token_id}


def _note(end: TurnEnd, named: set[int], ids: set[int], tokenizer: Tokenizer, source: Path | str) -> None:
    if end.token_id is None:
        ends = ", ".join(repr(tokenizer.convert_ids_to_tokens(index)) for index in sorted(ids))
        note_once(
            f"{source}: the chat template ends a turn with the text {end.text!r}, which is no single token of this "
            f"tokenizer, so it does not end a response; {ends} does."
        )
    elif end.token_id not in named:
        note_once(
            f"{source}: the chat template ends a turn with {end.text!r}, which neither the generation config nor the "
            "tokenizer names as end of sequence; it is used as an end of response too."
        )


def _named(generation: Any, config: Any, tokenizer: Tokenizer) -> set[int]:
    """Ids of the generation config and of the tokenizer."""
    ids = set(_ids(generation))
    if _get(generation, "_from_model_config"):  # made by the library out of the model's config
        ids -= _accidental(config, tokenizer)
    return ids | ({tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set())


def _config_ids(config: Any, tokenizer: Tokenizer) -> set[int]:
    """Ids of the model's config and of its text part."""
    texts = _get(config, "text_config")
    return (set(_ids(config)) | set(_ids(texts))) - _accidental(config, tokenizer)


def _accidental(config: Any, tokenizer: Tokenizer) -> set[int]:
    """Ids that only the config's class names, and that are ordinary tokens here.

    A LlamaConfig without `eos_token_id` has 2, the end of Llama's own vocabulary; in another it may be `#`.
    """
    defaults = {index for part in (config, _get(config, "text_config")) for index in _class_default(part)}
    special = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    return {index for index in defaults - special if index < len(tokenizer)}


def _class_default(config: Any) -> Iterator[int]:
    if config is None:
        return iter(())
    if not isinstance(config, Mapping):
        return _ids(type(config))
    from transformers import CONFIG_MAPPING

    known = config.get("model_type") in CONFIG_MAPPING
    return _ids(CONFIG_MAPPING[config["model_type"]]) if known else iter(())


def _ids(config: Any) -> Iterator[int]:
    """The ids of `eos_token_id`: one, several or none; -1 stands for none."""
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
