"""Exports of policies: what plain transformers and vLLM read, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from extra_cli.main import main
from extra_rl.errors import InputError, ModelError
from extra_rl.export import folder as exporting
from extra_rl.export.folder import export
from extra_rl.export.hub import push
from extra_rl.export.place import find
from extra_rl.models import tokenizers
from extra_rl.models.policy import load_policy, load_policy_model, load_tokenizer, save_policy, write_same_policy
from extra_rl.models.removed import write_removed
from extra_rl.tables.checksum import FOOTER_KEY
from extra_rl.tables.files import read_footer
from tests.conftest import POLICY, Run, copy_of
from tests.models import random_model

PROMPT = "12 + 7 - 4 ="
PLAIN = """
import json, sys
sys.modules["extra_rl"] = None  # any import of it raises ImportError
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
given = tokenizer(text, return_tensors="pt")["input_ids"]
with torch.inference_mode():
    logits = model(input_ids=given).logits[0]
    made = model.generate(input_ids=given, do_sample=False, max_new_tokens=12)[0, given.shape[1]:]
torch.save(logits, out)
print(json.dumps({"tokens": made.tolist(), "text": tokenizer.decode(made), "dtype": str(model.dtype),
                  "prompt": given[0].tolist(), "template": bool(tokenizer.chat_template)}))
"""


def read_by_transformers(folder: Path, text: str, workdir: Path) -> tuple[dict[str, Any], torch.Tensor]:
    """What a process without this package reads in an export: tokens, greedy continuation, logits."""
    out = workdir / "logits.pt"
    command = [sys.executable, "-c", PLAIN, str(folder), text, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=workdir)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), torch.load(out)


def own(manifest: Path, text: str) -> tuple[dict[str, Any], torch.Tensor]:
    """The same by this package, token by token."""
    policy = load_policy(manifest)
    tokens = list(policy.tokenizer(text)["input_ids"])
    made: list[int] = []
    with torch.inference_mode():
        logits = policy.model(input_ids=torch.tensor([tokens])).logits[0]
        while len(made) < 12 and (not made or made[-1] not in policy.eos_token_ids):
            made.append(int(policy.model(input_ids=torch.tensor([tokens + made])).logits[0, -1].argmax()))
    return {"tokens": made, "text": policy.tokenizer.decode(made), "prompt": tokens}, logits


def saved(manifest: Path, model: Any, tokenizer: Any, **provenance: Any) -> Path:
    save_policy(manifest, model, tokenizer, provenance)
    return manifest


def words_policy(folder: Path) -> Path:
    """The policy of tests/data, as a run's warm start writes it."""
    return saved(
        folder / "policy" / "manifest.json", load_policy_model(POLICY / "manifest.json"), load_tokenizer(POLICY)
    )


def sharded_policy(folder: Path) -> Path:
    """An untied Llama in several shards, with the byte tokenizer and its chat template."""
    tokenizer = tokenizers.byte_level()
    model = random_model("Llama", vocab_size=len(tokenizer), tie_word_embeddings=False, max_position_embeddings=128)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    save = model.save_pretrained
    model.save_pretrained = lambda place, **options: save(place, max_shard_size="40KB", **options)
    return saved(folder / "policy" / "manifest.json", model, tokenizer)


@pytest.mark.parametrize("make", [words_policy, sharded_policy], ids=["words", "sharded, bytes"])
def test_transformers_reads_an_export_without_this_package(make: Any, tmp_path: Path) -> None:
    manifest = make(tmp_path / "run")
    same = tmp_path / "run" / "later" / "policy" / "manifest.json"
    write_same_policy(same, manifest, {"name": "later"})
    assert not (same.parent / "config.json").exists()  # a manifest that points elsewhere
    export(find(same.parent), tmp_path / "out")
    text = PROMPT if make is words_policy else "What is 2 + 2?"
    found, logits = read_by_transformers(tmp_path / "out", text, tmp_path)
    expected, expected_logits = own(manifest, text)
    assert (found["prompt"], found["tokens"], found["text"]) == tuple(expected[k] for k in ("prompt", "tokens", "text"))
    torch.testing.assert_close(logits, expected_logits, atol=1e-5, rtol=0)
    assert found["dtype"] == "torch.float32"
    assert found["template"] == (make is sharded_policy)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == (1 if make is words_policy else 4)


