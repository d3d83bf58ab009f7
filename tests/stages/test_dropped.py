"""A rollout that was dropped: what each stage makes of it, with and without a sampled token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.config.sections import SHARED
from extra_rl.errors import ConfigError
from extra_rl.tables import contracts, scan_iteration
from stages import advantage, audit, choose_prefixes, generate, novelty, regenerate, score_entropy, update, verify
from tests.conftest import POLICY
from tests.stages.rows import Row, dropped, frame, group, problem, run_stage, tables_of, write_tables

MANIFEST = POLICY / "manifest.json"
PROMPT = (1, 6, 7, 107)  # `<bos> 3 4 :`
TRAIN = frame(
    contracts.Problems, [problem(name) | {"prompt_tokens": list(PROMPT)} for name in ("seven", "other", "third")]
)
SELECT = frame(
    contracts.Selection,
    [
        {"group_id": f"extra/s0/i1/{n}", "problem_id": name, "position": n}
        for n, name in enumerate(("seven", "other", "third"))
    ],
)
CHOSEN: dict[str, Any] = {
    "prefix_id": "extra/s0/i0/4/2@3",
    "group_id": "extra/s0/i0/4",
    "problem_id": "seven",
    "parent_rollout_id": "extra/s0/i0/4/2",
    "iteration": 0,
    "prompt_tokens": PROMPT,
    "prefix_tokens": [6, 103, 7],
    "prefix_logprobs": [-0.25, -0.5, -0.75],
    "parent_length": 11,
    "cut_reason": "before_peak",
    "score": 0.5,
    "rank": 0,
    "chosen": True,
    "continuations": 2,
}


def generated(*prefixes: dict[str, Any], sampling: dict[str, Any] | None = None, **config: Any) -> pl.DataFrame:
    """Three prompts, hot enough that some responses are long; five rows at a time."""
    tables = {"select": SELECT, "train": TRAIN, "previous_choose_prefixes": frame(contracts.Prefixes, prefixes)}
    settings = {"temperature": 1.7, "max_response_tokens": 24, "batch_rows": 5, **(sampling or {})}
    section = {"group_size": 4, "sampling": settings, **config}
    return run_stage(generate, tables, section, paths={"policy": MANIFEST}, iteration=1)["generate"]


def ended(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("finish_reason") != "dropped")


def test_once_the_tokens_of_a_call_are_sampled_the_rest_is_dropped_with_what_it_has() -> None:
    whole, table = generated(), generated(sampling={"call_tokens": 60})
    assert table["rollout_id"].to_list() == whole["rollout_id"].to_list()
    assert 60 <= table["sampled_tokens"].sum() < 65 < whole["sampled_tokens"].sum()
    for row, would_be in zip(table.to_dicts(), whole.to_dicts(), strict=True):
        cut = row["sampled_tokens"]
        assert row["response_tokens"] == would_be["response_tokens"][:cut]
        assert (row["finish_reason"] == would_be["finish_reason"]) or cut < would_be["sampled_tokens"]
    lengths = table.filter(finish_reason="dropped")["sampled_tokens"]
    assert min(lengths) == 0
    assert max(lengths) > 0
    assert table.equals(generated(sampling={"call_tokens": 60}))


def test_a_call_in_which_nothing_comes_to_a_token() -> None:
    """One token and one row at a time: all others are empty, and so is their text."""
    table = generated(sampling={"call_tokens": 1, "batch_rows": 1})
    assert sorted(table["sampled_tokens"]) == [0] * 11 + [1]
    assert set(table.filter(sampled_tokens=0)["response"]) == {""}


def test_a_dropped_continuation_keeps_its_prefix() -> None:
    prefixes = frame(contracts.Prefixes, [CHOSEN | {"when": "same_iteration"}])
    config = {"sampling": {"call_tokens": 1, "batch_rows": 1, "max_response_tokens": 12}}
    table = run_stage(regenerate, {"choose_prefixes": prefixes}, config, paths={"policy": MANIFEST})["regenerate"]
    assert table["finish_reason"].to_list() == ["dropped"] * 2
    assert table["sampled_tokens"].to_list() == [1, 0]
    assert table["response_tokens"].list.head(3).to_list() == [[6, 103, 7]] * 2
    assert table["sampler_logprobs"].list.head(3).to_list() == [[-0.25, -0.5, -0.75]] * 2


@pytest.mark.parametrize("prefixes", [(), (CHOSEN | {"when": "next_iteration"},)])
def test_over_sampling_starts_more_and_keeps_as_many_as_without(prefixes: tuple[dict[str, Any], ...]) -> None:
    """4 x 1.3 = 5.2: six are started for each of three prompts; the first four have the seeds that they always had."""
    whole, table = generated(*prefixes), generated(*prefixes, oversample=1.3)
    assert len(table) == 3 * 6 + 2 * len(prefixes)
    # as many as without, and what else ended in the last step
    assert len(whole) <= len(ended(table)) < len(table)
    both = ended(table).join(whole, on="rollout_id")
    assert both["response_tokens"].to_list() == both["response_tokens_right"].to_list()
    assert len(both) > 6


@pytest.mark.parametrize(("size", "oversample", "started"), [(25, 2.2, 55), (10, 1.11, 12), (8, 1.0, 8)])
def test_what_is_started_is_rounded_up_but_for_rounding(size: int, oversample: float, started: int) -> None:
    """In floating point 25 x 2.2 is more than 55."""
    shared = {name: SHARED[name]() for name in ("sampling", "compute", "task", "verifier")}
    config = generate.Config(**shared, group_size=size, oversample=oversample)
    assert generate.started_per_prompt(config) == started


def test_the_order_of_sampling_changes_no_rollout() -> None:
    prefix = CHOSEN | {"when": "next_iteration"}
    assert (
        generated(prefix, sampling={"order": "longest_first"})
        .drop("sampler_logprobs")
        .equals(generated(prefix).drop("sampler_logprobs"))
    )


def test_what_is_longest_is_known_from_earlier_iterations_and_from_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean of 7.2 is 8 tokens; a parent of 11 tokens, cut at 3, had 8 left; `third` has never been there."""
    from extra_rl.sampling.transformers import TransformersSampler

    seen: list[Any] = []
    monkeypatch.setattr(TransformersSampler, "sample", lambda self, requests, *rest: seen.extend(requests) or [])
    lengths = [("seven", 0, 7.2), ("other", 0, 0.5), ("unasked", 0, 9.0)]
    tables = {
        "select": SELECT,
        "train": TRAIN,
        "previous_choose_prefixes": frame(contracts.Prefixes, [CHOSEN | {"when": "next_iteration"}]),
        "previous_summarize_lengths": pl.DataFrame(
            lengths, schema=contracts.ResponseLengths.create_empty().schema, orient="row"
        ),
    }
    with pytest.raises(ValueError, match="zip"):  # the sampler gives nothing back
        run_stage(generate, tables, {"group_size": 2}, paths={"policy": MANIFEST}, iteration=1)
    assert [request.expected for request in seen] == [8, 8, 1, 1, None, None, 8, 8]


