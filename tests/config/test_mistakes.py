"""A table of mistaken values: each is refused before any stage, at its own place, and all are listed together."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from extra_rl.config.files import read_yaml, refuse_ambiguous
from extra_rl.errors import ConfigError
from stages.experiment import experiment_of
from stages.load import load
from tests.conftest import ROOT

TINY = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())
INF, NAN = float("inf"), float("nan")
MATH = {"name": "math", "benchmarks": ["aime24"], "train": ["math_12k"]}
SETS = {"name": "reasoning_gym", "sets": {"sums": {"dataset": "chain_sum", "size": 10}}}


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The default configuration with keys, named by their paths, changed."""
    raw: dict[str, Any] = copy.deepcopy(TINY)
    for path, value in changes:
        *above, last = path.split(".")
        section = raw
        for key in above:
            if not isinstance(section.get(key), dict):
                section[key] = {}
            section = section[key]
        section[last] = value
    return raw


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        experiment_of(raw)
    return str(error.value)


MISTAKES: list[tuple[str, Any, str]] = [
    # ranges
    ("compare.ks", [0], "compare.ks.0: Input should be greater than or equal to 1"),
    ("compare.ks", [-1], "compare.ks.0: "),
    ("compare.ks", [], "compare.ks: "),
    ("compare.ks", [4, 4], "compare.ks: 4 is given twice"),
    ("compare.resamples", 10**9, "compare.resamples: "),
    ("update.betas", [1.0, 1.5], "update.betas.1: Input should be less than 1"),
    ("update.betas", [-0.1, 0.9], "update.betas.0: "),
    ("update.betas", [0.9], "update.betas.1: this key is required"),
    ("update.clip_low", 2.0, "update.clip_low: Input should be less than or equal to 1"),
    ("update.dual_clip", 0.5, "update.dual_clip: "),
    ("update.lora", {"r": 4}, "update.lora.r: unknown key (known here: alpha, dropout, rank, targets)"),
    ("update.lora", {"rank": 0}, "update.lora.rank: "),
    ("update.lora", {"targets": []}, "update.lora.targets: name at least one layer"),
    ("update.lora", {"targets": ["q_proj", "q_proj"]}, "update.lora.targets: q_proj is named twice"),
    ("update.lora", {"dropout": 1.0}, "update.lora.dropout: "),
    ("seeds", [-1], "seeds.0: "),
    ("seeds", [], "seeds: "),
    ("seeds", ["a"], "seeds.0: "),
    ("seeds", [1, 1], "seeds: name each once"),
    ("seeds", [2**63], "seeds.0: Input should be less than 9223372036854775808"),
    ("name", "x" * 101, "name: "),
    ("arms", {True: {}}, "arms.True: YAML reads this name as True: write it in quotes"),
    ("arms", {"x" * 101: {}}, "an arm's name is a folder's name"),
    ("update.group_size", 4, "update.group_size: unknown key here; did you mean `generate.group_size`?"),
    ("sampling.seeds", [1], "sampling.seeds: unknown key here; did you mean `seeds`?"),
    ("iterations", "ten", "iterations: "),
    ("iterations", True, "iterations: expected no truth value (given: True)"),
    ("update.learning_rate", True, "update.learning_rate: expected no truth value"),
    ("prepare.seed", -1, "prepare.seed: "),
    ("warm_start.seed", -1, "warm_start.seed: "),
    ("evaluate.seed", -1, "evaluate.seed: "),
    ("evaluate.samples", 0, "evaluate.samples: "),
    ("evaluate.part_samples", 0, "evaluate.part_samples: "),
    ("verifier.memory_mb", 10**9, "verifier.memory_mb: "),
    ("compute.threads", 10**6, "compute.threads: "),
    ("select.token_budget", -5, "select.token_budget: "),
    ("select.level_weights", {"L3": -1.0}, "select.level_weights.L3: "),
    ("select.level_weights", {"L3": 0.0}, "select.level_weights: all weights are 0"),
    ("model.shape", {"heads": 4, "kv_heads": 3}, "model.shape: 4 heads cannot share 3 kv_heads"),
    ("model.shape", {"head_dim": 33}, "model.shape: head_dim: 33 is odd"),
    ("model.source", "", "model.source: "),
    ("name", "../x", "name: "),
    # numbers that are none
    ("update.learning_rate", INF, "update.learning_rate: Input should be a finite number"),
    ("update.gradient_clip", INF, "update.gradient_clip: Input should be a finite number"),
    ("update.betas", [NAN, 0.9], "update.betas.0: Input should be a finite number"),
    ("sampling.temperature", INF, "sampling.temperature: Input should be a finite number"),
    ("verifier.timeout_s", INF, "verifier.timeout_s: Input should be a finite number"),
    ("verify.rewards", {"right": INF}, "verify.rewards.right: Input should be a finite number"),
    ("select.compute_budget", INF, "select.compute_budget: Input should be a finite number"),
    ("advantage.weight", NAN, "advantage.weight: Input should be a finite number"),
    ("mismatch_tolerance", INF, "mismatch_tolerance: Input should be a finite number"),
    ("regimes", {"s": {"value": NAN}}, "regimes.s.value: "),
    # unknown keys, values and names
    ("updat", {}, "updat: unknown key; did you mean `update`?"),
    ("itrations", 3, "itrations: unknown key; did you mean `iterations`?"),
    (
        "learning_rate",
        1,
        "learning_rate: unknown key here; did you mean `warm_start.learning_rate` or `update.learning_rate`?",
    ),
    ("update.learningrate", 1, "update.learningrate: unknown key; did you mean `learning_rate`?"),
    (
        "generate.rollouts",
        1,
        "generate.rollouts: unknown key (known here: group_size, half_groups, rounds, rounds_on, rounds_until, source)",
    ),
    ("sampling.temprature", 1, "  sampling.temprature: unknown key; did you mean `temperature`?"),
    ("sampling.engine", {"tensor_paralel": 2}, "  sampling.engine.tensor_paralel: unknown key; did you mean"),
    ("retention.weight_every", 2, "retention.weight_every: unknown key; did you mean `weights_every`?"),
    ("update.loss", "cliped", "update.loss: "),
    ("update.loss", "cliped", "did you mean `clipped`?"),
    ("novelty.measure", "lexcal", "novelty.measure: unknown measure 'lexcal'; "),
    ("novelty.measure", "lexcal", "did you mean `lexical`?"),
    ("arms.extra", {"preset": "prototyp"}, "arms.extra.preset: unknown preset 'prototyp'; "),
    ("arms.extra", {"preset": "prototyp"}, "did you mean `prototype`?"),
    ("arms.extra", {"update": {"epoch": 1}}, "arms.extra.update.epoch: unknown key; did you mean `epochs`?"),
    ("arms.extra", {"regimes": "s50"}, "arms.extra.regimes: list at least one regime"),
    ("regimes", {"s": {"value": 1, "update": {"epoch": 1}}}, "regimes.s.update.epoch: unknown key"),
    ("compare.comparisons", ["extar - grpo"], "there is no arm 'extar'; "),
    ("prepare.train_per_level", {"L33": 5}, "the task signed_sum has no level 'L33'"),
    ("prepare.train_per_level", {"L3": -5}, "prepare.train_per_level.L3: "),
    ("warm_start.level_weights", {"L33": 5}, "level_weights: the task signed_sum has no level 'L33'"),
    # keys of different sections
    ("compare.ks", [1, 1000], "compare.ks: pass@1000 needs 1000 samples a problem; evaluate.samples is 16"),
    ("sampling.top_p", 0.9, "sampling.top_p: 0.9 cannot be trained on"),
    ("sampling.top_k", 5, "sampling.top_k: 5 cannot be trained on"),
    ("sampling.max_response_tokens", 4000, "sampling.max_response_tokens: 4,000 leaves no tokens for a prompt"),
    ("evaluate.max_response_tokens", 4000, "evaluate.max_response_tokens: 4,000 leaves no tokens for a prompt"),
    ("model.context_tokens", 8, "sampling.max_response_tokens: 64 leaves no tokens for a prompt"),
    ("update.tokens_per_batch", 1, "update.tokens_per_batch: 1 does not hold one sequence"),
    ("score_entropy.tokens_per_batch", 64, "score_entropy.tokens_per_batch: 64 does not hold one sequence"),
    ("update.minibatches", 10**6, "update.minibatches: 1,000,000 are more than the 192 rollouts"),
    ("task", {"name": "math"}, "task.benchmarks: the task `math` needs at least one held-out problem set"),
    ("task", MATH, "model.tokenizer: `words` is for generated tasks"),
    ("task", MATH, "warm_start.steps: 1200 needs worked solutions"),
    ("task", MATH | {"examples": 2}, "task.examples: 2 needs worked solutions"),
    ("task", SETS, "task.sets.sums.size: 10 items are too few"),
    ("warm_start.stop_at", 10**6, "stop_at: 1000000 lies beyond the schedule of 1200 steps"),
    ("evaluate", {"split": "tuning"}, "evaluate.split: tuning has no problem, as prepare.tuning_per_level is 0"),
    ("select.level_weights", {"L9": 1.0}, "select.level_weights: there are no training problems of 'L9'"),
    ("arms.extra", {"preset": "paper", "verify": {"gold": "displaced"}}, "arms.extra: verify.gold: displaced needs"),
    (
        "arms.extra",
        {"preset": "published_code", "choose_prefixes": {"replay": {"rows": 1}}},
        "arms.extra: verify.gold: displaced is the released code, which has no replay",
    ),
    (
        "arms.extra",
        {"novelty": {"measure": "elliptical"}, "advantage": {"weight": 0.1}},
        "arms.extra: advantage.scale: novelty.measure elliptical has no unit of its own",
    ),
    ("choose_prefixes", {"replay": {"rows": -1}}, "choose_prefixes.replay.rows: "),
    ("choose_prefixes", {"replay": {"rows": 1, "min_stored": 300}}, "min_stored 300 exceeds capacity 256"),
    ("choose_prefixes", {"replay": {"cut": "prompt", "prefix": "other_problem"}}, "cut: prompt has no prefix"),
    (
        "arms.extra",
        {
            "advantage": {"normalise": "pass_at_k", "k": 5},
            "choose_prefixes": {"replay": {"rows": 1, "continuations": 4}},
        },
        "arms.extra: advantage.k: 5 must be below choose_prefixes.replay.continuations (4)",
    ),
    ("choose_prefixes", {"replay": {"row": 1}}, "choose_prefixes.replay.row: unknown key"),
    ("choose_prefixes", {"replay": {"hard_share": 0.8}}, "hard_share 0.8 must be below easy_share 0.75"),
    ("name", "evaluations", "name: evaluations is the folder of cached evaluations"),
    ("first_iteration", 10**6, "first_iteration must be below iterations"),
]


