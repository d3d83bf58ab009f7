"""The prompts and responses of records as token ids and texts, checked against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from extra_rl.config.sections import TaskConfig
from extra_rl.errors import ExtraError
from extra_rl.imported.records import BadRowError, Finish, Record
from extra_rl.models.protocol import Tokenizer
from extra_rl.models.turns import known_end_ids
from extra_rl.sampling.text import response_decoder
from extra_rl.tasks.conversation import Conversation
from extra_rl.tasks.prompts import render

HIGHEST = 1e-4
"""A sampler may round the logprob of a certain token to slightly above 0, as in `contracts.Rollouts`."""


@dataclass(frozen=True)
class Prompt:
    """What the model read, and the problem's own text, which its verifier reads."""

    text: str
    tokens: list[int]
    statement: str


@dataclass(frozen=True)
class Response:
    """logprobs: None where they are not known."""

    text: str
    tokens: list[int]
    logprobs: list[float] | None
    finish: Finish


class Texts:
    """Turns the texts of records into token ids of one tokenizer, and back."""

    def __init__(self, tokenizer: Tokenizer, task: TaskConfig, stop: Sequence[str]) -> None:
        self._tokenizer, self._task = tokenizer, task
        self._ends = frozenset(known_end_ids(tokenizer))
        self._decode = response_decoder(tokenizer, self._ends, stop)
        self._vocabulary = max(tokenizer.get_vocab().values()) + 1
        self._prompts: dict[object, Prompt] = {}

    def prompt(self, record: Record) -> Prompt:
        """The prompt of a record: its own token ids, else those of its text, else the rendered problem.

        No special token is added to a text that the model read: those that it had stand in the text, or are lost.
        Raises BadRowError where there is none, or where the tokenizer cannot express it.
        """
        key = (
            tuple(record.prompt_tokens or ()),
            record.prompt,
            record.problem.messages if isinstance(record.problem, Conversation) else record.problem,
        )
        if key not in self._prompts:
            self._prompts[key] = self._made(record)
        return self._prompts[key]

    def _made(self, record: Record) -> Prompt:
        problem = record.problem
        statement = problem.text if isinstance(problem, Conversation) else problem
        if record.prompt_tokens is not None:
            self._require_known(record.prompt_tokens, "the prompt")
            text = record.prompt or str(self._tokenizer.decode(record.prompt_tokens, skip_special_tokens=False))
            tokens = record.prompt_tokens
        elif record.prompt is not None:
            text = record.prompt
            tokens = self._encoded(text, "the prompt")
        elif problem is not None and statement:
            try:
                ((text, tokens),) = render([problem], self._task, self._tokenizer)
            except ExtraError as error:
                raise BadRowError(f"the prompt cannot be rendered: {error}") from None
        else:
            raise BadRowError("no prompt")
        if not tokens:
            raise BadRowError("the prompt is empty")
        return Prompt(text, tokens, statement or text)

    def response(self, record: Record) -> Response:
        """The response of a record: its own token ids, which must decode to its text, else those of its text.

        Raises BadRowError where there is none, and where tokens, text and logprobs do not agree.
        """
        if record.tokens is None:
            return self._from_text(record)
        tokens = record.tokens
        if not tokens:
            raise BadRowError("the response has no tokens")
        self._require_known(tokens, "the response")
        (text,) = self._decode([tokens])
        if record.response is not None:
            known = {text, *(self._tokenizer.decode(tokens, skip_special_tokens=skip) for skip in (True, False))}
            if record.response.strip() not in {one.strip() for one in known}:
                raise BadRowError(
                    f"the response's tokens decode to {_short(text)}, its text is {_short(record.response)}"
                )
        finish: Finish = record.finish or ("stop" if tokens[-1] in self._ends else "length")
        return Response(text, tokens, self._logprobs(record, tokens), finish)

    def _from_text(self, record: Record) -> Response:
        if record.response is None:
            raise BadRowError("no response")
        if record.logprobs is not None:
            raise BadRowError("logprobs without the token ids that they belong to")
        try:
            record.response.encode()
        except UnicodeEncodeError:
            raise BadRowError("the response holds half of a surrogate pair, which is not text") from None
        tokens = self._encoded(record.response, "the response")
        if not tokens:  # the model ended at once: with which token, the text does not say
            if self._tokenizer.eos_token_id is None:
                raise BadRowError("the response is empty, and the tokenizer has no token for its end")
            tokens = [int(self._tokenizer.eos_token_id)]
        return Response(record.response, tokens, None, record.finish or "stop")

    def _logprobs(self, record: Record, tokens: Sequence[int]) -> list[float] | None:
        found = record.logprobs
        if found is None:
            return None
        if len(found) != len(tokens):
            raise BadRowError(f"{len(found)} logprobs for {len(tokens)} tokens of the response")
        if not all(math.isfinite(one) and one <= HIGHEST for one in found):
            worst = next(one for one in found if not (math.isfinite(one) and one <= HIGHEST))
            raise BadRowError(f"the logprob {worst} is not a finite number of 0 or less")
        return found

    def _encoded(self, text: str, what: str) -> list[int]:
        try:
            return [int(one) for one in self._tokenizer.encode(text, add_special_tokens=False)]
        except Exception as error:  # the tokenizers library raises no narrower class
            reason = str(error).splitlines()[0][:100]
            raise BadRowError(f"the tokenizer cannot express {what} {_short(text)} ({reason})") from None

    def _require_known(self, tokens: Sequence[int], what: str) -> None:
        if max(tokens, default=0) >= self._vocabulary:
            raise BadRowError(f"{what} has the token id {max(tokens)}, and the tokenizer has {self._vocabulary}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
