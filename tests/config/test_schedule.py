"""Changes from an iteration on: the sections and jobs of every iteration, and what an entry cannot change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extra_rl.config.derived import in_force_since
from extra_rl.config.experiment import Experiment
from extra_rl.config.schedule import CHANGEABLE, FIXED
from extra_rl.config.sections import SHARED
from extra_rl.errors import ConfigError
from stages import STAGES
from stages.experiment import experiment_of, job_json, preflight

BASE: dict[str, Any] = {"name": "x", "iterations": 6, "arms": {"grpo": {}, "extra": {"preset": "surprisal"}}}
TWO = [
    {"from": 2, "update": {"learning_rate": 1e-4}},
    {"from": 4, "arms": ["extra"], "update.learning_rate": 5e-5, "select.prompts": 8},
]


def scheduled(*entries: dict[str, Any], **changes: Any) -> Experiment:
    return experiment_of(BASE | changes | {"schedule": list(entries)})


def jobs(experiment: Experiment, stage: str, arm: str) -> list[dict[str, Any]]:
    places = [{"arm": arm, "seed": "0", "iteration": f"{i:04d}"} for i in range(experiment.run.iterations)]
    return [json.loads(job_json(experiment, stage, place)) for place in places]


def refusal(*entries: Any, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        scheduled(*entries, **changes)
    return [line.strip() for line in str(error.value).splitlines()[1:]]


def test_a_job_contains_the_values_in_force_and_since_when() -> None:
    experiment = scheduled(*TWO)
    rates = {arm: [job["config"]["learning_rate"] for job in jobs(experiment, "update", arm)] for arm in BASE["arms"]}
    assert rates["grpo"] == [3e-4, 3e-4, 1e-4, 1e-4, 1e-4, 1e-4]
    assert rates["extra"][2:] == [1e-4, 1e-4, 5e-5, 5e-5]
    assert [job.get("since") for job in jobs(experiment, "update", "extra")] == [None, None, 2, 2, 4, 4]
    assert [job.get("since") for job in jobs(experiment, "update", "grpo")] == [None, None, 2, 2, 2, 2]


def test_stages_and_iterations_that_an_entry_does_not_change_keep_their_jobs() -> None:
    plain, experiment = experiment_of(BASE), scheduled(*TWO)
    for arm in BASE["arms"]:
        for stage in STAGES:
            if stage in ("prepare", "warm_start", "compare", "gather"):
                continue
            before, now = jobs(plain, stage, arm), jobs(experiment, stage, arm)
            assert before[:2] == now[:2]
            changed = [i for i in range(6) if before[i] != now[i]]
            expected = {"update": [2, 3, 4, 5], "select": [4, 5] if arm == "extra" else []}
            assert changed == expected.get(stage, []), stage


def test_the_stream_of_problems_goes_on_where_it_was_once_the_number_of_prompts_has_changed() -> None:
    """The iteration's number times `prompts` would leave problems out, or show some twice."""
    derived = [job["derived"] for job in jobs(scheduled(*TWO), "select", "extra")]
    assert derived == [{"rounds": 1}] * 4 + [{"rounds": 1, "continued": True}] * 2


def test_an_entry_without_an_effect_changes_no_job() -> None:
    experiment = scheduled({"from": 3, "update.learning_rate": 3e-4})
    assert jobs(experiment, "update", "grpo") == jobs(experiment_of(BASE), "update", "grpo")
    assert in_force_since(experiment, "update", "grpo", 5) == 0


def test_a_later_value_counts_from_its_own_iteration_although_it_is_the_first_one_again() -> None:
    experiment = scheduled({"from": 1, "update.clip_low": 0.1}, {"from": 4, "update.clip_low": 0.2})
    assert [job.get("since") for job in jobs(experiment, "update", "grpo")] == [None, 1, 1, 1, 4, 4]


def test_sampling_changes_the_stages_that_train_and_not_the_evaluations() -> None:
    experiment = scheduled({"from": 3, "sampling": {"temperature": 0.7}})
    for stage in ("generate", "regenerate", "score_entropy", "update"):
        temperatures = [job["config"]["sampling"]["temperature"] for job in jobs(experiment, stage, "grpo")]
        assert temperatures == [1.0] * 3 + [0.7] * 3
    assert jobs(experiment, "evaluate", "grpo") == jobs(experiment_of(BASE), "evaluate", "grpo")


