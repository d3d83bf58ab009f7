"""Cuts, prefix scores, smoothing, ranking and choice, against numbers computed by hand."""

import numpy as np
import pytest

from extra_rl.algorithms.prefixes import (
    candidate_cuts,
    choose_distinct,
    mean_score,
    peak_cut,
    random_cut,
    rank_order,
    smooth_scores,
    spread,
)
from extra_rl.errors import ConfigError, ContractError, NumericalError


def boundaries(length: int, *after: int) -> np.ndarray:
    """A response of `length` tokens that may be cut after the tokens `after`."""
    mask = np.zeros(length, dtype=bool)
    mask[list(after)] = True
    return mask


def test_a_cut_lies_after_its_boundary_token() -> None:
    assert candidate_cuts(boundaries(20, 9)) == ([10], False)


def test_the_range_includes_both_ends() -> None:
    # 20 tokens: cuts 4 .. 16; after token 2 the cut would be 3, after token 16 it would be 17
    marked = boundaries(20, 2, 3, 15, 16)
    assert candidate_cuts(marked, min_tokens=1) == ([4, 16], False)


@pytest.mark.parametrize("length", [5, 15, 35, 100, 4095])
def test_range_ends_are_not_lost_to_rounding(length: int) -> None:
    everywhere = np.ones(length, dtype=bool)
    cuts, _ = candidate_cuts(everywhere, min_tokens=1, max_cuts=length)
    assert cuts == list(range(length // 5, 4 * length // 5 + 1))


def test_range_end_that_floats_overshoot() -> None:
    # 0.07 * 100 = 7.000000000000001 and 0.29 * 100 = 28.999999999999996
    cuts, _ = candidate_cuts(np.ones(100, dtype=bool), first=0.07, last=0.29, min_tokens=1, max_cuts=99)
    assert (cuts[0], cuts[-1]) == (7, 29)


def test_spacing_keeps_the_earliest() -> None:
    # cuts 10, 14, 18, 25, 33: 14 is near 10, 18 is 8 away, 25 is near 18, 33 is 8 away from 25 but 15 from 18
    assert candidate_cuts(boundaries(50, 9, 13, 17, 24, 32)) == ([10, 18, 33], False)


def test_too_many_cuts_are_thinned_evenly() -> None:
    cuts, fallback = candidate_cuts(np.ones(1000, dtype=bool), min_tokens=8, max_cuts=5)
    # 76 cuts 200, 208, ..., 800; the middles of five equal parts are the positions 7, 22, 38, 53, 68
    assert cuts == [200 + 8 * position for position in (7, 22, 38, 53, 68)]
    assert not fallback


def test_a_response_without_boundary_falls_back_to_fixed_strides() -> None:
    assert candidate_cuts(boundaries(50)) == ([10, 18, 26, 34], True)
    assert candidate_cuts(boundaries(50, 0, 49)) == ([10, 18, 26, 34], True)  # boundaries outside the range
    assert candidate_cuts(boundaries(50), max_cuts=2) == ([18, 34], True)


@pytest.mark.parametrize("length", [0, 1])
def test_texts_too_short_to_cut(length: int) -> None:
    assert candidate_cuts(np.ones(length, dtype=bool)) == ([], True)


def test_neither_the_empty_prefix_nor_the_whole_response() -> None:
    whole = {"first": 0.0, "last": 1.0, "min_tokens": 1}
    assert candidate_cuts(np.ones(4, dtype=bool), **whole) == ([1, 2, 3], False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"min_tokens": 0}, {"max_cuts": 0}, {"first": 0.9}, {"first": -0.1}, {"last": 1.1}],
)
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        candidate_cuts(np.ones(50, dtype=bool), **options)  # type: ignore[arg-type]


