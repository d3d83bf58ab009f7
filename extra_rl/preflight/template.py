"""Rendering of a model's chat template without its tokenizer, in the sandbox that transformers renders it in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from extra_rl.config.sections import TaskConfig
from extra_rl.models.chat_template import DATE_STRING, reason_of
from extra_rl.models.files import read_json

TOKENIZER_CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
QUESTION = "1 + 1 = ?"


def fault_of_template(directory: Path, task: TaskConfig) -> str | None:
    """Return why the chat template of a model's directory cannot render a problem; None where it can, or there is none.

    Raises ModelError where the tokenizer's configuration is not readable.
    """
    config = read_json(directory / TOKENIZER_CONFIG) if (directory / TOKENIZER_CONFIG).is_file() else {}
    file = directory / TEMPLATE
    template = file.read_text(encoding="utf-8") if file.is_file() else _named(config.get("chat_template"))
    if not template:
        return None
    where = file if file.is_file() else directory / TOKENIZER_CONFIG
    switches = {} if task.thinking is None else {"enable_thinking": task.thinking}
    variables = {**{name: _text(config.get(name), name) for name in SPECIAL}, **switches}
    question = {"role": "user", "content": QUESTION + task.suffix}
    system = [{"role": "system", "content": task.system}] if task.system else []
    remedies = ["mend it, or set task.chat_template: false, which sends the bare text"]
    try:
        render = _compiled(template, task.date)
        render([question], variables)
        remedies.insert(0, "leave task.system empty, or put its text into task.suffix")
        render([*system, question], variables)
    except Exception as error:  # a template is a program of its own: it can raise anything
        return f"{where}: the chat template fails to render ({reason_of(error)}): {remedies[0]}"
    return None


def _compiled(template: str, date: str) -> Callable[[Sequence[dict[str, str]], dict[str, Any]], str]:
    """A function of messages and variables; jinja2's errors where the template is no valid program."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The tag `generation` around an assistant's answer, which changes nothing here."""

        tags = {"generation"}  # noqa: RUF012 - jinja2 reads a class attribute

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    midnight = datetime.fromisoformat(date)
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = midnight.strftime
    compiled = environment.from_string(template)

    def render(messages: Sequence[dict[str, str]], variables: dict[str, Any]) -> str:
        return compiled.render(
            messages=[dict(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            date_string=midnight.strftime(DATE_STRING),
            **variables,
        )

    return render


def _named(template: Any) -> str | None:
    """The template; of several by name the one that is called default."""
    if isinstance(template, list):
        template = {entry.get("name"): entry.get("template") for entry in template}.get("default")
    return template if isinstance(template, str) else None


def _text(token: Any, name: str) -> str:
    """A special token's text; a stand-in where the configuration names none, since the tokenizer's class may."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else f"<{name}>"
