"""Properties that every registered novelty measure must have."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import extra_rl.novelty
from extra_rl.errors import ContractError
from extra_rl.novelty import MEASURES, Pool
from extra_rl.novelty.base import MeasureParams, Result

GROUP_SIZES = {7: 6, 3: 8, 100: 1, 12: 9, 5: 2}  # the rollout of group 100 has an empty comparison set
MEMORY_GROUPS = (7, 7, 3, 12, 12, 12, 99)  # group 99 has no rollout in the batch
SHARED = {"base.py", "comparison.py", "ngrams.py", "__init__.py"}
# By default the random control permutes values across groups.
OPTIONS = ({}, {"pool": "correct", "aggregate": "mean", "within": "group", "n": 2})

CASES = [
    pytest.param(name, {key: value for key, value in options.items() if key in fields}, id=f"{name}-{number}")
    for name, fields in ((name, measure.Params.model_fields) for name, measure in MEASURES.items())
    for number, options in enumerate(OPTIONS)
]
every_measure = pytest.mark.parametrize("name", MEASURES)
every_case = pytest.mark.parametrize(("name", "options"), CASES)


def read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)  # a measure that writes into its input raises
    return array


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_pool(labels: np.ndarray, memory: tuple[int, ...] = (), seed: int = 0) -> Pool:
    """Random rollouts; few distinct tokens, so that n-grams recur."""
    rng = np.random.default_rng(seed)

    def responses(count: int) -> list[np.ndarray]:
        return [read_only(rng.integers(0, 3, rng.integers(1, 12))) for _ in range(count)]

    tokens = responses(len(labels))
    return Pool(
        rollout_ids_N=[f"r{row}" for row in range(len(labels))],
        groups_N=read_only(np.array(labels, np.int64)),
        correct_N=read_only(rng.random(len(labels)) < 0.6),
        tokens_N=tokens,
        logprobs_N=[read_only(-rng.random(len(row)).astype(np.float32)) for row in tokens],
        embeddings_ND=read_only(unit_rows(rng.normal(size=(len(labels), 8)))),
        memory_groups_M=read_only(np.array(memory, np.int64)),
        memory_tokens_M=responses(len(memory)),
        memory_embeddings_MD=read_only(unit_rows(rng.normal(size=(len(memory), 8)))),
    )


def select(pool: Pool, rows: np.ndarray, memory_rows: np.ndarray) -> Pool:
    """The pool with these rollouts and remembered rollouts, in this order."""

    def take(values, chosen):
        return values[chosen] if isinstance(values, np.ndarray) else [values[index] for index in chosen]

    return Pool(
        **{
            field.name: take(getattr(pool, field.name), memory_rows if field.name.startswith("memory") else rows)
            for field in dataclasses.fields(Pool)
        }
    )


@pytest.fixture
def pool() -> Pool:
    labels = np.repeat(list(GROUP_SIZES), list(GROUP_SIZES.values()))
    return make_pool(np.random.default_rng(1).permutation(labels), MEMORY_GROUPS)


def novelty(name: str, pool: Pool, options: dict[str, object] | None = None, seed: int = 0) -> Result:
    measure = MEASURES[name]
    return measure.measure(pool, measure.Params(**(options or {})), seed)


def test_every_measure_file_is_registered():
    folder = Path(extra_rl.novelty.__file__).parent
    files = {path.name for path in folder.glob("*.py")} - SHARED
    assert files == {Path(measure.__file__).name for measure in MEASURES.values()}


@every_measure
def test_settings_are_described_frozen_and_refuse_unknown_keys(name):
    params_class = MEASURES[name].Params
    assert issubclass(params_class, MeasureParams)
    assert all(field.description for field in params_class.model_fields.values())
    with pytest.raises(ValidationError):
        params_class(no_such_setting=1)
    for field in params_class.model_fields:
        with pytest.raises(ValidationError):
            setattr(params_class(), field, "all")


@every_case
def test_novelty_has_the_shape_of_the_batch_and_is_finite_and_not_negative(name, options, pool):
    result = novelty(name, pool, options)
    assert result.novelty_N.shape == result.nearest_N.shape == (26,)
    assert result.novelty_N.dtype == np.float64
    assert result.nearest_N.dtype == np.int64
    assert np.isfinite(result.novelty_N).all()
    assert (result.novelty_N >= 0).all()
    assert (name == "zero") == (not result.novelty_N.any())


@every_case
def test_nearest_is_another_rollout_of_the_same_group(name, options, pool):
    nearest_N = novelty(name, pool, options).nearest_N
    labels = np.concatenate([pool.groups_N, pool.memory_groups_M])
    named = np.flatnonzero(nearest_N != -1)
    assert (nearest_N[named] != named).all()
    assert (labels[nearest_N[named]] == labels[named]).all()


@every_case
def test_an_empty_comparison_set_gives_zero(name, options):
    result = novelty(name, make_pool(np.arange(10)), options)
    np.testing.assert_array_equal(result.novelty_N, 0.0)
    np.testing.assert_array_equal(result.nearest_N, -1)


@every_case
def test_incorrect_siblings_alone_are_an_empty_set_of_correct_ones(name, options, pool):
    incorrect = dataclasses.replace(select(pool, np.arange(26), np.arange(0)), correct_N=read_only(np.zeros(26, bool)))
    if options.get("pool") == "correct":
        np.testing.assert_array_equal(novelty(name, incorrect, options).novelty_N, 0.0)
    else:
        assert (name == "zero") == (not novelty(name, incorrect, options).novelty_N.any())


@every_case
def test_an_empty_batch_gives_empty_arrays(name, options):
    for memory in ((), MEMORY_GROUPS):
        result = novelty(name, make_pool(np.arange(0), memory), options)
        assert result.novelty_N.shape == result.nearest_N.shape == (0,)


@every_case
def test_novelty_does_not_depend_on_the_order_of_rows(name, options, pool):
    rng = np.random.default_rng(2)
    rows, memory_rows = rng.permutation(26), rng.permutation(len(MEMORY_GROUPS))
    moved = novelty(name, select(pool, rows, memory_rows), options).novelty_N
    np.testing.assert_allclose(moved, novelty(name, pool, options).novelty_N[rows], rtol=0, atol=1e-9)


@every_case
def test_novelty_does_not_depend_on_other_groups(name, options, pool):
    if "within" in MEASURES[name].Params.model_fields:
        options = options | {"within": "group"}
    rows = np.flatnonzero(pool.groups_N == 3)
    memory_rows = np.flatnonzero(pool.memory_groups_M == 3)
    alone = novelty(name, select(pool, rows, memory_rows), options).novelty_N
    np.testing.assert_allclose(alone, novelty(name, pool, options).novelty_N[rows], rtol=0, atol=1e-9)


@every_case
def test_only_the_random_control_depends_on_the_seed(name, options, pool):
    first, again, other = (novelty(name, pool, options, seed).novelty_N for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (name != "random")


@every_case
def test_copies_of_one_rollout_are_equally_novel(name, options):
    base = make_pool(np.zeros(1))
    copies = Pool(
        rollout_ids_N=list("abcd"),
        groups_N=np.zeros(4, np.int64),
        correct_N=np.ones(4, bool),
        tokens_N=base.tokens_N * 4,
        logprobs_N=base.logprobs_N * 4,
        embeddings_ND=np.repeat(base.embeddings_ND, 4, axis=0),
    )
    values = novelty(name, copies, options).novelty_N
    np.testing.assert_allclose(values, values[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), [case for case in CASES if not case.id.startswith("random")])
def test_remembering_a_copy_never_increases_novelty(name, options, pool):
    before = novelty(name, pool, options).novelty_N
    for row in np.flatnonzero(pool.groups_N == 7):  # a group with memory: its comparison sets are not empty
        remembered = dataclasses.replace(
            pool,
            memory_groups_M=np.append(pool.memory_groups_M, 7),
            memory_tokens_M=[*pool.memory_tokens_M, pool.tokens_N[row]],
            memory_embeddings_MD=np.vstack([pool.memory_embeddings_MD, pool.embeddings_ND[row]]),
        )
        assert novelty(name, remembered, options).novelty_N[row] <= before[row] + 1e-9


@every_measure
def test_embeddings_are_read_only_by_measures_that_declare_it(name, pool):
    bare = dataclasses.replace(pool, embeddings_ND=None, memory_embeddings_MD=None)
    if MEASURES[name].NEEDS_EMBEDDINGS:
        with pytest.raises(ContractError, match="embeddings"):
            novelty(name, bare)
    else:
        np.testing.assert_array_equal(novelty(name, bare).novelty_N, novelty(name, pool).novelty_N)