@pytest.mark.parametrize("make", [words_policy, sharded_policy], ids=["tied", "sharded"])
def test_weights_are_converted_and_keep_names_shards_and_tied_heads(make: Any, tmp_path: Path) -> None:
    manifest = make(tmp_path / "run")
    export(find(manifest), tmp_path / "out", dtype="bfloat16")
    before: dict[str, torch.Tensor] = {}
    after: dict[str, torch.Tensor] = {}
    for path in manifest.parent.glob("model*.safetensors"):
        before |= load_file(path)
        after |= load_file(tmp_path / "out" / path.name)
    assert before.keys() == after.keys()
    assert ("lm_head.weight" in after) == (make is sharded_policy)
    assert all(torch.equal(after[name], value.bfloat16()) for name, value in before.items())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    if make is sharded_policy:
        index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(value.numel() * 2 for value in after.values())
    found, _ = read_by_transformers(tmp_path / "out", PROMPT if make is words_policy else "a", tmp_path)
    assert found["dtype"] == "torch.bfloat16"


def test_a_weight_that_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    model = load_policy_model(POLICY / "manifest.json")
    model.model.norm.weight.data[3] = 70000.0
    manifest = saved(tmp_path / "policy" / "manifest.json", model, load_tokenizer(POLICY))
    with pytest.raises(ModelError, match=r"model\.norm\.weight has weights up to 7e\+04, which float16 cannot hold"):
        export(find(manifest), tmp_path / "out", dtype="float16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy"]