def test_a_boundary_in_the_range_is_never_lost_and_cuts_keep_their_distance() -> None:
    """Every set of boundaries after tokens 3 to 11 of 14: the range of the cuts is 3 to 11."""
    for marked in range(2**9):
        after = [token for token in range(3, 12) if marked >> (token - 3) & 1]
        cuts, fallback = candidate_cuts(boundaries(14, *after), min_tokens=3)
        in_range = [token + 1 for token in after if token + 1 <= 11]
        assert fallback == (not in_range)
        assert cuts[0] == (3 if fallback else in_range[0])
        assert min(np.diff(cuts), default=3) >= 3


def test_spread() -> None:
    assert spread([1, 2, 3], 3) == [1, 2, 3]
    assert spread([1, 2, 3], 1) == [2]
    assert spread(range(16), 15) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15]
    assert spread([], 5) == []


def test_peak_cut_excludes_the_peak() -> None:
    entropies = np.array([0.1, 0.2, 0.3, 2.0, 0.1, 0.1])  # the peak is token 3
    assert peak_cut(entropies, [1, 2, 3, 4, 5]) == 3  # keeps tokens 0, 1, 2; cut 4 would keep the peak
    assert peak_cut(entropies, [1, 2, 4]) == 2
    assert peak_cut(entropies, [4, 5]) is None
    assert peak_cut(entropies, []) is None
    assert peak_cut(np.zeros(0), []) is None


def test_peak_cut_takes_the_first_of_equal_peaks() -> None:
    assert peak_cut(np.array([0.0, 1.0, 0.0, 1.0]), [1, 2, 3]) == 1


def test_random_cut_is_seeded_and_uniform() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([random_cut([3, 5, 9], rng) or 0 for _ in range(3000)], minlength=10)
    assert counts.sum() == counts[[3, 5, 9]].sum()
    # each 1000 +- sqrt(3000 * 2/9) = 26; five standard deviations
    assert (abs(counts[[3, 5, 9]] - 1000) < 130).all()
    assert random_cut([], rng) is None


def test_the_mean_score_is_that_of_the_kept_tokens() -> None:
    entropies = np.array([1.0, 2.0, 6.0], dtype=np.float32)
    assert mean_score(entropies, 1) == 1.0
    assert mean_score(entropies, 2) == 1.5
    assert mean_score(entropies, 3) == 3.0
    for cut in (0, 4, -1):
        with pytest.raises(ContractError, match=f"cut {cut} "):
            mean_score(entropies, cut)


def test_smoothing_of_two_by_hand() -> None:
    # cos 0, tau 1/ln 3: the own weight e^(ln 3) = 3 against 1, so W = [[3/4, 1/4], [1/4, 3/4]]
    scores, neighbours = smooth_scores(np.array([0.0, 4.0]), np.eye(2), tau=1 / np.log(3))
    np.testing.assert_allclose(scores, [1.0, 3.0], rtol=1e-14)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    np.testing.assert_allclose(neighbours, np.exp(entropy), rtol=1e-14)


def test_tau_is_a_tenth_by_default() -> None:
    scores, _ = smooth_scores(np.array([0.0, 1.0]), np.eye(2))
    assert scores[0] == pytest.approx(1 / (1 + np.exp(10.0)), rel=1e-12)


def test_smoothing_is_by_cosine_and_not_by_dot_product() -> None:
    embeddings = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    scores = np.array([1.0, 2.0, 5.0])
    plain, neighbours = smooth_scores(scores, embeddings)
    longer, same = smooth_scores(scores, embeddings * np.array([[3.0], [0.1], [7.0]]))
    np.testing.assert_allclose(longer, plain, rtol=1e-12)
    np.testing.assert_allclose(same, neighbours, rtol=1e-12)


