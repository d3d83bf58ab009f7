"""Prompts of problems: examples, suffix, system message, chat template, token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from extra_rl.config.sections import TaskConfig
from extra_rl.errors import InputError, ModelError
from extra_rl.models.chat_template import name_of, note_once, reason_of, render_chat
from extra_rl.models.protocol import Tokenizer
from extra_rl.tasks.conversation import Conversation, Message

QUESTION, SYSTEM = "Questionqxz", "Systemqxz"
"""Contents of the messages that are rendered first, to test the template."""

Example = tuple[str, str]
"""A problem's text and a worked solution."""

Prompt = str | Conversation
"""The content of a prompt: a problem's text, or a whole conversation."""

REPEATS = 8
OTHER_DATES = ("1999-12-31", "2001-02-03")
NO_TEMPLATE = "set task.chat_template: false, which sends the bare text"
END_OF_THINKING = "</think>"


def uses_chat(task: TaskConfig, tokenizer: Tokenizer) -> bool:
    """Return whether prompts are rendered by the tokenizer's chat template."""
    return task.chat_template and bool(getattr(tokenizer, "chat_template", None))


def render(
    problems: Sequence[Prompt], task: TaskConfig, tokenizer: Tokenizer, examples: Sequence[Example] = ()
) -> list[tuple[str, list[int]]]:
    """Return prompt and token ids of each problem, exactly as they are sent and stored (`prompt`, `prompt_tokens`).

    With a chat template, the template writes the special tokens and none is added. A text is a user message. A
    conversation is sent whole, and its system message replaces `task.system`. Each example is a turn before the
    problem, `task.suffix` follows the last message, `task.thinking` is passed as `enable_thinking` (a template may
    ignore it), and `task.date` replaces today's date.

    Without one (the tokenizer has none, or `task.chat_template` is false), the bare text is sent with the tokenizer's
    special tokens; the system message and each example are lines above it.

    Args:
        problems: texts or conversations.
        task: section of the configuration.
        tokenizer: of the policy.
        examples: shown in every prompt.

    Raises ModelError if the template cannot be used for any prompt or the tokenizer has no tokens for a text, and
    InputError, with file and row, if it cannot be used for one conversation.
    """
    shown = [(problem + task.suffix, solution) for problem, solution in examples]
    own = sum(isinstance(problem, Conversation) and problem.instruction is not None for problem in problems)
    if own and task.system:
        note_once(f"{own} of {len(problems)} conversations have their own system message, sent instead of task.system.")
    if uses_chat(task, tokenizer):
        return _with_tokens(_chats(problems, task, tokenizer, shown), tokenizer, add_special_tokens=False)
    above = "".join(f"{problem} {solution}\n" for problem, solution in shown)
    prompts = _with_tokens([_bare(problem, task, above) for problem in problems], tokenizer, add_special_tokens=True)
    if not above and not task.system:
        _note_first_token(prompts, tokenizer)
    return prompts


def _bare(problem: Prompt, task: TaskConfig, examples: str) -> str:
    """Return a prompt without a template. InputError for several turns, which bare text cannot represent."""
    system, text = task.system, problem
    if isinstance(problem, Conversation):
        if len(problem.turns) > 1:
            raise InputError(
                f"{problem.place}: a conversation of {len(problem.turns)} turns needs a chat template; the tokenizer "
                "has none, or task.chat_template is false."
            )
        system = problem.instruction.content if problem.instruction else task.system
        text = problem.turns[0].content
    return (f"{system}\n" if system else "") + f"{examples}{text}{task.suffix}"


def _note_first_token(prompts: Sequence[tuple[str, list[int]]], tokenizer: Tokenizer) -> None:
    """Print a note if the first token of a pretrained model's prompts belongs to the problem.

    Many models use the first position as an attention sink and make little use of its content (arXiv 2309.17453).
    """
    pretrained = getattr(tokenizer, "name_or_path", "") and len({tokens[0] for _, tokens in prompts if tokens}) > 1
    if pretrained:
        note_once(
            f"{name_of(tokenizer)}: the tokenizer adds no token before a prompt, so each begins with the problem, and "
            "many models make little use of their first token: set task.system, which is the first line of bare text, "
            "or task.examples."
        )


def _chats(
    problems: Sequence[Prompt], task: TaskConfig, tokenizer: Tokenizer, examples: Sequence[Example]
) -> list[str]:
    """Return each problem in the template. Raises ModelError or InputError if the template cannot be used."""
    if not problems:
        return []
    name = name_of(tokenizer)
    turns = [
        Message(role, text) for example in examples for role, text in zip(("user", "assistant"), example, strict=True)
    ]

    def chat(problem: Prompt, **changed: Any) -> str:
        settings = task.model_copy(update=changed)
        switches = {} if settings.thinking is None else {"enable_thinking": settings.thinking}
        messages = [{"role": m.role, "content": m.content} for m in _messages(problem, settings, turns)]
        return render_chat(tokenizer, messages, settings.date, **switches)

    try:
        _check_template(chat, task, name)
        _refuse_lost_examples(chat(QUESTION), examples, name)
        return [_whole(chat, p, task, name) if isinstance(p, Conversation) else chat(p) for p in problems]
    except (ModelError, InputError):
        raise
    except Exception as error:  # a template is a program: it can raise anything
        raise ModelError(f"{name}: the chat template fails ({reason_of(error)}): {_remedy(chat, task)}.") from error