def test_malformed_entries_are_all_named() -> None:
    lines = refusal(
        {"from": 0, "update": {"clip_low": 0.1}},
        {"from": 3, "updat": {"clip_low": 0.1}},
        {"from": 3, "arms": ["exta"], "update.learning_rte": 0.1},
        {"from": 2, "update": {"clip_low": 0.1}},
        {"from": 6, "update": {"clip_low": 0.1}},
        {"update": {"clip_low": 0.1}},
        {"from": 4},
        {"from": 5, "update": {"clip_low": 0.1}, "update.clip_low": 0.2},
    )
    assert lines == [
        "schedule, entry 1.from: expected an iteration from 1 on, not 0; for the whole run, set the key itself",
        "schedule, from 3: updat: unknown section; did you mean `update`?",
        "schedule, entry 3.arms: there is no arm 'exta'; there are grpo, extra; did you mean `extra`?",
        "schedule, entry 4.from: 2 comes after 3; order the entries by `from`",
        "schedule, entry 5.from: 6 is beyond the run: its last iteration is 5",
        "schedule, entry 6: give the first iteration as `from`, for example {from: 10, ...}",
        "schedule, from 4: changes nothing; name a section, for example `update: {learning_rate: 1.0e-4}`",
        "schedule, from 5: update.clip_low: is given twice, as a section and as a dotted key; keep one",
        "schedule, from 3: update.learning_rte: unknown key; did you mean `learning_rate`?",
    ]


@pytest.mark.parametrize("key", [*FIXED, "seeds", "iterations", "generation", "name"])
def test_what_is_made_once_or_carried_along_cannot_change(key: str) -> None:
    (line,) = refusal({"from": 2, key: {}}) if "." not in key else refusal({"from": 2, key: 1})
    assert line.startswith(f"schedule, from 2: {key}: cannot change within a run")


def test_every_section_may_change_or_has_a_reason_why_not() -> None:
    not_configured = {"regenerate", "gather", "summarize"}
    assert {*STAGES, *SHARED} - {*CHANGEABLE, *FIXED} <= not_configured


def test_invalid_values_and_contradictions_of_a_later_phase_are_named_with_their_entry() -> None:
    assert refusal({"from": 2, "update.learning_rate": -1})[0].startswith(
        "schedule, from 2: update.learning_rate: Input should be greater than 0"
    )
    (line,) = refusal({"from": 2, "update.minibatches": 10_000})
    assert line.startswith("schedule, from 2: update.minibatches: 10,000 are more than the 192 rollouts")


def test_a_contradiction_of_the_arm_itself_is_said_once() -> None:
    (line,) = refusal({"from": 2, "update.clip_low": 0.1}, update={"minibatches": 10_000})
    assert line.startswith("update.minibatches: 10,000 are more than")


def test_responses_become_no_longer_than_the_problems_were_prepared_for() -> None:
    (line,) = refusal({"from": 2, "sampling.max_response_tokens": 80})
    assert line.startswith("schedule, from 2: sampling.max_response_tokens: 80 is more than the run's 64")
    arms = {"extra": {"sampling": {"max_response_tokens": 32}}}
    experiment = scheduled({"from": 2, "sampling.max_response_tokens": 64}, arms=arms)
    sampling = [job["config"]["sampling"] for job in jobs(experiment, "generate", "extra")]
    assert [section["max_response_tokens"] for section in sampling] == [32, 32, 64, 64, 64, 64]


def test_remembered_rollouts_are_compared_with_one_measure() -> None:
    arms = {"extra": {"novelty": {"measure": "lexical", "remember": 6}}}
    (line,) = refusal({"from": 2, "novelty.tail_tokens": 7}, arms=arms)
    assert line.startswith("schedule, from 2: novelty.tail_tokens cannot change while novelty.remember is 6")
    scheduled({"from": 2, "novelty.tail_tokens": 7}, arms={"extra": {"novelty": {"measure": "lexical"}}})


def test_a_decay_that_ends_before_the_run_is_refused_unless_another_rate_follows() -> None:
    update = {"learning_rate_decay": {"shape": "linear", "over": 4}}
    (line,) = refusal(update=update)
    assert "iterations 4 to 5 would have the learning rate 0" in line
    assert scheduled(update={"learning_rate_decay": {"shape": "linear", "over": 6}}).phases == {}
    later = {"from": 4, "update": {"learning_rate_decay": None, "learning_rate": 1e-5}}
    assert len(scheduled(later, update=update).phases["grpo"]) == 1


def test_the_horizon_of_a_decay_is_given_and_never_taken_from_the_length_of_the_run() -> None:
    (line,) = refusal(update={"learning_rate_decay": {"shape": "cosine"}})
    assert line == "update.learning_rate_decay.over: this key is required"
    update = {"learning_rate_decay": {"shape": "cosine", "over": 6, "final_share": 0.1}}
    short, long = (scheduled(update=update, iterations=n) for n in (6, 9))
    assert jobs(short, "update", "grpo") == jobs(long, "update", "grpo")[:6]
    assert "learning_rate_decay" not in jobs(experiment_of(BASE), "update", "grpo")[0]["config"]


def test_files_that_only_a_later_phase_needs_are_checked_before_the_first_job(tmp_path: Any) -> None:
    sentence = {"measure": "sentence", "sentence_model": str(tmp_path / "none")}
    with pytest.raises(ConfigError, match="none"):
        preflight(scheduled({"from": 3, "novelty": sentence}), tmp_path, packages=True)
