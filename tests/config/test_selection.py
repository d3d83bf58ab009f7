"""`--config arms=... seeds=...`: a part of the configuration, with the jobs of the whole one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from extra_cli.plan import experiment_of_files
from extra_rl.config.experiment import Experiment
from extra_rl.errors import ConfigError
from stages.experiment import experiment_of, job_json, keep_configuration_of
from stages.layout import Layout

RAW: dict[str, Any] = {
    "name": "x",
    "iterations": 2,
    "seeds": [3, 4, 5],
    "warm_starts": [0, 7],
    "arms": {"grpo": {}, "extra": {"preset": "surprisal"}, "other": {}},
    "compare": {"comparisons": ["extra - grpo", "other - grpo", "grpo - warm_start"]},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(RAW, sort_keys=False))
    return path


def selected(file: Path, **words: Any) -> Experiment:
    """As Snakemake gives it: the words replace the keys of the file."""
    return experiment_of(RAW | words, [file])


@pytest.mark.parametrize("words", ["extra,grpo", ["grpo", "extra"]])
def test_arms_are_those_selected_in_the_order_of_the_file(file: Path, words: Any) -> None:
    experiment = selected(file, arms=words)
    assert list(experiment.arms) == ["grpo", "extra"]
    assert experiment.common["compare"]["comparisons"] == ["extra - grpo", "grpo - warm_start"]
    assert list(selected(file, arms="other").arms) == ["other"]


def test_jobs_are_those_of_the_whole_configuration(file: Path) -> None:
    whole, part = experiment_of(RAW), selected(file, arms="extra", seeds="5,4")
    assert part.run.seeds == [4, 5]
    for seed in part.run.seeds:
        place = {"arm": "extra", "seed": str(seed), "iteration": "0001"}
        assert job_json(part, "update", place) == job_json(whole, "update", place)
        assert part.run.warm_start_of(seed) == whole.run.warm_start_of(seed)
    assert job_json(part, "prepare", {}) == job_json(whole, "prepare", {})
    assert job_json(part, "warm_start", {"start": "warm_start_7"}) == job_json(
        whole, "warm_start", {"start": "warm_start_7"}
    )


def test_only_the_initial_policies_that_the_seeds_need_are_made(file: Path) -> None:
    assert Layout(selected(file, seeds=4)).starts() == {"warm_start_7": 7}
    assert Layout(selected(file, seeds="3,5")).starts() == {"warm_start": 0}
    derived = json.loads(job_json(selected(file, seeds=4), "compare", {}))["derived"]
    assert derived["seeds"] == [3, 4, 5]  # they assign the initial policies


def test_in_regimes_an_arm_is_selected_in_all(file: Path) -> None:
    regimes = {"regimes": {"a": {"value": 1}, "b": {"value": 2}}}
    assert list(experiment_of(RAW | regimes | {"arms": "extra"}, [file]).arms) == ["a-extra", "b-extra"]


def test_unknown_names_are_one_error(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no arm 'exta'; the configuration has grpo, extra, other; did you"):
        selected(file, arms="exta,grpo")
    with pytest.raises(ConfigError, match=r"has no seed 9, only 3, 4, 5. A list replaces its seeds: .*\[3, 4, 5, 9\]"):
        selected(file, seeds="3,9")
    with pytest.raises(ConfigError, match="'a' is not a seed"):
        selected(file, seeds="a")
    with pytest.raises(ConfigError, match="separated by commas"):
        selected(file, arms="extra,,grpo")


def test_mistakes_of_arms_that_are_left_out_are_still_found(file: Path) -> None:
    file.write_text(yaml.safe_dump(RAW | {"arms": {"grpo": {}, "bad": {"update": {"learning_rte": 1}}}}))
    with pytest.raises(ConfigError, match=r"arms\.bad\.update\.learning_rte"):
        selected(file, arms="grpo")


def test_a_text_in_the_file_itself_is_a_mistake(file: Path) -> None:
    file.write_text(yaml.safe_dump(RAW | {"arms": "grpo", "seeds": 3}))
    with pytest.raises(ConfigError, match="arms: expected keys and values") as error:
        experiment_of(RAW | {"arms": "grpo", "seeds": 3}, [file])
    assert "seeds: Input should be a valid list" in str(error.value)


def test_the_whole_configuration_is_kept(file: Path, tmp_path: Path) -> None:
    keep_configuration_of(RAW | {"arms": "grpo", "seeds": 3}, [file], tmp_path)
    assert yaml.safe_load((tmp_path / "configuration.yaml").read_text()) == RAW


def test_the_plan_of_a_selection(file: Path) -> None:
    assert list(experiment_of_files([file], ["arms=extra", "seeds=4"]).arms) == ["extra"]