def test_weights_are_normalised_over_the_neighbours_of_each_prefix() -> None:
    # cosines [[1, 1, 0], [1, 1, 0], [0, 0, 1]], own weight e^(ln 3) = 3: rows (3, 3, 1) / 7 and (1, 1, 3) / 5
    embeddings = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    scores, neighbours = smooth_scores(np.array([7.0, 0.0, 35.0]), embeddings, tau=1 / np.log(3))
    np.testing.assert_allclose(scores, [8.0, 8.0, 22.4], rtol=1e-14)
    # exp(entropy) of (3/7, 3/7, 1/7) is 7 / 3^(6/7), of (1/5, 1/5, 3/5) it is 5 / 3^(3/5)
    np.testing.assert_allclose(neighbours, [7 / 3 ** (6 / 7)] * 2 + [5 / 3 ** (3 / 5)], rtol=1e-14)


def test_parallel_embeddings_erase_the_score() -> None:
    scores, neighbours = smooth_scores(np.array([1.0, 2.0, 6.0]), np.ones((3, 4)))
    np.testing.assert_allclose(scores, 3.0, rtol=1e-14)
    np.testing.assert_allclose(neighbours, 3.0, rtol=1e-14)


def test_tiny_tau_smooths_nothing_and_does_not_overflow() -> None:
    scores, neighbours = smooth_scores(np.array([1.0, 2.0]), np.eye(2), tau=1e-6)
    np.testing.assert_array_equal(scores, [1.0, 2.0])
    np.testing.assert_array_equal(neighbours, [1.0, 1.0])


def test_smoothing_of_one_and_of_none() -> None:
    scores, neighbours = smooth_scores(np.array([0.7]), np.array([[0.0, 2.0]]))
    assert (scores.tolist(), neighbours.tolist()) == ([0.7], [1.0])
    scores, neighbours = smooth_scores(np.zeros(0), np.zeros((0, 4)))
    assert (scores.shape, neighbours.shape) == ((0,), (0,))


def test_smoothing_refuses_embeddings_without_a_direction() -> None:
    for bad in (0.0, np.nan, np.inf):
        with pytest.raises(NumericalError, match="embedding"):
            smooth_scores(np.array([1.0, 2.0]), np.array([[1.0], [bad]]))
    with pytest.raises(ConfigError, match="tau"):
        smooth_scores(np.array([1.0]), np.ones((1, 1)), tau=0.0)


def test_rank_order_and_its_ties() -> None:
    scores, rng = np.array([0.5, 0.1, 0.9, 0.1, 0.9]), np.random.default_rng(0)
    assert rank_order(scores, "low_mean_entropy", rng).tolist() == [1, 3, 0, 2, 4]
    assert rank_order(scores, "high_mean_entropy", rng).tolist() == [2, 4, 0, 1, 3]
    assert rank_order(scores, "low_mean_surprisal", rng).tolist() == [1, 3, 0, 2, 4]
    tied = np.tile([0.5, 0.1], 50)  # an unstable sort keeps the order of short arrays only
    evens, odds = list(range(0, 100, 2)), list(range(1, 100, 2))
    assert rank_order(tied, "low_mean_entropy", rng).tolist() == odds + evens
    assert rank_order(tied, "high_mean_entropy", rng).tolist() == evens + odds


def test_random_rank_order_is_a_seeded_permutation_independent_of_scores() -> None:
    first = rank_order(np.arange(50.0), "random", np.random.default_rng(3))
    again = rank_order(-np.arange(50.0), "random", np.random.default_rng(3))
    other = rank_order(np.arange(50.0), "random", np.random.default_rng(4))
    assert first.tolist() == again.tolist() != other.tolist()
    assert sorted(first.tolist()) == list(range(50))
    with pytest.raises(AssertionError):
        rank_order(np.arange(3.0), "best", np.random.default_rng(0))  # type: ignore[arg-type]


def test_choose_distinct_follows_the_order_and_skips_repeats() -> None:
    keys = [(1, 2), (1,), (1, 2), (3,)]
    assert choose_distinct(np.array([2, 0, 3, 1]), keys, 2) == [2, 3]
    assert choose_distinct([2, 0, 3, 1], keys, 9) == [2, 3, 1]
    assert choose_distinct([], keys, 2) == []
    assert choose_distinct([0, 1], keys, 0) == []
