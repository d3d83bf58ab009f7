"""novelty: the measure over this iteration and the remembered rollouts, and the memory for the next iteration."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from extra_rl.errors import ConfigError, NumericalError
from stages import novelty
from tests.conftest import POLICY
from tests.stages.rows import Row, run_stage, tables_of

BIGRAMS: dict[str, Any] = {"measure": "lexical", "params": {"n": 2}}
SAME, OTHER = (10, 11, 12, 13), (20, 21, 22, 23)


def measured(
    rows: list[Row],
    memory: pl.DataFrame | None = None,
    regenerated: list[Row] | None = None,
    iteration: int = 0,
    **config: Any,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The novelty table and the memory."""
    tables = tables_of(rows, regenerated or [])
    if memory is not None:
        tables["previous_novelty_memory"] = memory
    paths = {"initial": POLICY / "manifest.json"}
    made = run_stage(novelty, tables, config, paths=paths, iteration=iteration)
    return made["novelty"], made["novelty_memory"]


def rows(*responses: tuple[int, ...], problem: str = "p0", iteration: int = 0) -> list[Row]:
    group_id = f"extra/s0/i{iteration}/{problem}"
    return [
        Row(f"{group_id}/{n}", group_id=group_id, problem_id=problem, verdict="right", response_tokens=tokens)
        for n, tokens in enumerate(responses)
    ]


def test_zero_gives_every_rollout_zero_and_no_neighbour() -> None:
    table, memory = measured(rows(SAME, OTHER), measure="zero")
    assert table["novelty"].to_list() == [0.0, 0.0]
    assert table["nearest_rollout_id"].to_list() == [None, None]
    assert table["embedding"].to_list() == [None, None]
    assert memory.is_empty()


def test_rollouts_are_compared_within_their_problem_only() -> None:
    table, _ = measured(rows(SAME, OTHER) + rows(SAME, problem="p1"), **BIGRAMS)
    # no bigram in common with the sibling; an empty comparison set
    assert table["novelty"].to_list() == [1.0, 1.0, 0.0]
    assert table["nearest_rollout_id"].to_list() == ["extra/s0/i0/p0/1", "extra/s0/i0/p0/0", None]


def test_regenerated_rollouts_are_compared_with_all_rollouts_of_the_problem() -> None:
    fresh = rows(SAME)
    copy = fresh[0].continued("extra/s0/i0/i0.p0/0", 2, verdict="right")
    table, _ = measured(fresh, regenerated=[copy], **BIGRAMS)
    assert table["novelty"].to_list() == [0.0, 0.0]
    assert table["rollout_id"].to_list() == ["extra/s0/i0/p0/0", "extra/s0/i0/i0.p0/0"]


def test_a_copy_of_a_remembered_rollout_is_not_novel() -> None:
    _, memory = measured(rows(SAME), remember=2, **BIGRAMS)
    again = rows(SAME, OTHER, iteration=1)
    table, _ = measured(again, memory, iteration=1, **BIGRAMS)
    assert table["novelty"].to_list() == [0.0, 1.0]
    assert table["nearest_rollout_id"][0] == "extra/s0/i0/p0/0"
    forgotten, _ = measured(again, iteration=1, **BIGRAMS)
    assert forgotten["novelty"].to_list() == [1.0, 1.0]


def test_the_memory_keeps_the_last_rollouts_of_each_problem() -> None:
    _, memory = measured(rows(SAME, OTHER) + rows(SAME, problem="p1"), remember=3, **BIGRAMS)
    _, memory = measured(rows(OTHER, SAME, iteration=1), memory, iteration=1, remember=3, **BIGRAMS)
    kept = memory.group_by("problem_id", maintain_order=True).agg("rollout_id", "iteration")
    assert dict(zip(kept["problem_id"], kept["rollout_id"].to_list(), strict=True)) == {
        "p0": ["extra/s0/i0/p0/1", "extra/s0/i1/p0/0", "extra/s0/i1/p0/1"],
        "p1": ["extra/s0/i0/p1/0"],
    }
    assert memory.filter(problem_id="p0")["iteration"].to_list() == [0, 1, 1]