def test_verify_gives_the_verdict_without_judging() -> None:
    rows = [
        dropped("a", 3, problem_id="seven", response="3 + 4 = 8"),
        Row("b", problem_id="seven", response="3 + 4 = 7"),
        dropped("c", problem_id="seven"),
    ]
    table = run_stage(verify, {"rollouts": tables_of(rows)["generate"], "train": TRAIN})["verify"]
    assert table["verdict"].to_list() == ["dropped", "right", "dropped"]
    assert table["reward"].to_list() == [None, 1.0, None]
    assert table["extracted"].to_list() == [None, "7", None]
    assert set(table["gold"]) == {"7"}


def test_a_reward_for_what_was_dropped_is_refused() -> None:
    with pytest.raises(ConfigError, match="`dropped` can have no reward"):
        run_stage(verify, {}, {"rewards": {"dropped": 0.0}})


@pytest.mark.parametrize("tokens_per_batch", [1, 8192])
def test_scores_of_no_token_are_no_scores(tokens_per_batch: int) -> None:
    rows = [dropped("a", prompt_tokens=PROMPT), Row("b", prompt_tokens=PROMPT), dropped("c", 2, prompt_tokens=PROMPT)]
    given, config = {"rollouts": tables_of(rows)["generate"]}, {"tokens_per_batch": tokens_per_batch}
    table = run_stage(score_entropy, given, config, paths={"policy": MANIFEST})["score_entropy"]
    assert table["rollout_id"].to_list() == ["a", "b", "c"]
    assert table["policy_logprobs"].list.len().to_list() == table["entropies"].list.len().to_list() == [0, 3, 2]


def test_no_prefix_is_cut_from_it_and_it_makes_no_group_easy_or_hard() -> None:
    """It would be the likeliest parent: long, uncertain, and in a group without a right rollout."""
    place = "extra/s0/i0/0"
    tokens = (10, 105, 12, 13, 105, 15, 16, 17, 18, 2)
    wrong = group("w", response_tokens=tokens, entropies=(0.5,) * 10)
    rows = [
        *wrong,
        dropped(f"{place}/1", response_tokens=tokens, entropies=(0.1,) * 10),
        dropped(f"{place}/2"),
        dropped("extra/s0/i0/1/0", response_tokens=tokens, group_id="extra/s0/i0/1"),
        *group("rw", group_id="extra/s0/i0/2"),
    ]
    config = {"groups": "all_hard", "cut": "every_boundary", "min_tokens": 1, "prefixes_per_problem": 9}
    paths = {"policy": MANIFEST, "initial": MANIFEST}
    table = run_stage(choose_prefixes, tables_of(rows), config, paths=paths)["choose_prefixes"]
    assert set(table["parent_rollout_id"]) == {wrong[0].rollout_id}
    assert set(table["parent_length"]) == {10}


