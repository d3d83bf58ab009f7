"""Prompts as they are sent: template, system message, suffix, thinking."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import yaml

from extra_rl.config.section import parse_config
from extra_rl.config.sections import TaskConfig
from extra_rl.errors import ConfigError, ModelError
from extra_rl.models import chat_template
from extra_rl.models.tokenizers import byte_level, word_level
from extra_rl.tasks.prompts import render
from extra_rl.tasks.signed_sum import TASK
from tests import chat_families as families
from tests.chat_families import tokenizer_with

USER = "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("section", "prompt"),
    [
        ({}, USER),
        ({"suffix": " Box it."}, USER.replace("1 + 1?", "1 + 1? Box it.")),
        ({"system": "Be brief."}, f"<|im_start|>system\nBe brief.<|im_end|>\n{USER}"),
        ({"thinking": True}, USER),
        ({"thinking": False}, f"{USER}<think>\n\n</think>\n\n"),
        ({"chat_template": False, "suffix": " Box it.", "thinking": False}, "1 + 1? Box it."),
    ],
)
def test_the_exact_text(section: dict[str, Any], prompt: str) -> None:
    tokenizer = byte_level()
    ((text, tokens),) = render(["1 + 1?"], TaskConfig(name="math", **section), tokenizer)
    assert text == prompt
    assert tokenizer.decode(tokens) == prompt
    assert tokens.count(tokenizer.eos_token_id) == prompt.count("<|im_end|>")  # a turn's mark is one token


def test_without_a_template_the_text_has_the_tokenizers_own_special_tokens() -> None:
    tokenizer = word_level(TASK.vocabulary)
    ((text, tokens),) = render(["4 12 :"], TaskConfig(), tokenizer)
    assert text == "4 12 :"
    assert tokens == tokenizer("4 12 :")["input_ids"]
    assert tokens[0] == tokenizer.bos_token_id


def test_prompts_keep_their_order() -> None:
    texts = ["b" * 300, "a", "c"]
    prompts = [prompt for prompt, _ in render(texts, TaskConfig(chat_template=False), byte_level())]
    assert prompts == texts
    assert render([], TaskConfig(), byte_level()) == []


def test_a_tokenizer_of_another_task_is_one_clear_error() -> None:
    with pytest.raises(ModelError, match="tokenizer cannot read these problems"):
        render(["What is the least prime?"], TaskConfig(name="math"), word_level(TASK.vocabulary))


def prompt_of(template: Any, special: list[str] | None = None, bos: str | None = None, **section: Any) -> str:
    tokenizer = tokenizer_with(template, special or [], bos=bos)
    ((prompt, _),) = render(["1 + 1?"], TaskConfig(name="math", **section), tokenizer)
    return prompt


def refusal_of(template: Any, **section: Any) -> str:
    with pytest.raises(ModelError) as refused:
        prompt_of(template, **section)
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    return message


def test_the_error_for_a_refused_system_message_names_the_remedy() -> None:
    message = refusal_of(families.GEMMA, bos="<bos>", system="Be brief.")
    assert "System role not supported" in message
    assert "leave task.system empty or put its text into task.suffix" in message
    assert "1 + 1? Be brief.<end_of_turn>" in prompt_of(families.GEMMA, bos="<bos>", suffix=" Be brief.")


def test_a_system_message_that_is_left_out_is_refused() -> None:
    template = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    assert "leaves the system message out" in refusal_of(template, system="Be brief.")
    assert prompt_of(template) == "1 + 1?"


@pytest.mark.parametrize(
    ("template", "found"),
    [
        (families.BROKEN, "TemplateSyntaxError"),
        ("{{ messages[0].content | no_such_filter }}", "no_such_filter"),
        ("{{ nothing.of.it }}{{ messages[0].content }}", "UndefinedError: 'nothing' is undefined"),
        ("{{ raise_exception('roles must\nalternate') }}", "TemplateError: roles must alternate"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ ''.__class__.__mro__ }}{{ messages[0].content }}", "SecurityError"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "RecursionError"),
        ({"a": families.CHATML, "b": families.CHATML}, "multiple chat templates"),
    ],
    ids=["syntax", "filter", "undefined", "raises", "type", "sandbox", "recursion", "no default"],
)
def test_a_template_that_fails_is_one_clear_line(template: Any, found: str) -> None:
    message = refusal_of(template, system="Be brief.", thinking=True)
    assert found in message
    assert "task.chat_template: false" in message


def test_the_error_of_another_failure_does_not_name_the_system_message() -> None:
    assert "task.system" not in refusal_of("{{ raise_exception('no') }}")


def test_the_error_for_a_refused_thinking_switch_names_it() -> None:
    template = "{% if enable_thinking %}{{ raise_exception('no thinking') }}{% endif %}" + families.CHATML
    assert "leave task.thinking null" in refusal_of(template, thinking=True)


def test_the_tokenizer_is_named() -> None:
    tokenizer = tokenizer_with(families.BROKEN)
    tokenizer.name_or_path = "some/model"
    with pytest.raises(ModelError, match=r"^some/model: the chat template fails"):
        render(["1 + 1?"], TaskConfig(name="math"), tokenizer)


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{% if false %}{{ messages }}{% endif %}", "writes nothing"),
        ("Hello!", "writes no user message"),
        ("{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}", "writes nothing"),
        ("{{ messages[0].content }}{{ range(100000) | random }}", "another text for the same message"),
        ("{{ messages[0].content }}{{ [1, 2] | random }}", "another text for the same message"),
    ],
    ids=["nothing", "constant", "parts only", "random", "one of two"],
)
def test_a_template_whose_prompts_are_no_function_of_the_problem_is_refused(template: str, found: str) -> None:
    assert found in refusal_of(template)


def test_a_template_that_is_not_used_may_be_broken() -> None:
    assert prompt_of(families.BROKEN, chat_template=False) == "1 + 1?"
    assert render([], TaskConfig(name="math"), tokenizer_with(families.BROKEN)) == []


@pytest.mark.parametrize(
    ("template", "default", "other"),
    [
        (families.LLAMA3, "Today Date: 26 Jul 2024\n", "Today Date: 01 Feb 2030\n"),
        ("{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}D {{ date_string }}\n"
         + families.CHATML, "D 26 Jul 2024\n", "D 01 Feb 2030\n"),
        (families.GPT_OSS, "Current date: 2024-07-26<", "Current date: 2030-02-01<"),
        ("{{ strftime_now('%d %b %Y %H:%M:%S') }}\n" + families.CHATML, "26 Jul 2024 00:00:00\n",
         "01 Feb 2030 00:00:00\n"),
        ("{% macro now() %}{{ strftime_now('%A') }}{% endmacro %}{{ now() }}\n" + families.CHATML, "Friday\n",
         "Friday\n"),
    ],
    ids=["llama 3.2", "llama 3.1", "gpt-oss", "time of day", "in a macro"],
)  # fmt: skip
def test_a_template_reads_the_configured_date_and_says_so_once(
    template: str, default: str, other: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chat_template, "_noted", set())
    assert default in prompt_of(template, bos="<bos>")
    assert prompt_of(template, bos="<bos>") == prompt_of(template, bos="<bos>")
    note = capsys.readouterr().err
    assert len(note.splitlines()) == 1
    assert "writes a date; it is fixed to 2024-07-26 (task.date)" in note
    assert other in prompt_of(template, bos="<bos>", date="2030-02-01")


def test_nothing_is_said_of_a_template_without_a_date(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chat_template, "_noted", set())
    prompt_of(families.CHATML)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["2030-02-01", "'2030-02-01'", "'20300201'"])
def test_a_date_is_read_quoted_or_not(text: str) -> None:
    assert TaskConfig(date=yaml.safe_load(text)).model_dump()["date"] == "2030-02-01"


@pytest.mark.parametrize("given", ["today", "2030-02-30", 2030, datetime.datetime(2030, 2, 1), None])
def test_what_is_no_date_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="date"):
        parse_config(TaskConfig, {"date": given}, "task")


def test_the_template_writes_the_beginning_of_the_sequence_and_none_is_added() -> None:
    from tokenizers import processors

    tokenizer = tokenizer_with(families.MISTRAL, ["[INST]", "[/INST]"], bos="<s>")
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", bos)])
    ((_, with_template),) = render(["1 + 1?"], TaskConfig(name="math"), tokenizer)
    ((_, bare),) = render(["1 + 1?"], TaskConfig(name="math", chat_template=False), tokenizer)
    assert with_template.count(bos) == bare.count(bos) == 1
    assert with_template[0] == bare[0] == bos


def test_a_first_token_that_is_the_problems_own_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = byte_level()
    tokenizer.name_or_path = "a/model-that-has-no-bos"
    task = TaskConfig(chat_template=False)
    render(["3 4 :", "5 6 :"], task.model_copy(update={"system": "Add."}), tokenizer)
    assert capsys.readouterr().err == ""
    render(["3 4 :", "5 6 :"], task, tokenizer)
    note = capsys.readouterr().err
    assert note.count("a/model-that-has-no-bos") == 1
    assert "task.system" in note
    words = word_level(TASK.vocabulary)
    words.name_or_path = "a/model-that-has-one"
    render(["3 4 :", "5 6 :"], task, words)
    assert capsys.readouterr().err == ""
