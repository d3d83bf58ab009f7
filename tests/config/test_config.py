"""From a configuration file to the section of every stage: presets, arms, shared sections, refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from extra_rl.config.files import read_yaml
from extra_rl.config.run import RunConfig
from extra_rl.config.sections import SHARED
from extra_rl.errors import ConfigError
from extra_rl.novelty import MEASURES
from stages import STAGES
from stages.experiment import experiment_of, job_json
from stages.load import load
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "config").rglob("*.yaml"))
MINIMAL = {"name": "mini", "iterations": 2, "arms": {"grpo": {}}}
BYTES = {"tokenizer": "bytes"}
"""A new model that reads any text."""


def resolved(arm: str = "grpo", **changes: Any) -> dict[str, dict[str, Any]]:
    """The sections of an arm in the smallest configuration with top-level keys changed."""
    return experiment_of(MINIMAL | changes).arms[arm]


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        experiment_of(MINIMAL | changes)
    return str(error.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_of_the_project_resolves(path: Path) -> None:
    experiment = experiment_of(read_yaml(path))
    for sections in (experiment.common, *experiment.arms.values()):
        assert tuple(sections) == STAGES


def test_the_default_configuration_exists() -> None:
    assert ROOT / "config" / "tiny.yaml" in CONFIGS


def test_a_section_is_complete_and_plain_json() -> None:
    """Defaults are filled in, and all values are JSON: the section is part of a rule's param and of a footer.

    A key that was added later is left out where it is off, so that the jobs of runs without it stay as they are.
    """
    experiment = experiment_of(MINIMAL)
    job = job_json(experiment, "advantage", {"arm": "grpo", "seed": "0", "iteration": "0001"})
    assert '"weight":0.0' in job
    assert '"iteration":1' in job
    fields = load("advantage").Config.model_fields
    assert set(experiment.arms["grpo"]["advantage"]) == {n for n, field in fields.items() if field.exclude_if is None}


@pytest.mark.parametrize("update", [{}, {"lora": {}}, {"lora": {"rank": 4}}, {"lora": {"targets": ["q_proj"]}}])
def test_a_stage_reads_the_resolved_section_again(update: dict[str, Any]) -> None:
    """Defaults are valid values too: the section in a job has them written out."""
    for stage, section in resolved(update=update).items():
        assert load(stage).Config.model_validate(section).model_dump(mode="json") == section


def test_jobs_that_all_arms_share_name_no_arm() -> None:
    experiment = experiment_of(MINIMAL | {"arms": {"grpo": {}, "other": {}}})
    assert '"arm":""' in job_json(experiment, "prepare", {})


def test_shared_sections_reach_every_stage_that_declares_them() -> None:
    sections = resolved(compute={"threads": 3}, sampling={"temperature": 0.7}, task={"name": "countdown"})
    for name in STAGES:
        fields = load(name).Config.model_fields
        assert ("compute" not in fields) or sections[name]["compute"]["threads"] == 3
        assert ("sampling" not in fields) or sections[name]["sampling"]["temperature"] == 0.7
        assert ("task" not in fields) or sections[name]["task"]["name"] == "countdown"
    assert sections["generate"]["sampling"] == sections["update"]["sampling"]


def test_an_arm_is_a_diff() -> None:
    changes = {
        "update": {"learning_rate": 1e-3, "minibatches": 4},
        "arms": {"grpo": {}, "slow": {"update": {"learning_rate": 1e-4}}},
    }
    assert resolved("grpo", **changes)["update"]["learning_rate"] == 1e-3
    slow = resolved("slow", **changes)["update"]
    assert (slow["learning_rate"], slow["minibatches"]) == (1e-4, 4)
    assert slow | {"learning_rate": 1e-3} == resolved("grpo", **changes)["update"]


def test_an_empty_arm_and_an_empty_section_mean_the_defaults() -> None:
    assert resolved(arms={"grpo": None}, update=None) == resolved()


SIGNAL = {"score_entropy": {"rows": "signal"}}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"choose_prefixes": {"groups": 4}}, r"needs choose_prefixes\.scores_from: sampler"),
        ({"update": {"kl_weight": 0.1}}, r"needs update\.kl_weight: 0"),
        ({"update": {"entropy_weight": 0.1}}, r"needs update\.entropy_weight: 0"),
        ({"novelty": {"measure": "surprise"}}, r"needs another novelty\.measure than surprise"),
    ],
)
def test_options_that_need_the_scores_of_all_rollouts_are_refused_with_rows_signal(
    changes: dict[str, Any], named: str
) -> None:
    assert re.search(rf"  score_entropy\.rows: signal {named}", refusal(**SIGNAL, **changes))
    resolved(**changes)


PASS_AT_K = {"normalise": "pass_at_k", "k": 4}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"advantage": PASS_AT_K | {"k": 8}}, r"advantage\.k: 8 must be below generate\.group_size \(8\)"),
        (
            {"advantage": PASS_AT_K, "verify": {"rewards": {"wrong": -1.0}}},
            r"pass_at_k needs rewards of 0 and 1, and verify\.rewards\.wrong is -1",
        ),
        ({"advantage": PASS_AT_K, "verify": {"weights": {"correct": 1.0, "length": -0.1}}}, r"which verify\.weights"),
        (
            {"advantage": {"normalise": "mean"}, "verify": {"rewards": {"truncated": -0.5}}},
            r"mean needs rewards of 0 or more, and verify\.rewards\.truncated is -0\.5",
        ),
    ],
)
def test_rewards_that_do_not_fit_the_advantage_are_refused(changes: dict[str, Any], named: str) -> None:
    assert re.search(named, refusal(**changes))
    resolved(advantage=PASS_AT_K, verify={"weights": {"correct": 1.0}})
    resolved(advantage={"normalise": "mean"}, verify={"rewards": {"error": None}})


def test_null_on_snakemakes_command_line_is_null() -> None:
    assert resolved(update={"dual_clip": "null"})["update"]["dual_clip"] is None
    assert (
        resolved(task={"name": "math", "train": "null", "benchmarks": ["aime24"]}, model=BYTES)["prepare"]["task"][
            "train"
        ]
        == {}
    )


def test_plain_text_sets_the_shorthand_key() -> None:
    assert resolved(audit="string")["audit"]["judge"] == "string"
    assert resolved(arms={"grpo": {"audit": "sympy_only"}})["audit"]["judge"] == "sympy_only"
    assert "novelty: expected keys and values" in refusal(novelty="zero")


def test_no_job_contains_the_length_of_the_run() -> None:
    """Further iterations, seeds or arms must re-run no existing job."""
    longer = experiment_of(MINIMAL | {"iterations": 9, "seeds": [0, 1], "arms": {"grpo": {}, "other": {}}})
    assert longer.arms["grpo"] == resolved()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sedes": [1]}, ["  sedes: unknown key; did you mean `seeds`?"]),
        ({"update": {"learning_rat": 1}}, ["update.learning_rat: unknown key; did you mean `learning_rate`?"]),
        ({"arms": {"a": {"update": {"lr": 1}}}}, ["arms.a.update.lr: unknown key; did you mean `learning_rate`?"]),
        ({"arms": {"a": {"updates": {}}}}, ["arms.a.updates: unknown section; did you mean `update`?"]),
        (
            {"arms": {"a": {"iterations": 3}}},
            ["arms.a.iterations: `iterations` belongs to the whole run; set it at the top"],
        ),
        ({"sampling": {"temprature": 1}}, ["sampling.temprature: unknown key"]),
        (
            {"task": {"train": {"path": "x.jsonl", "colum": "q"}}},
            ["task.train: unknown key colum (a source has answer, "],
        ),
        ({"generate": {"sampling": {}}}, ["generate.sampling: `sampling` is a shared section; set it at the top"]),
        ({"arms": {"a": {"prepare": {"seed": 1}}}}, ["arms.a.prepare: all arms share `prepare`; set it at the top"]),
        ({"arms": {"a": {"model": {"source": "x"}}}}, ["arms.a.model: all arms share `model`"]),
        ({"arms": {"a": {"preset": "papr"}}}, ["unknown preset 'papr'; there are paper, published_code, prototype"]),
        ({"arms": {}}, ["arms: name at least one arm"]),
        ({"arms": ["grpo"]}, ["arms: expected keys and values, not ['grpo']"]),
        ({"arms": {"a": 3}}, ["arms.a: expected keys and values, not 3"]),
        ({"arms": {"a b": {}}}, ["arms.a b: an arm's name is a folder's name"]),
        ({"arms": {"../b": {}}}, ["arms.../b: an arm's name is a folder's name"]),
        ({"arms": {"warm_start": {}}}, ["arms.warm_start: an arm's name is a folder's name"]),
        ({"sampling": {"stop": ["\n", ""]}}, ["sampling.stop.1: ", "at least 1 character"]),
        ({"evaluate": {"stop": [""]}}, ["evaluate.stop.0: "]),
        ({"sampling": {"stop": ";"}}, ["sampling.stop: ", "(given: ';')"]),
        ({"select": 3}, ["select: expected keys and values, not 3"]),
        ({"generate": {"group_size": 1}}, ["generate.group_size: ", "greater than or equal to 2 (given: 1)"]),
        ({"novelty": {"measure": "cosine"}}, ["unknown measure 'cosine'; there are ", ", ".join(MEASURES)]),
        (
            {"novelty": {"measure": "lexical", "params": {"m": 2}}},
            ["measure 'lexical': params.m: unknown key"],
        ),
        ({"novelty": {"measure": "lexical", "params": {"n": 0}}}, ["params.n: ", "equal to 1 (given: 0)"]),
        ({"update": {"loss": "ppo"}}, ["update.loss: ", "'clipped', 'gspo', 'cispo' or 'supervised' (given: 'ppo')"]),
        ({"name": "a/b"}, ["name: ", "(given: 'a/b')"]),
        ({"iterations": 0}, ["iterations: ", "(given: 0)"]),
        ({"seeds": []}, ["seeds: "]),
        ({"first_iteration": 2}, ["first_iteration must be below iterations"]),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value)[:40],
)
def test_invalid_values_are_refused_and_the_key_is_named(changes: dict[str, Any], said: list[str]) -> None:
    message = refusal(**changes)
    for part in said:
        assert part in message
    assert len(message.splitlines()) <= 3


def test_all_errors_of_a_section_are_listed_together() -> None:
    message = refusal(update={"lr": 1, "clip": 2})
    assert "update.lr" in message
    assert "update.clip" in message


@pytest.mark.parametrize(
    ("text", "said"), [("a: [1", "not valid YAML"), ("- 1", "a configuration is a mapping of sections")]
)
def test_an_unreadable_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    with pytest.raises(ConfigError, match=r"c\.yaml: no such configuration file"):
        read_yaml(path)
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"c\.yaml: {said}"):
        read_yaml(path)


def models_within(annotation: Any) -> Iterator[type[BaseModel]]:
    """Pydantic models anywhere in a type: `A`, `A | None`, `dict[str, A]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_within(field.annotation)
    for part in get_args(annotation):
        yield from models_within(part)


def test_every_key_is_described() -> None:
    roots = [RunConfig, *SHARED.values(), *(load(name).Config for name in STAGES)]
    roots += [measure.Params for measure in MEASURES.values()]
    models = {model for root in roots for model in models_within(root)}
    assert len(models) > 20
    bare = [f"{m.__name__}.{key}" for m in models for key, field in m.model_fields.items() if not field.description]
    assert bare == []


def test_every_config_refuses_unknown_keys_and_changes() -> None:
    for model in (RunConfig, *SHARED.values(), *(load(name).Config for name in STAGES)):
        assert model.model_config["extra"] == "forbid", model
        assert model.model_config["frozen"] is True, model
