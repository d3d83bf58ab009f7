"""Novelty values computed by hand, one small group at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from extra_rl.errors import ContractError, NumericalError
from extra_rl.novelty import MEASURES, Pool
from extra_rl.novelty.ngrams import ngram_incidence

ROOT_HALF = 2**-0.5


def group(
    tokens=None, *, embeddings=None, logprobs=None, correct=None, memory_tokens=(), memory_embeddings=None
) -> Pool:
    """One group of rollouts and its memory, from plain lists."""
    size = len(next(values for values in (tokens, embeddings, logprobs) if values is not None))
    if logprobs is None:
        logprobs = [[0.0] * len(row) for row in tokens] if tokens is not None else [[]] * size
    if tokens is None:
        tokens = [[0] * len(row) for row in logprobs]
    remembered = len(memory_tokens) if memory_embeddings is None else len(memory_embeddings)
    return Pool(
        rollout_ids_N=[f"r{row}" for row in range(size)],
        groups_N=np.zeros(size, np.int64),
        correct_N=np.array(correct if correct is not None else [True] * size),
        tokens_N=[np.array(row, np.int32) for row in tokens],
        logprobs_N=[np.array(row, np.float32) for row in logprobs],
        embeddings_ND=None if embeddings is None else np.array(embeddings, np.float32),
        memory_groups_M=np.zeros(remembered, np.int64),
        memory_tokens_M=[np.array(row, np.int32) for row in memory_tokens] or [np.array([0])] * remembered,
        memory_embeddings_MD=None if memory_embeddings is None else np.array(memory_embeddings, np.float32),
    )


def measured(name, rollouts, **options):
    measure = MEASURES[name]
    return measure.measure(rollouts, measure.Params(**options), seed=0)


def check(name, rollouts, expected, nearest=None, **options):
    result = measured(name, rollouts, **options)
    np.testing.assert_allclose(result.novelty_N, expected, rtol=0, atol=1e-6)
    if nearest is not None:
        assert result.nearest_N.tolist() == nearest


# Cosines: 01 = 0.6, 02 = 0, 12 = 0.8.
CORNER = [[1, 0], [0.6, 0.8], [0, 1]]


def test_embedding_distance_to_the_nearest_sibling():
    check("sentence", group(embeddings=CORNER), [0.4, 0.2, 0.2], nearest=[1, 2, 1])


def test_embedding_distance_to_the_mean_of_the_siblings():
    check("policy", group(embeddings=CORNER), [0.7, 0.3, 0.6], nearest=[1, 2, 1], aggregate="mean")


def test_incorrect_rollouts_are_compared_with_correct_siblings():
    pool = group(embeddings=CORNER, correct=[True, False, True])
    check("sentence", pool, [1.0, 0.2, 1.0], nearest=[2, 2, 0], pool="correct")


def test_remembered_rollouts_count_also_with_pool_correct():
    # Cosines with the remembered rollout, row 3: 0.8, 0.96, 0.6.
    pool = group(embeddings=CORNER, correct=[False] * 3, memory_embeddings=[[0.8, 0.6]])
    check("sentence", pool, [0.2, 0.04, 0.2], nearest=[3, 3, 1])
    check("sentence", pool, [0.2, 0.04, 0.4], nearest=[3, 3, 3], pool="correct")


def test_embedding_distance_of_opposite_and_of_empty_responses():
    check("sentence", group(embeddings=[[1, 0], [-1, 0]]), [2.0, 2.0])
    check("sentence", group(embeddings=[[1, 0], [0, 0]]), [1.0, 1.0])


def test_embedding_distance_of_a_copy_is_zero_even_if_its_cosine_exceeds_one():
    values_N = measured("sentence", group(embeddings=[[1.0005, 0]] * 2)).novelty_N
    assert values_N.tolist() == [0.0, 0.0]


def test_embedding_distance_reports_the_first_of_equally_near_rollouts():
    check("sentence", group(embeddings=[[1, 0]] * 3), [0.0, 0.0, 0.0], nearest=[1, 0, 0])


# Bigrams: {12, 23, 34}, {12, 23, 35}, {99}. Jaccard of the first two: 2 shared of 4.
RESPONSES = [[1, 2, 3, 4], [1, 2, 3, 5], [9, 9, 9]]


def test_lexical_is_one_minus_jaccard_of_token_ngrams():
    check("lexical", group(RESPONSES), [0.5, 0.5, 1.0], nearest=[1, 0, 0], n=2)
    check("lexical", group(RESPONSES), [0.75, 0.75, 1.0], n=2, aggregate="mean")
    # 4-grams by default: no two responses share one.
    check("lexical", group(RESPONSES), [1.0, 1.0, 1.0])


def test_lexical_counts_remembered_rollouts():
    check("lexical", group(RESPONSES, memory_tokens=[[9, 9]]), [0.5, 0.5, 0.0], nearest=[1, 0, 3], n=2)


def test_lexical_compares_responses_shorter_than_an_ngram_as_a_whole():
    check("lexical", group([[7], [7], [7, 8]]), [0.0, 0.0, 1.0])
    check("lexical", group([[], [], [7]]), [0.0, 0.0, 1.0])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_ngram_incidence_agrees_with_sets_of_tuples(n):
    responses = list(itertools.product([0, 1, 2], repeat=3))
    grams = [{row[start : start + n] for start in range(4 - n)} for row in responses]
    incidence = ngram_incidence([np.array(row) for row in responses], n)
    assert incidence.shape == (27, 3**n)
    expected = [[len(left & right) for right in grams] for left in grams]
    np.testing.assert_array_equal(incidence @ incidence.T, expected)


def test_ngram_count_averages_one_over_root_of_the_rollouts_that_contain_an_ngram():
    shared = (2 * ROOT_HALF + 1) / 3
    check("ngram_count", group(RESPONSES), [shared, shared, 1.0], nearest=[-1] * 3, n=2)


def test_ngram_count_counts_remembered_rollouts_and_only_the_siblings_that_count():
    pool = group(RESPONSES, correct=[True, False, True], memory_tokens=[[9, 9]])
    shared = (2 * ROOT_HALF + 1) / 3
    # The incorrect rollout, row 1, is no visit for row 0; the remembered one is a visit for row 2.
    check("ngram_count", pool, [1.0, shared, ROOT_HALF], n=2, pool="correct")


def test_ngram_count_of_copies_and_of_an_empty_response():
    check("ngram_count", group([[1, 2]] * 4), [0.5] * 4, n=2)
    check("ngram_count", group([[], [1, 2]]), [0.0, 1.0], n=2)


# Surprise per token: 1, 3, 2 nats.
LOGPROBS = [[-1.0, -1.0], [-2.0, -4.0], [-2.0]]


def test_surprise_is_the_excess_over_the_siblings_mean():
    check("surprise", group(logprobs=LOGPROBS), [0.0, 1.5, 0.0], nearest=[-1] * 3)
    check("surprise", group(logprobs=LOGPROBS, correct=[True, False, True]), [0.0, 1.5, 1.0], pool="correct")


def test_surprise_ignores_a_common_offset_of_the_group():
    shifted = [[value - 5 for value in row] for row in LOGPROBS]
    check("surprise", group(logprobs=shifted), [0.0, 1.5, 0.0])


def test_surprise_ignores_remembered_rollouts():
    check("surprise", group(logprobs=[[-1.0]], memory_tokens=[[1]]), [0.0])


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_surprise_names_the_rollout_with_a_logprob_that_is_not_finite(value):
    with pytest.raises(NumericalError, match="Rollout r1"):
        measured("surprise", group(logprobs=[[-1.0], [-1.0, value]]))


@pytest.mark.parametrize("bad", [[[1, 0], [2, 0]], [[1, 0], [np.nan, 0]]])
def test_embeddings_that_are_not_of_unit_norm_are_refused(bad):
    with pytest.raises(ContractError, match="norm"):
        measured("sentence", group(embeddings=bad))


def test_remembered_rollouts_without_embeddings_are_refused():
    with pytest.raises(ContractError, match="Remembered rollouts"):
        measured("sentence", group([[1]], embeddings=[[1, 0]], memory_tokens=[[1]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rollout_ids_N": ["a", "a"]}, "rollout_ids_N"),
        ({"correct_N": np.array([True])}, "correct_N has 1 .* 2"),
        ({"memory_tokens_M": [np.array([1])]}, "memory_tokens_M has 1 .* 0"),
        ({"logprobs_N": [np.zeros(1), np.zeros(2)]}, "Rollout b has 1 .* 2"),
    ],
)
def test_a_pool_whose_columns_disagree_is_refused(change, message):
    columns = {
        "rollout_ids_N": ["a", "b"],
        "groups_N": np.zeros(2, np.int64),
        "correct_N": np.ones(2, bool),
        "tokens_N": [np.array([1]), np.array([2])],
        "logprobs_N": [np.zeros(1), np.zeros(1)],
    }
    Pool(**columns)
    with pytest.raises(ContractError, match=message):
        Pool(**columns | change)