def test_an_empty_iteration_passes_the_memory_on() -> None:
    _, memory = measured(rows(SAME), remember=2, **BIGRAMS)
    table, passed_on = measured([], memory, remember=2, **BIGRAMS)
    assert table.is_empty()
    assert passed_on.equals(memory)


def test_only_the_tail_is_compared_and_remembered() -> None:
    first, second = (30, 31, *SAME), (40, 41, *SAME)
    whole, _ = measured(rows(first, second), **BIGRAMS)
    assert whole["novelty"].to_list() == pytest.approx([1 - 3 / 7] * 2)  # 3 of 7 different bigrams in common
    table, memory = measured(rows(first, second), tail_tokens=4, remember=2, **BIGRAMS)
    assert table["novelty"].to_list() == [0.0, 0.0]
    assert memory["tokens"].to_list() == [list(SAME)] * 2


def test_the_stored_embeddings_reproduce_the_distances() -> None:
    table, memory = measured(rows(SAME, OTHER, SAME), measure="policy", remember=6)
    embeddings_ND = np.array(table["embedding"].to_list())
    assert np.linalg.norm(embeddings_ND, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert embeddings_ND[0] == pytest.approx(embeddings_ND[2], abs=1e-5)
    expected = [0.0, 1 - embeddings_ND[1] @ embeddings_ND[0], 0.0]
    assert expected[1] > 0.05
    assert table["novelty"].to_list() == pytest.approx(expected, abs=1e-5)
    assert table["nearest_rollout_id"].to_list()[0] == "extra/s0/i0/p0/2"
    assert memory["embedding"].to_list() == table["embedding"].to_list()


def test_remembered_embeddings_are_in_the_comparison_set() -> None:
    _, memory = measured(rows(SAME), measure="policy", remember=6)
    table, _ = measured(rows(SAME, OTHER, iteration=1), memory, iteration=1, measure="policy")
    assert table["novelty"][0] == pytest.approx(0.0, abs=1e-5)
    assert table["nearest_rollout_id"][0] == "extra/s0/i0/p0/0"


def test_the_random_control_permutes_the_values_of_its_reference() -> None:
    batch = rows(SAME, OTHER, (30, 31, 12, 13)) + rows(SAME, (50, 51), problem="p1")
    reference, _ = measured(batch, measure="policy")
    control, _ = measured(batch, measure="random", params={"reference": "policy"})
    assert sorted(control["novelty"]) == pytest.approx(sorted(reference["novelty"]))
    assert control["novelty"].to_list() != reference["novelty"].to_list()


@pytest.mark.parametrize(
    ("config", "named"), [({"measure": "cosine"}, "cosine"), ({"measure": "lexical", "params": {"poll": 1}}, "poll")]
)
def test_an_unknown_measure_or_setting_is_refused(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        measured(rows(SAME), **config)


def test_only_surprise_needs_token_scores() -> None:
    found = tables_of(rows(SAME, OTHER))
    unscored = found["score_entropy_generate"].with_columns(
        *(pl.lit(None, pl.List(pl.Float32)).alias(name) for name in ("policy_logprobs", "entropies")),
        computed_tokens=pl.lit(0, pl.Int64),
    )
    tables, paths = found | {"score_entropy_generate": unscored}, {"initial": POLICY / "manifest.json"}
    table = run_stage(novelty, tables, BIGRAMS, paths=paths)["novelty"]
    assert table.equals(measured(rows(SAME, OTHER), **BIGRAMS)[0])
    with pytest.raises(NumericalError, match=r"p0/0.*score_entropy"):
        run_stage(novelty, tables, {"measure": "surprise"}, paths=paths)
