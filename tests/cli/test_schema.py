"""The JSON schema: up to date, valid for every configuration here, and invalid for errors."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
import yaml

from extra_rl.errors import ConfigError
from stages.experiment import experiment_of
from stages.reference import schema_text
from stages.schema import schema
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "config").glob("*.yaml")) + sorted((ROOT / "tests" / "configs").glob("*.yaml"))
SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MINIMAL: dict[str, Any] = {"name": "a", "iterations": 1, "arms": {"grpo": {}}}


def test_the_schema_is_up_to_date() -> None:
    said = "run: python -m stages.reference --schema > config/schema.json"
    assert (ROOT / "config" / "schema.json").read_text() == schema_text(), said


def test_the_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_fits(path: Any) -> None:
    VALIDATOR.validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_names_the_schema(path: Any) -> None:
    assert path.read_text().splitlines()[0] == "# yaml-language-server: $schema=schema.json"


@pytest.mark.parametrize(
    "change",
    [
        {"update": None, "arms": {"grpo": None}},
        {"arms": {"a": {"preset": "paper", "update": {"learning_rate": 1e-6}}}},
        {
            "task": {"name": "math", "train": "dapo_math_17k", "benchmarks": ["aime24", "math500"]},
            "model": {"tokenizer": "bytes"},
        },
        {"task": {"train": ["gsm8k_train", "math_12k"], "benchmarks": {"aime24": {}, "own": {"path": "own.parquet"}}}},
        {"task": {"train": {"path": "a.jsonl", "id": None}}},
        {"retention": {"weights_every": 5, "optimizer_states": 2}, "seeds": [0, 1]},
        {"choose_prefixes": {"groups": "all_hard"}, "verify": {"rewards": {"error": 0.0, "timeout": None}}},
        {"update": {"betas": [0.9, 0.95], "dual_clip": None}},
        {"update": {"learning_rate_decay": {"shape": "cosine", "over": 40}}},
        {"iterations": 3, "schedule": [{"from": 1, "arms": ["grpo"], "update": {"clip_low": 0.1}}]},
        {"iterations": 3, "schedule": [{"from": 1, "generate.group_size": 4}, {"from": 2, "sampling.top_p": 1.0}]},
        {"audit": "string", "arms": {"grpo": {"audit": {"judge": "sympy_only"}}}},
    ],
    ids=str,
)
def test_values_that_the_models_accept_validate(change: dict[str, Any]) -> None:
    experiment_of(MINIMAL | change)
    VALIDATOR.validate(MINIMAL | change)


@pytest.mark.parametrize(
    "change",
    [
        {"sedes": [1]},
        {"update": {"learning_rat": 1}},
        {"update": {"learning_rate": "fast"}},
        {"update": {"loss": "ppo"}},
        {"update": {"betas": [0.9]}},
        {"update": {"sampling": {}}},
        {"compare": {"token_budget": 3}},
        {"generate": {"group_size": 1}},
        {"sampling": {"temperature": 0}},
        {"task": {"train": {"x": {"pth": "a"}}}},
        {"verify": {"rewards": {"rihgt": 1.0}}},
        {"retention": {"weights": 1}},
        {"arms": {}},
        {"arms": {"a": {"preset": "papr"}}},
        {"arms": {"a": {"iterations": 3}}},
        {"arms": {"a": {"model": {"source": "x"}}}},
        {"arms": {"warm_start": {}}},
        {"arms": {"a b": {}}},
        {"name": "a/b"},
        {"iterations": 0},
        {"iterations": 3, "schedule": [{"update": {"clip_low": 0.1}}]},
        {"iterations": 3, "schedule": [{"from": 1, "updat.clip_low": 0.1}]},
        {"iterations": 3, "schedule": [{"from": 1, "model": {"source": "x"}}]},
        {"iterations": "ten"},
    ],
    ids=str,
)
def test_an_error_does_not_validate(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(MINIMAL | change)
    with pytest.raises(ConfigError):
        experiment_of(copy.deepcopy(MINIMAL) | change)


@pytest.mark.parametrize("missing", ["name", "iterations", "arms"])
def test_required_keys(missing: str) -> None:
    assert not VALIDATOR.is_valid({key: value for key, value in MINIMAL.items() if key != missing})