@pytest.mark.parametrize(("path", "value", "said"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_refused_at_its_place(path: str, value: Any, said: str) -> None:
    extra: list[tuple[str, Any]] = [("prepare.tuning_per_level", 0)] if path == "evaluate" else []
    extra += [("prepare.train_per_level", {})] if path == "task" else []
    message = refusal(changed((path, value), *extra))
    assert said in message
    assert len(set(message.splitlines())) == len(message.splitlines())


def test_worked_solutions_to_replay_need_a_source_that_has_them() -> None:
    oracle = {"replay": {"rows": 1, "source": "demonstrations"}}
    changes = [("task", MATH), ("prepare.train_per_level", {}), ("choose_prefixes", oracle)]
    assert "choose_prefixes.replay.source: demonstrations needs worked solutions" in refusal(changed(*changes))


def test_the_configuration_that_they_change_is_valid() -> None:
    experiment_of(changed())


def test_one_message_lists_the_mistakes_of_all_sections_arms_and_regimes_once() -> None:
    message = refusal(
        changed(
            ("itrations", 1),
            ("name", "a/b"),
            ("sampling.temprature", 1),
            ("update.betas", [2, 0.9]),
            ("compare.ks", [1, 99]),
            ("regimes", {"s": {"value": "x"}, "t": {"value": 2, "generate": {"group_size": 1}}}),
            ("arms", {"grpo": {"update": {"epoch": 1}}, "extra": {"preset": "papr", "novelty": {"mesure": "zero"}}}),
        )
    )
    places = [line.strip().partition(": ")[0] for line in message.splitlines()[1:]]
    assert sorted(places) == sorted(
        [
            *("itrations", "name", "regimes.s.value", "arms.extra.preset", "sampling.temprature", "update.betas.0"),
            *("arms.grpo.update.epoch", "arms.extra.novelty.mesure", "regimes.t.generate.group_size"),
        ]
    )
    message = refusal(changed(("compare.ks", [1, 99]), ("update.betas", [2, 0.9]), ("evaluate.sample", 3)))
    assert len(message.splitlines()) == 4  # rules between valid keys are checked, too


def test_a_resolved_section_is_valid_again_in_its_stage() -> None:
    experiment = experiment_of(changed())
    for stage, section in experiment.arms["extra"].items():
        assert load(stage).Config.model_validate(section).model_dump(mode="json") == section


def test_a_rule_between_keys_is_left_out_where_one_of_them_is_invalid() -> None:
    message = refusal(changed(("compare.ks", [1, 99]), ("evaluate.samples", 0)))
    assert "compare.ks" not in message


def test_a_mistake_of_the_base_is_not_repeated_for_every_arm() -> None:
    message = refusal(changed(("update.clip_low", 2.0), ("sampling.top_p", 0.5)))
    assert [line.strip().partition(": ")[0] for line in message.splitlines()[1:]] == [
        "update.clip_low",
        "sampling.top_p",
    ]


def test_a_given_model_may_leave_its_context_out_and_a_new_one_has_128_tokens() -> None:
    raw = changed()
    del raw["model"]["context_tokens"]
    assert experiment_of(raw).common["prepare"]["model"]["context_tokens"] == 128
    raw["model"]["source"] = "some/model"
    assert experiment_of(raw).common["prepare"]["model"]["context_tokens"] is None


TWICE = """\
name: twice
update:
  learning_rate: 1
  betas: [0.9, 0.95]
  learning_rate: 2
arms:
  a: {update: {epochs: 1, epochs: 2}}
update: {}
"""


def test_keys_that_are_given_twice_are_named_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(TWICE)
    for read in (read_yaml, lambda path: refuse_ambiguous([path]), lambda path: experiment_of({}, [path])):
        with pytest.raises(ConfigError) as error:
            read(path)
        assert str(error.value).splitlines() == [
            f"{path}: keys are given twice; keep one of each:",
            "  line 5: update.learning_rate is given on line 3 already",
            "  line 7: arms.a.update.epochs is given on line 7 already",
            "  line 8: update is given on line 2 already",
        ]


MISREAD = """\
name: misread
iterations: 010
seeds: [1:30, "011", 0, 0x10, 1e3, -012]
arms: {007: {}}
"""


def test_numbers_of_another_base_are_named_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "misread.yaml"
    path.write_text(MISREAD)
    for read in (read_yaml, lambda path: refuse_ambiguous([path])):
        with pytest.raises(ConfigError) as error:
            read(path)
        assert str(error.value).splitlines()[1:] == [
            "  line 2: iterations: YAML reads 010 as 8",
            "  line 3: seeds: YAML reads 1:30 as 90",
            "  line 3: seeds: YAML reads -012 as -10",
            "  line 4: arms.007: YAML reads 007 as 7",
        ]


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [x]",
        "? [a, b]\n: 1",
        "a: &r {b: *r}",
        "a: {<<: [1]}",
        "a: *b",
        "a: 2020-13-45",
        "a: b: c",
        "\ta: 1",
        "a: 1\n---\na: 2",
        "a: \0",
    ],
)
def test_what_is_no_plain_yaml_is_one_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml: "):
        read_yaml(path)


def test_a_fault_of_yaml_is_one_line_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "tab.yaml"
    path.write_text("a:\n\tb: 1\n")
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(error.value) == (
        f"{path}: not valid YAML: line 2, column 1: found character '\\t' that cannot start any token; indent with "
        "spaces instead of tabs"
    )


def test_anchors_and_merged_keys_are_no_repetition(tmp_path: Path) -> None:
    path = tmp_path / "anchors.yaml"
    path.write_text("a: &a {x: 1}\nb: &b {y: 2}\nc: {<<: *a, <<: *b, x: 3}\nd: [*a, *a]\n")
    assert read_yaml(path)["c"]["x"] == 3