def _messages(problem: Prompt, task: TaskConfig, examples: Sequence[Message]) -> list[Message]:
    """Return system message, examples, and the problem's turns with the suffix after the last one."""
    system = [Message("system", task.system)] if task.system else []
    turns: Sequence[Message] = [Message("user", problem)] if isinstance(problem, str) else problem.turns
    if isinstance(problem, Conversation) and problem.instruction:
        system = [problem.instruction]
    *earlier, last = turns
    return [*system, *examples, *earlier, Message(last.role, last.content + task.suffix)]


def _whole(chat: Callable[..., str], conversation: Conversation, task: TaskConfig, name: str) -> str:
    """Return the conversation in the template. InputError if the template refuses it or omits part of it."""
    roles = ", ".join(message.role for message in conversation.messages)
    try:
        rendered = chat(conversation)
    except Exception as error:  # a template is a program: it can raise anything
        raise InputError(
            f"{conversation.place}: the chat template of {name} refuses this conversation ({reason_of(error)}); its "
            f"roles: {roles}. Change or remove the row, or {NO_TEMPLATE} where there is one turn."
        ) from error
    position = 0
    for number, message in enumerate(_messages(conversation, task, ()), 1):
        # Qwen3 and others leave the thinking out of earlier turns on purpose.
        content = message.content.rpartition(END_OF_THINKING)[2] if message.role == "assistant" else message.content
        found = rendered.find(content.strip(), position)
        if found < 0:
            raise InputError(
                f"{conversation.place}: the chat template of {name} does not write message {number} ({message.role}) "
                f"of this conversation unchanged; its roles: {roles}. Change or remove the row."
            )
        position = found + len(content.strip())
    return rendered


def _check_template(chat: Callable[..., str], task: TaskConfig, name: str) -> None:
    """Raise ModelError for a template that omits a message or is not deterministic; note one that writes a date."""
    first = chat(QUESTION)
    if QUESTION not in first:
        raise ModelError(
            f"{name}: the chat template writes {'nothing' if not first.strip() else 'no user message'}, so the problem "
            f"would not be in the prompt: correct the template, or {NO_TEMPLATE}."
        )
    if task.system and SYSTEM not in chat(QUESTION, system=SYSTEM):
        raise ModelError(
            f"{name}: the chat template leaves the system message out: leave task.system empty or put its text into "
            "task.suffix."
        )
    if any(chat(QUESTION) != first for _ in range(REPEATS)):
        raise ModelError(
            f"{name}: the chat template writes another text for the same message each time, so prompts could not be "
            f"repeated: correct the template, or {NO_TEMPLATE}."
        )
    if any(chat(QUESTION, date=other) != first for other in OTHER_DATES):
        note_once(f"{name}: the chat template writes a date; it is fixed to {task.date} (task.date).")


def _refuse_lost_examples(rendered: str, examples: Sequence[Example], name: str) -> None:
    """Raise ModelError if a template omits or shortens an example."""
    for number, text in enumerate(text for example in examples for text in example):
        if text.strip() not in rendered:
            raise ModelError(
                f"{name}: the chat template does not write the {('problem', 'solution')[number % 2]} of example "
                f"{number // 2 + 1} unchanged: set task.examples: 0, or {NO_TEMPLATE}."
            )


def _remedy(chat: Callable[..., str], task: TaskConfig) -> str:
    """Return how to avoid the failure of a template: the setting without which it works, if there is one."""
    remedies: list[tuple[bool, dict[str, Any], str]] = [
        (bool(task.system), {"system": ""}, "leave task.system empty or put its text into task.suffix"),
        (task.thinking is not None, {"thinking": None}, "leave task.thinking null"),
    ]
    for applies, changed, remedy in remedies:
        if applies and _works(chat, changed):
            return f"{remedy}, or {NO_TEMPLATE}"
    return f"correct the template, or {NO_TEMPLATE}"


def _works(chat: Callable[..., str], changed: dict[str, Any]) -> bool:
    try:
        return QUESTION in chat(QUESTION, **changed)
    except Exception:  # a template can raise anything; it does not work then
        return False


def _with_tokens(prompts: list[str], tokenizer: Tokenizer, *, add_special_tokens: bool) -> list[tuple[str, list[int]]]:
    if not prompts:
        return []
    try:
        tokens: list[list[int]] = tokenizer(prompts, add_special_tokens=add_special_tokens)["input_ids"]
    except Exception as error:  # the tokenizers library raises no narrower class
        raise ModelError(
            f"the model's tokenizer cannot read these problems ({error}). Its vocabulary was made for another task: "
            "evaluate this policy on the problems that it was trained on."
        ) from error
    return list(zip(prompts, tokens, strict=True))
