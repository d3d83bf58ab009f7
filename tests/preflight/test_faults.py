"""What a configuration names outside itself is looked at before the first job; each fault is one line."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.config.sections import ModelConfig
from extra_rl.errors import ConfigError
from extra_rl.models.context import context_tokens_of, positions_of
from extra_rl.preflight.faults import missing_program, unwritable
from extra_rl.preflight.hub import fault_of_name, on_hub
from extra_rl.preflight.model import layers_of
from stages.experiment import experiment_of, preflight, refuse_without_training
from tests.conftest import POLICY, new_run

SAMPLE = {"name": "pre", "iterations": 1, "arms": {"grpo": {}, "extra": {}}}
GENERATED = {"prepare": {"train_per_level": {"L3": 4}}}
BYTES = {"source": "new", "tokenizer": "bytes"}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def faults(packages: bool = True, **changes: Any) -> list[str]:
    """The lines of the refusal; none where the run may start."""
    experiment = experiment_of(SAMPLE | GENERATED | changes)
    try:
        preflight(experiment, Path("results/pre"), packages=packages)
    except ConfigError as error:
        return [line.strip() for line in str(error).splitlines()[1:]]
    return []


def math(path: str, **keys: Any) -> dict[str, Any]:
    source = {"path": path, "problem": "problem", "answer": "answer", "id": "id", **keys}
    return {"task": {"name": "math", "train": source, "benchmarks": {"test": source}}, "model": BYTES, "prepare": {}}


def copied(tmp_path: Path, change: Callable[[Path], object] = lambda directory: None) -> str:
    """A model's directory with changed files."""
    directory = tmp_path / "model"
    shutil.copytree(POLICY, directory, ignore=shutil.ignore_patterns("manifest.json"))
    change(directory)
    return str(directory)


def edited(name: str, **values: Any) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        found = json.loads((directory / name).read_text())
        (directory / name).write_text(json.dumps(found | values))

    return change


