"""Bytes on disk: the factors against Parquet files, the sums by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from extra_rl.planning import counts, disk
from extra_rl.planning.shapes import Shape
from extra_rl.tables import contracts
from extra_rl.tables.files import write_table
from tests.planning.test_counts import experiment

SHAPE = Shape(1000, hidden=16, layers=2, heads=2, kv_heads=1, head_dim=8, intermediate=32)


def test_a_float_takes_what_a_stored_logprob_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values_NT = -np.exp(rng.normal(-4, 3, (600, 4000))).astype(np.float32)  # the first 2^18 of a column take 6 bytes
    lists = pl.Series(values_NT).arr.to_list()
    ids = [f"a/s0/i0/{n}/0" for n in range(600)]
    columns = {"policy_logprobs": lists, "entropies": lists.list.eval(-pl.element())}
    frame = contracts.TokenScores.cast(pl.DataFrame({"rollout_id": ids, **columns, "computed_tokens": [4000] * 600}))
    write_table(frame, tmp_path / "x.parquet", contracts.TokenScores, {})
    assert (tmp_path / "x.parquet").stat().st_size / (2 * values_NT.size) == pytest.approx(disk.FLOAT, rel=0.1)


def test_tables_by_hand() -> None:
    made = experiment(
        choose_prefixes={"groups": 2, "prefixes_per_problem": 1, "continuations_per_prefix": 4, "max_cuts": 15}
        | {"max_age": 8},
        novelty={"measure": "policy", "params": {}, "remember": 3, "tail_tokens": 8},
    )
    sections = made.arms["grpo"]
    rollouts = counts.at_most(sections)  # 40 fresh and 8 regenerated, 60 tokens; 10 hard groups, 2 of them continued
    found = disk.table_bytes(sections, SHAPE, rollouts, prompt=10, problems=25, iteration=1)
    floats = 48 * 60 * 3 * 4.1 + 48 * 16 * 4.1
    assert found["tables"] == pytest.approx(floats + 48 * 60 * (2.0 + 1.5) + 48 * (60 + 2 * 10) + disk.FIXED)
    assert found["novelty memory"] == pytest.approx(3 * 20 * (8 * 2 + 16 * 4.1))  # of 20 problems seen by then
    candidates = 2 * 15 + 2 * 8 * 15  # continued; waiting of two iterations
    assert found["prefixes"] == pytest.approx(candidates * (45 * (2.0 + 4.1) + 2 * 10))
    later = disk.table_bytes(sections, SHAPE, rollouts, prompt=10, problems=25, iteration=99)
    assert later["novelty memory"] == pytest.approx(3 * 25 * (8 * 2 + 16 * 4.1))
    assert later["prefixes"] == pytest.approx((30 + 9 * 8 * 15) * (45 * 6.1 + 20))


def test_the_cheapest_action_has_one_more_candidate_a_group_and_stores_results_of_groups() -> None:
    """10 groups an iteration; results of the latest 9 iterations, because a group may wait for 8."""
    cheapest = {"groups": 2, "max_cuts": 15, "max_age": 8, "rank": "calibrated", "action": "cheapest"}
    sections = experiment(choose_prefixes=cheapest).arms["grpo"]
    rollouts = counts.at_most(sections)
    found = disk.table_bytes(sections, SHAPE, rollouts, prompt=10, problems=25, iteration=1)
    assert found["prefixes"] == pytest.approx((2 + 2 * 8) * 16 * (45 * 6.1 + 20) + 2 * 10 * 60)
    later = disk.table_bytes(sections, SHAPE, rollouts, prompt=10, problems=25, iteration=99)
    assert later["prefixes"] == pytest.approx((2 + 9 * 8) * 16 * (45 * 6.1 + 20) + 9 * 10 * 60)
    branch = experiment(choose_prefixes={**cheapest, "action": "branch"}).arms["grpo"]
    assert counts.at_most(branch) == rollouts  # no action samples more than the branches of every hard group


def test_disabled_memories_take_no_space() -> None:
    sections = experiment().arms["grpo"]
    found = disk.table_bytes(sections, SHAPE, counts.at_most(sections), prompt=10, problems=25, iteration=4)
    assert found["novelty memory"] == found["prefixes"] == 0


def test_stored_trajectories_are_as_many_as_groups_up_to_their_capacity() -> None:
    """10 groups an iteration of 60 tokens and prompts of 10."""
    sections = experiment(choose_prefixes={"replay": {"rows": 3, "capacity": 25}}).arms["grpo"]
    rollouts = counts.at_most(sections)
    for iteration, stored in ((0, 10), (1, 20), (9, 25)):
        found = disk.table_bytes(sections, SHAPE, rollouts, prompt=10, problems=25, iteration=iteration)
        assert found["prefixes"] == pytest.approx(stored * (60 * (2.0 + 4.1) + 2 * 10))


def test_a_warm_up_has_no_prefixes() -> None:
    sections = experiment(choose_prefixes={"groups": "all_hard", "warmup_iterations": 3}).arms["grpo"]
    rollouts = counts.at_most(sections)
    sizes = [
        disk.table_bytes(sections, SHAPE, rollouts, prompt=10, problems=25, iteration=i)["prefixes"] for i in (2, 3)
    ]
    assert sizes[0] == 0 < sizes[1]


def test_the_embedder_determines_the_width_of_embeddings() -> None:
    def width(**novelty: object) -> int:
        return disk.embedding_width(experiment(novelty=novelty).arms["grpo"], SHAPE)

    assert width(measure="sentence") == 384
    assert width(measure="random", params={"reference": "policy"}) == 16
    assert width(measure="lexical") == 0


def test_candidates_of_a_group_by_cut_rule() -> None:
    for cut, expected in (("before_peak_entropy", 4), ("random", 4), ("none", 1), ("every_boundary", 15)):
        sections = experiment(choose_prefixes={"groups": "all_hard", "cut": cut}).arms["grpo"]
        assert disk.candidates(sections, counts.at_most(sections), age=1) == 10 * expected


def test_retention_determines_the_remaining_bytes() -> None:
    made = experiment(retention={"weights_every": 3, "optimizer_states": 2})
    sections = made.arms["grpo"]
    rollouts = counts.at_most(sections)
    found = disk.disk_of(sections, made.run, SHAPE, rollouts, prompt=10, problems=25)
    assert found.total["weights"] == 3 * 4 * SHAPE.parameters  # the third iteration, and the last two of five
    assert found.total["optimizer"] == 2 * 8 * SHAPE.parameters
    assert found.total["tables"] == pytest.approx(5 * found.iteration["tables"])
    everything = disk.disk_of(sections, experiment().run, SHAPE, rollouts, prompt=10, problems=25)
    assert everything.total["weights"] == 5 * 4 * SHAPE.parameters
    assert everything.total["optimizer"] == 5 * 8 * SHAPE.parameters
    window = made.run.model_copy(update={"first_iteration": 3})
    later = disk.disk_of(sections, window, SHAPE, rollouts, prompt=10, problems=25)
    assert later.total["weights"] == 2 * 4 * SHAPE.parameters


def test_adapters_eight_bit_states_and_external_states() -> None:
    def written(lora: object = None, optimizer: str = "adamw", folder: str | None = None) -> dict[str, float]:
        made = experiment(update={"lora": lora, "optimizer": optimizer}, retention={"optimizer_folder": folder})
        sections = made.arms["grpo"]
        rollouts = counts.at_most(sections)
        return disk.disk_of(sections, made.run, SHAPE, rollouts, prompt=10, problems=25).iteration

    whole = written()
    assert written(optimizer="adamw_8bit")["optimizer"] == pytest.approx(2.03125 * SHAPE.parameters)
    assert written(folder="/dev/shm/x")["optimizer"] == 0
    # q_proj and v_proj of rank 4: 4 numbers for every input and every output of each layer's matrices.
    ends = 2 * SHAPE.hidden + (SHAPE.heads + SHAPE.kv_heads) * SHAPE.head_dim
    adapted = written(lora={"rank": 4, "targets": ["q_proj", "v_proj"]})
    assert adapted["optimizer"] == 8 * 4 * SHAPE.layers * ends
    assert adapted["weights"] == whole["weights"] + 4 * 4 * SHAPE.layers * ends


def test_a_new_models_tokenizer_is_small() -> None:
    assert disk.tokenizer_bytes(SHAPE, experiment().arms["grpo"]) == 0
    given = experiment(model={"source": "Qwen/Qwen3-1.7B"}).arms["grpo"]
    assert disk.tokenizer_bytes(replace(SHAPE, vocabulary=151_936), given) == pytest.approx(11.4e6, rel=0.01)


def test_an_evaluation_is_also_stored_in_the_cache() -> None:
    table = 100 * (60 + 50 * 3.5)
    assert disk.evaluation_bytes(100, 50, cached=False) == table
    assert disk.evaluation_bytes(100, 50, cached=True) == table + 100 * 50 * 2
