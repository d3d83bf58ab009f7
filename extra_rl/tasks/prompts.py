"""From a problem's text to what the model reads: examples, suffix, system message, chat template, token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from extra_rl.config.sections import TaskConfig
from extra_rl.errors import ModelError
from extra_rl.models.chat_template import name_of, note_once, reason_of, render_chat
from extra_rl.models.protocol import Tokenizer

QUESTION, SYSTEM = "Questionqxz", "Systemqxz"
"""Messages that are rendered first, to see what the template does with them."""

Example = tuple[str, str]
"""A problem's text and a worked solution."""

REPEATS = 8
OTHER_DATES = ("1999-12-31", "2001-02-03")
NO_TEMPLATE = "set task.chat_template: false, which sends the bare text"


def uses_chat(task: TaskConfig, tokenizer: Tokenizer) -> bool:
    """Whether prompts are rendered by the tokenizer's chat template."""
    return task.chat_template and bool(getattr(tokenizer, "chat_template", None))


def render(
    texts: Sequence[str], task: TaskConfig, tokenizer: Tokenizer, examples: Sequence[Example] = ()
) -> list[tuple[str, list[int]]]:
    """Prompt and token ids of each text. Exactly this is sent; `prompt` and `prompt_tokens` of a problem keep it.

    The bare text, with the tokenizer's own special tokens, where it has no chat template or `task.chat_template` is
    false; `task.system` and each example are lines above it. Otherwise the template writes the special tokens, and none
    is added to them; each example is a turn before the problem. `task.thinking` is passed to the template as
    `enable_thinking`; a template may ignore it. `task.date` stands for today.
    Raises ModelError where the template cannot be used for these prompts, or the tokenizer has no tokens for a text.
    """
    texts = [text + task.suffix for text in texts]
    shown = [(problem + task.suffix, solution) for problem, solution in examples]
    if not uses_chat(task, tokenizer):
        above = (f"{task.system}\n" if task.system else "") + "".join(f"{asked} {answer}\n" for asked, answer in shown)
        prompts = _with_tokens([above + text for text in texts], tokenizer, add_special_tokens=True)
        if not above:
            _note_first_token(prompts, tokenizer)
        return prompts
    return _with_tokens(_conversations(texts, task, tokenizer, shown), tokenizer, add_special_tokens=False)


def _note_first_token(prompts: Sequence[tuple[str, list[int]]], tokenizer: Tokenizer) -> None:
    """A note where a pretrained model's first token is the problem's own: many read little of what stands there, as the
    first position serves their attention as a sink (arXiv 2309.17453)."""
    pretrained = getattr(tokenizer, "name_or_path", "") and len({tokens[0] for _, tokens in prompts if tokens}) > 1
    if pretrained:
        note_once(
            f"{name_of(tokenizer)}: the tokenizer puts nothing before a prompt, so that each begins with the problem "
            "itself, and many models read little of their first token: give task.system, which is the first line of "
            "bare text, or task.examples."
        )


def _conversations(
    texts: Sequence[str], task: TaskConfig, tokenizer: Tokenizer, examples: Sequence[Example]
) -> list[str]:
    """Each text as a user's message in the template. Raises ModelError where the template cannot be used."""
    if not texts:
        return []
    turns = [
        {"role": role, "content": text}
        for example in examples
        for role, text in zip(("user", "assistant"), example, strict=True)
    ]

    def chat(text: str, **changed: Any) -> str:
        settings = task.model_copy(update=changed)
        switches = {} if settings.thinking is None else {"enable_thinking": settings.thinking}
        system = [{"role": "system", "content": settings.system}] if settings.system else []
        return render_chat(tokenizer, [*system, *turns, {"role": "user", "content": text}], settings.date, **switches)

    try:
        _check_template(chat, task, name_of(tokenizer))
        _refuse_lost_examples(chat(QUESTION), examples, name_of(tokenizer))
        return [chat(text) for text in texts]
    except ModelError:
        raise
    except Exception as error:  # a template is a program of its own: it can raise anything
        raise ModelError(
            f"{name_of(tokenizer)}: the chat template fails ({reason_of(error)}): {_remedy(chat, task)}."
        ) from error


def _check_template(chat: Callable[..., str], task: TaskConfig, name: str) -> None:
    """ModelError for a template that loses a message or is not a function of it; a note where it writes a date."""
    first = chat(QUESTION)
    if QUESTION not in first:
        raise ModelError(
            f"{name}: the chat template writes {'nothing' if not first.strip() else 'no user message'}, so the problem "
            f"would not be in the prompt: mend the template, or {NO_TEMPLATE}."
        )
    if task.system and SYSTEM not in chat(QUESTION, system=SYSTEM):
        raise ModelError(
            f"{name}: the chat template leaves the system message out: leave task.system empty or put its text into "
            "task.suffix."
        )
    if any(chat(QUESTION) != first for _ in range(REPEATS)):
        raise ModelError(
            f"{name}: the chat template writes another text for the same message each time, so prompts could not be "
            f"repeated: mend the template, or {NO_TEMPLATE}."
        )
    if any(chat(QUESTION, date=other) != first for other in OTHER_DATES):
        note_once(f"{name}: the chat template writes a date; it is fixed to {task.date} (task.date).")


def _refuse_lost_examples(rendered: str, examples: Sequence[Example], name: str) -> None:
    """ModelError where a template leaves an example out or shortens it."""
    for number, text in enumerate(text for example in examples for text in example):
        if text.strip() not in rendered:
            raise ModelError(
                f"{name}: the chat template does not write the {('problem', 'solution')[number % 2]} of example "
                f"{number // 2 + 1} as it is given: set task.examples: 0, or {NO_TEMPLATE}."
            )


def _remedy(chat: Callable[..., str], task: TaskConfig) -> str:
    """What to do about a template that fails, by what it does not fail without."""
    remedies: list[tuple[bool, dict[str, Any], str]] = [
        (bool(task.system), {"system": ""}, "leave task.system empty or put its text into task.suffix"),
        (task.thinking is not None, {"thinking": None}, "leave task.thinking null"),
    ]
    for applies, changed, remedy in remedies:
        if applies and _works(chat, changed):
            return f"{remedy}, or {NO_TEMPLATE}"
    return f"mend the template, or {NO_TEMPLATE}"


def _works(chat: Callable[..., str], changed: dict[str, Any]) -> bool:
    try:
        return QUESTION in chat(QUESTION, **changed)
    except Exception:  # the answer to the question
        return False


def _with_tokens(prompts: list[str], tokenizer: Tokenizer, *, add_special_tokens: bool) -> list[tuple[str, list[int]]]:
    if not prompts:
        return []
    try:
        tokens: list[list[int]] = tokenizer(prompts, add_special_tokens=add_special_tokens)["input_ids"]
    except Exception as error:  # the tokenizers library raises nothing more special
        raise ModelError(
            f"the model's tokenizer cannot read these problems ({error}). Its vocabulary is made for another task: "
            "evaluate this policy on the problems it was trained for."
        ) from error
    return list(zip(prompts, tokens, strict=True))