def test_a_run_whose_files_are_there_may_start() -> None:
    assert faults() == []
    assert faults(model={"source": str(POLICY)}) == []
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"source": "/nonexistent/model"}}, "model.source: /nonexistent/model: there is no such directory"),
        ({"model": {"source": "package:no_such"}}, "model.source: package:no_such: there is no installed package"),
        ({"model": {"source": str(POLICY), "gguf_file": "x.gguf"}}, "x.gguf: there is no such file"),
        ({"model": {"source": str(POLICY), "context_tokens": 10**6}}, "model.context_tokens: 1,000,000 is more than"),
        ({"update": {"lora": {"targets": ["q_prj"]}}}, "update.lora.targets: the model has no layer q_prj"),
        ({"update": {"lora": {"targets": ["q_prj"]}}}, "did you mean `q_proj`?"),
        (
            {"update": {"lora": {"targets": ["lm_head"]}}, "model": {"source": str(POLICY)}},
            "update.lora.targets: the model has no layer lm_head",
        ),
        ({"arms": {"a": {}, "b": {"audit": "no-such-program"}}}, "arms.b: audit.judge: 'no-such-program': there is no"),
        ({"audit": f"{sys.executable} no_such.py"}, "there is no file no_such.py"),
        ({"novelty": {"sentence_model": "./nowhere"}}, "novelty.sentence_model: ./nowhere: there is no such directory"),
        ({"evaluate": {"cache": "/proc/x"}}, "evaluate.cache: cannot write to /proc/x"),
        ({"retention": {"optimizer_folder": "/proc/x"}}, "retention.optimizer_folder: cannot write to /proc/x"),
        ({"task": {"folder": "/nope"}}, "task.folder: /nope: there is no such directory"),
        (math("/no/such.parquet"), "task.train.train: /no/such.parquet: no such file"),
        ({"prepare": {}}, "prepare.train_per_level: there are no training problems"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_fault_is_one_line_at_its_key(changes: dict[str, Any], said: str) -> None:
    found = faults(**changes)
    assert sum(said in line for line in found) == 1, found


def test_columns_that_the_first_rows_have_not(tmp_path: Path) -> None:
    rows = {"id": ["a"], "problem": ["1 + 1"], "solution": ["2"], "reward": [{"truth": "2"}]}
    pl.DataFrame(rows).write_parquet("p.parquet")
    pl.DataFrame(rows).write_ndjson("p.jsonl")
    for path in ("p.parquet", "p.jsonl"):
        found = faults(**math(path, answer="truth"))
        assert found[0].startswith(f"task.train.train: {path}: no column truth (it has {', '.join(rows)})")
        assert len(found) == 2  # and of the benchmark
        assert faults(**math(path, answer="reward.truth")) == []
        assert "did you mean `reward`?" in faults(**math(path, answer="rewards"))[0]
        assert len(faults(**math(path, answer="reward.none"))) == 2
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    assert "not a readable Parquet file" in faults(**math("broken.parquet"))[0]


def test_what_a_run_has_made_is_not_looked_at_again() -> None:
    changes = {**math("/no/such.parquet"), "model": {"source": "/nonexistent/model"}}
    assert len(faults(**changes)) == 3
    for name in ("prepare/train.parquet", "warm_start/policy/manifest.json"):
        path = Path("results/pre") / name
        path.parent.mkdir(parents=True)
        path.touch()
    assert faults(**changes) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: (model / "config.json").unlink(), "config.json: there is no such file"),
        (lambda model: (model / "config.json").write_text("{"), "config.json: not readable as JSON"),
        (lambda model: (model / "model.safetensors").unlink(), "has a config.json but no weights"),
        (lambda model: (model / "chat_template.jinja").write_text("{% if %}"), "the chat template fails to render"),
        (
            lambda model: (model / "chat_template.jinja").write_text("{{ raise_exception('no users') }}"),
            "no users): mend it, or set task.chat_template: false",
        ),
        (edited("config.json", max_position_embeddings=64), "leaves no tokens for a prompt"),
    ],
)
def test_a_model_that_cannot_be_used(tmp_path: Path, change: Callable[[Path], object], said: str) -> None:
    found = faults(model={"source": copied(tmp_path, change)})
    assert any(said in line for line in found), found


def test_a_template_that_refuses_a_system_message_is_a_fault_only_where_there_is_one(tmp_path: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    template += "{% for m in messages %}{% generation %}{{ bos_token + m.content }}{% endgeneration %}{% endfor %}"
    model = copied(tmp_path, lambda directory: (directory / "chat_template.jinja").write_text(template))
    assert faults(model={"source": model}) == []
    (line,) = faults(model={"source": model}, task={"system": "Think."})
    assert "no system): leave task.system empty" in line
    assert faults(model={"source": model}, task={"system": "Think.", "chat_template": False}) == []


def test_the_context_of_a_given_model_is_its_own(tmp_path: Path) -> None:
    model = ModelConfig(source=copied(tmp_path, edited("config.json", max_position_embeddings=700)))
    assert context_tokens_of(model) == 700
    assert context_tokens_of(model.model_copy(update={"context_tokens": 80})) == 80
    edited("config.json", max_position_embeddings=10**6)(tmp_path / "model")
    assert context_tokens_of(model) == 8192
    assert context_tokens_of(ModelConfig()) == 128


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 64}, "max_position_embeddings": 9}, 64),
        ({}, None),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2}}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "dynamic", "factor": 2}}, 4096),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"type": "longrope", "original_max_position_embeddings": 4096},
            },
            4096,
        ),
    ],
)
def test_the_context_that_a_config_names(config: dict[str, Any], positions: int | None) -> None:
    assert positions_of(config) == positions


