"""Generation configs that transformers refuses to read or to save do not stop a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extra_rl.errors import ModelError
from extra_rl.models.policy import load_model, load_policy, load_tokenizer, save_policy
from tests.loading.checkpoints import change_json, checkpoint


def saved(folder: Path, tmp_path: Path) -> dict[str, Any]:
    """The generation config of a policy that was loaded from `folder` and saved."""
    manifest = tmp_path / "saved" / "manifest.json"
    save_policy(manifest, load_model(folder), load_tokenizer(folder), {})
    assert load_policy(manifest).eos_token_ids == (2, 7)
    found: dict[str, Any] = json.loads((manifest.parent / "generation_config.json").read_text())
    return found


@pytest.mark.parametrize(
    ("content", "how"),
    [
        ({"temperature": 0.6, "top_p": 0.9}, "set do_sample: true"),
        ({"temperature": 0.6, "do_sample": False}, "set do_sample: true"),
        ({"top_k": 5}, "set do_sample: true"),
        ({"temperature": "hot", "early_stopping": 3}, "kept only eos_token_id"),
        ({"length_penalty": 2.0}, "kept only eos_token_id"),
        ({"cache_implementation": "none"}, "kept only eos_token_id"),
        ({"max_new_tokens": 0}, "kept only eos_token_id"),
        ({"num_beams": 4, "num_return_sequences": 5}, "kept only eos_token_id"),
        ({"compile_config": {}}, "kept only eos_token_id"),
        ({"watermarking_config": {"a": 1}}, "kept only eos_token_id"),
        ({"pad_token_id": -1}, "dropped pad_token_id"),
    ],
)
def test_it_is_repaired_with_a_warning(
    tmp_path: Path, content: dict[str, Any], how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "given")
    file = folder / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": [2, 7], **content}))
    capfd.readouterr()
    found = saved(folder, tmp_path)
    printed = capfd.readouterr().err
    assert printed.startswith(f"WARNING {file}: ")
    assert f": {how}. " in printed
    assert printed.count("\n") == 1
    assert found["eos_token_id"] == [2, 7]
    if "do_sample" in how:
        assert found["do_sample"] is True
        assert all(found[key] == value for key, value in content.items() if key != "do_sample")


def test_a_valid_one_is_kept_and_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint(tmp_path / "given")
    given = {"eos_token_id": [2, 7], "do_sample": True, "temperature": 0.6, "top_k": 20}
    (folder / "generation_config.json").write_text(json.dumps(given))
    capfd.readouterr()
    found = saved(folder, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert {key: found[key] for key in given} == given


def test_sampling_settings_in_config_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint(tmp_path / "given")
    (folder / "generation_config.json").unlink()
    change_json(folder / "config.json", temperature=0.6, eos_token_id=[2, 7])
    capfd.readouterr()
    saved(folder, tmp_path)
    assert "set do_sample: true" in capfd.readouterr().err


@pytest.mark.parametrize("value", ["abc", [2, "x"], -3, {"a": 1}, True])
def test_an_end_that_is_not_a_token_id_is_refused(tmp_path: Path, value: object) -> None:
    folder = checkpoint(tmp_path)
    change_json(folder / "generation_config.json", eos_token_id=value)
    with pytest.raises(ModelError, match=r"generation_config\.json: eos_token_id"):
        load_model(folder)