def test_the_generation_config_has_the_ends_and_the_sampling_of_the_run(tmp_path: Path) -> None:
    tokenizer = tokenizers.byte_level()
    model = random_model("Llama", vocab_size=len(tokenizer))
    model.generation_config.eos_token_id = 5  # the chat template ends a turn with another token
    sampling = {"temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_response_tokens": 99}
    job = {"stage": "update", "config": {"sampling": sampling}}
    manifest = saved(tmp_path / "policy" / "manifest.json", model, tokenizer, job=job)
    ends = load_policy(manifest).eos_token_ids
    assert set(ends) >= {5, tokenizer.eos_token_id}
    export(find(manifest), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert found["eos_token_id"] == list(ends)
    expected = {"do_sample": True, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_new_tokens": 99}
    assert found | expected == found
    assert "_from_model_config" not in found


def test_weights_that_retention_has_removed_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    manifest = words_policy(tmp_path / "run")
    write_removed(manifest.parent, {"model.safetensors": "retention.weights_every: 3"})
    (manifest.parent / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors was removed \(retention\.weights_every: 3\)"):
        export(find(manifest), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    manifest = words_policy(tmp_path / "run")
    file = manifest.parent / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-8] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors is not the file that .*manifest\.json lists"):
        export(find(manifest), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_kept_unless_it_is_an_export_to_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, out = words_policy(tmp_path / "run"), tmp_path / "out"
    out.mkdir()
    export(find(manifest), out)  # an empty folder is free
    with pytest.raises(InputError, match=r"exists already\. Name another folder, or add --force"):
        export(find(manifest), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fails(*_: Any) -> None:
        raise InputError("no card")

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "_write_card", fails)
        with pytest.raises(InputError, match="no card"):
            export(find(manifest), out, force=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    export(find(manifest), out, dtype="bfloat16", force=True)
    assert (out / "model.safetensors").stat().st_size < len(before["model.safetensors"])
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").touch()
    with pytest.raises(InputError, match="is not an export, and --force does not replace it"):
        export(find(manifest), other, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out", "run"]


def test_the_card_has_the_figures_of_the_run(mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import polars as pl

    from extra_rl.report.provenance import config_digest, footers, sections
    from extra_rl.report.sources import find as sources_of

    out = tmp_path / "mini"
    assert main(["export", str(mini_run.results), str(out), "--arm", "extra"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: extra/s0/i2/policy (")
    assert "README.md states no licence" in said
    card = (out / "README.md").read_text()
    figures = pl.read_parquet(mini_run.results / "extra" / "s0" / "iteration_0002" / "evaluate_figures.parquet")
    row = figures.filter(metric="pass_at_k", benchmark="mean", k=4).row(0, named=True)
    assert f"| this policy | mean | {row['problems']} | pass@4 | {row['value']:.1f} | {row['low']:.1f} to " in card
    assert "| initial policy | mean |" in card
    digest = config_digest(sections(footers(sources_of(mini_run.results))))
    assert f"| configuration | SHA-256 {digest} |" in card
    assert "| training problems | L1 20, L2 20, " in card
    assert "license:" not in card
    assert "## Licence\nNot stated" in card
    found = json.loads((out / "extra_export.json").read_text())
    assert found["facts"]["arm"] == "extra"
    assert found["files"].keys() >= {"model.safetensors", "README.md"}


def test_policies_that_do_not_exist_are_refused_with_those_that_do(mini_run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"several policies could be meant\. Choose one of: --arm extra --seed 0, --arm g"
    ):
        find(mini_run.results)
    with pytest.raises(InputError, match="no policy of iteration 7; it has those of iterations 0 to 2"):
        find(mini_run.results, arm="extra", iteration=7)
    with pytest.raises(InputError, match="there is no such arm or seed"):
        find(mini_run.results, arm="extra", seed=3)
    with pytest.raises(InputError, match="is one policy: --arm"):
        find(mini_run.results / "warm_start", arm="extra")
    with pytest.raises(InputError, match="no policy there"):
        find(tmp_path)
    folder = mini_run.results / "grpo" / "s0" / "iteration_0001"
    assert find(folder).manifest == folder / "policy" / "manifest.json"


class Api:
    """Stands in for huggingface_hub.HfApi."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.calls = error, []  # type: ignore[var-annotated]

    def create_repo(self, **given: Any) -> None:
        self.calls.append(given)
        if self.error:
            raise self.error

    def upload_folder(self, **given: Any) -> str:
        self.calls.append(given)
        return "https://hub/me/tiny/commit/1"


def test_an_export_is_uploaded_or_kept_with_one_error(tmp_path: Path) -> None:
    api = Api()
    assert push(tmp_path, "me/tiny", private=True, api=api) == "https://hub/me/tiny/commit/1"
    assert api.calls[0] == {"repo_id": "me/tiny", "private": True, "exist_ok": True}
    assert (api.calls[1]["repo_id"], api.calls[1]["folder_path"]) == ("me/tiny", str(tmp_path))
    for error in (ConnectionError("no route\nat all"), ValueError("Token is required")):
        with pytest.raises(
            InputError, match=r"failed \((no route|Token is required)\)\. The export is whole in .*hf upload"
        ):
            push(tmp_path, "me/tiny", private=False, api=Api(error))
    with pytest.raises(InputError, match="name a repository as OWNER/NAME"):
        push(tmp_path, "tiny", private=False, api=Api())


def test_without_a_network_the_export_stays_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("extra_rl.export.hub.open_hub", lambda: Api(ConnectionError("offline")))
    shutil.copytree(POLICY, tmp_path / "policy")
    arguments = ["export", str(tmp_path / "policy"), str(tmp_path / "out"), "--push-to-hub", "me/tiny"]
    assert main(arguments) == 2
    assert "the upload to me/tiny failed (offline). The export is whole in" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_the_card_names_a_schedule_and_weighted_rewards(mini_run: Run, tmp_path: Path) -> None:
    import polars as pl

    run = copy_of(mini_run, tmp_path / "run")
    configuration = run.results / "configuration.yaml"
    configuration.write_text(configuration.read_text() + "schedule: [{from: 2, verify.weights.correct: 2}]\n")
    table = run.results / "extra" / "s0" / "iteration_0002" / "verify_generate.parquet"
    footer = read_footer(table)[0]
    footer["job"]["config"]["weights"] = {"correct": 2, "length": -0.01}
    pl.read_parquet(table).write_parquet(table, metadata={FOOTER_KEY.decode(): json.dumps(footer)})
    assert main(["export", str(run.results), str(tmp_path / "out"), "--arm", "extra"]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| reward | 2 correct - 0.01 length |" in card
    assert '| schedule | {"from":2,"verify.weights.correct":2} |' in card