def test_a_candidate_knows_the_length_of_its_parent_also_when_it_waits_and_when_it_is_remembered() -> None:
    rows = group("ww", response_tokens=(10, 105, 12, 13, 105, 15, 16, 17, 18, 2)) + group(
        "ww", group_id="extra/s0/i0/1", problem_id="p1", response_tokens=(10, 105, 12, 13, 105, 15, 16, 2)
    )
    config = {"groups": 1, "cut": "every_boundary", "min_tokens": 1, "remember": 2}
    paths = {"policy": MANIFEST, "initial": MANIFEST}
    made = run_stage(choose_prefixes, tables_of(rows), config, paths=paths)
    pool = made["choose_prefixes_pool"]
    assert set(made["choose_prefixes"]["parent_length"]) == {10}
    assert set(pool.filter("waiting")["parent_length"]) == {8}
    assert set(pool.filter(~pl.col("waiting"))["parent_length"]) == {10}
    given = tables_of([]) | {"previous_choose_prefixes_pool": pool, "generate": tables_of(group("rr"))["generate"]}
    given |= {name: table for name, table in tables_of(group("rr")).items() if name.endswith("_generate")}
    later = run_stage(choose_prefixes, given, config, paths=paths, iteration=1)["choose_prefixes"]
    assert set(later["parent_length"]) == {8}


def test_novelty_neither_compares_with_it_nor_remembers_it() -> None:
    same = (10, 11, 12, 13)
    rows = [
        Row("a", response_tokens=same, verdict="right"),
        dropped("b", response_tokens=same),
        Row("c", response_tokens=(20, 21, 22, 23), verdict="right"),
        dropped("d"),
    ]
    config = {"measure": "lexical", "params": {"n": 2}, "remember": 9}
    made = run_stage(novelty, tables_of(rows), config, paths={"initial": MANIFEST})
    assert made["novelty"]["rollout_id"].to_list() == ["a", "b", "c", "d"]
    assert made["novelty"]["novelty"].to_list() == [1.0, 0.0, 1.0, 0.0]
    assert made["novelty"]["nearest_rollout_id"].to_list() == ["c", None, "a", None]
    assert made["novelty_memory"]["rollout_id"].to_list() == ["a", "c"]


def test_novelty_of_nothing_but_dropped_rollouts() -> None:
    made = run_stage(novelty, tables_of([dropped("a"), dropped("b", 2)]), {"measure": "policy"}, paths={})
    assert made["novelty"]["novelty"].to_list() == [0.0, 0.0]
    assert made["novelty"]["embedding"].to_list() == [None, None]
    assert made["novelty_memory"].is_empty()


def test_a_group_is_normalised_without_it_and_it_is_not_trained_on() -> None:
    place = "extra/s0/i0/0"
    rows = [*group("rw"), dropped(f"{place}/2", 3), dropped(f"{place}/3")]
    made = run_stage(advantage, tables_of(rows), {"eps": 1e-12, "weight": 1.0})["advantage"]
    assert made["advantage"].to_list() == pytest.approx([0.5**0.5, -(0.5**0.5), 0, 0])
    assert made["trained"].to_list() == ["trained", "trained", "excluded", "excluded"]
    assert set(made["group_type"]) == {"mixed"}


def test_its_tokens_are_in_no_step(tmp_path: Path) -> None:
    rows = [*group("rw", prompt_tokens=PROMPT), dropped("extra/s0/i0/0/2", 3), dropped("extra/s0/i0/0/3")]
    tables = tables_of(rows)
    tables |= run_stage(advantage, tables)
    outputs = {"update": tmp_path / "update.parquet", "next_policy": tmp_path / "policy" / "manifest.json"}
    paths = {"policy": MANIFEST, "initial": MANIFEST}
    (step,) = run_stage(update, tables, {"minibatches": 1}, paths=paths, outputs=outputs)["update"].to_dicts()
    assert (step["rows"], step["loss_tokens"]) == (2, 6)


def test_no_second_judge_is_asked_about_it() -> None:
    right = r"\boxed{7}"
    rows = [Row("a", problem_id="seven", response=right), dropped("b", 3, problem_id="seven", response=right)]
    tables = tables_of(rows)
    given = {"rollouts": tables["generate"], "verify": tables["verify_generate"], "train": TRAIN}
    outputs = {"audit": Path("audit_generate.parquet")}
    found = run_stage(audit, given, {"judge": "string", "task": {"name": "math"}}, outputs=outputs)["audit"]
    assert found["rollout_id"].to_list() == ["a"]


def test_a_reader_sees_it_with_its_verdict(tmp_path: Path) -> None:
    rows = [*group("rw"), dropped("extra/s0/i0/0/2", 1), dropped("extra/s0/i0/0/3")]
    tables = tables_of(rows)
    tables |= run_stage(advantage, tables)
    found = scan_iteration(write_tables(tmp_path, tables)).collect()
    assert found["verdict"].to_list() == ["right", "wrong", "dropped", "dropped"]
    assert found["reward"].to_list() == [1.0, 0.0, None, None]