def test_layers_are_read_from_headers_and_from_an_index(tmp_path: Path) -> None:
    names = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert names <= layers_of(POLICY)
    assert not {"norm", "input_layernorm"} & layers_of(POLICY)
    index = {"metadata": {}, "weight_map": {"model.layers.0.attn.c_attn.weight": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert layers_of(tmp_path) == {"c_attn"}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *(("Qwen/Qwen3-1.7B", True), ("gpt2", True), ("./here", True), ("models/a/b", False), ("m.gguf", False)),
        *(("org/x.safetensors", False), ("a b/c", False), ("C:\\models", False), ("https://hub/x", False)),
        ("package:any/model", True),
    ],
)
def test_a_name_that_is_neither_here_nor_on_the_hub(name: str, known: bool) -> None:
    assert (fault_of_name(name) is None) == known


def test_names_that_are_looked_up_later_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sets = {"dapo": {"dataset": "org/dapo"}, "mine": {"dataset": None}}
    prepare = {"model": {"source": "models/x"}, "task": {"name": "math", "train": sets, "benchmarks": {}}}
    model, data = on_hub(prepare, problems=True, model=True)
    assert model.startswith("model.source: there is no directory models/x here")
    assert data.startswith("task.train.dapo: ")
    assert not list(on_hub(prepare, problems=False, model=False))
    (tmp_path / "models" / "x").mkdir(parents=True)
    assert len(list(on_hub(prepare, problems=False, model=True))) == 0


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "new" / "deep") is None
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert "is a file" in str(unwritable(tmp_path / "file" / "below"))
    (tmp_path / "link").symlink_to("nowhere")
    assert "a link that leads nowhere" in str(unwritable(tmp_path / "link"))
    Path("results").mkdir()
    Path("results/pre").touch()
    before = {path.name for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert "File too large" in str(unwritable(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in tmp_path.iterdir()} == before
    assert faults()[0].startswith("name: pre: cannot write to results/pre: results/pre is a file")


def test_programs_and_scripts_of_a_judge(tmp_path: Path) -> None:
    (tmp_path / "judge.py").touch()
    assert missing_program("python3 judge.py --strict") is None
    assert missing_program("python3 -m json.tool") is None
    assert missing_program("python3 other.py") == "file other.py"
    assert missing_program("./judge.py") == "program ./judge.py"  # it may not be run


def test_optional_packages_are_asked_for_where_the_stages_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sampling = {"sampling": {"backend": "vllm"}, "update": {"optimizer": "adamw_8bit"}}
    found = faults(**sampling)
    assert [line.partition(" needs ")[0] for line in found] == [
        "sampling.backend: vllm",
        "update.optimizer: adamw_8bit",
    ]
    assert "pip install 'extra-rl[adam8bit]'" in found[1]
    assert faults(packages=False, **sampling) == []


def test_a_configuration_that_only_evaluates_is_stopped_where_it_is_to_train() -> None:
    task = {"name": "math", "benchmarks": ["aime24"]}
    experiment = experiment_of(SAMPLE | {"task": task, "model": BYTES})
    preflight(experiment, Path("results/pre"), packages=True)
    with pytest.raises(ConfigError, match="there are no training problems"):
        refuse_without_training(experiment)


def test_a_dry_run_lists_the_faults_and_the_twice_given_keys(tmp_path: Path) -> None:
    run = new_run(
        tmp_path / "run",
        model={"source": "/no/such/model"},
        evaluate={"cache": "/proc/x"},
        audit={"judge": "no-such-program"},
    )
    done = run.snakemake("--dry-run", check=False)
    assert done.returncode == 2
    lines = (done.stdout + done.stderr).splitlines()
    start = lines.index("ConfigError: the run cannot start:")
    assert [line.strip().partition(": ")[0] for line in lines[start + 1 :]] == [
        *("evaluate.cache", "model.source", "audit.judge")
    ]
    assert not run.results.exists()
    run.config.write_text(run.config.read_text() + "name: again\n")
    done = run.snakemake("--dry-run", check=False)
    assert done.returncode == 2
    assert "name is given on line 1 already" in done.stdout + done.stderr
