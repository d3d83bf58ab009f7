"""The layout of a decoding batch: aligned on the right, as wide as its longest row, with finite padding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from extra_rl.sampling.decode_cache import TRIM, ContextCache, DecodeCache


@pytest.fixture(autouse=True)
def _fresh_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def context(*rows: list[float]) -> ContextCache:
    """One layer, one head, heads of one number: the tokens themselves."""
    cache = ContextCache()
    key_C1T1 = torch.tensor(rows)[:, None, :, None]
    cache.update(key_C1T1, key_C1T1, 0)
    return cache


def appended(cache: DecodeCache, *tokens: float) -> list[list[float]]:
    new_B111 = torch.tensor(tokens)[:, None, None, None]
    keys, values = cache.update(new_B111, new_B111, 0)
    assert torch.equal(keys, values)
    rows: list[list[float]] = values[:, 0, :, 0].tolist()
    return rows


def index(*rows: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.long)


def test_rows_share_a_context_and_grow_in_place() -> None:
    cache = DecodeCache(3, 5)
    cache.admit(context([0, 1, 2], [3, 4, 5]), index(0, 0, 1))
    assert appended(cache, 6, 7, 8) == [[0, 1, 2, 6], [0, 1, 2, 7], [3, 4, 5, 8]]
    assert not cache.full
    assert appended(cache, 9, 9, 9)[2] == [3, 4, 5, 8, 9]
    assert cache.full


def test_a_shorter_context_joins_at_the_right() -> None:
    cache = DecodeCache(2, 5)
    cache.admit(context([1, 2, 3]), index(0))
    cache.admit(context([4, 5]), index(0))
    assert appended(cache, 6, 7) == [[1, 2, 3, 6], [0, 4, 5, 7]]  # padding is zero, not uninitialised memory


def test_a_longer_context_moves_the_others_to_the_right() -> None:
    cache = DecodeCache(2, 5)
    cache.admit(context([1, 2]), index(0))
    cache.admit(context([4, 5, 6, 7]), index(0))
    assert appended(cache, 8, 9) == [[0, 0, 1, 2, 8], [4, 5, 6, 7, 9]]


def test_dropping_a_row_cuts_padding_in_steps() -> None:
    long, short = [1.0] * (TRIM + 5), [0.0] * (TRIM + 2) + [2.0] * 3
    cache = DecodeCache(2, TRIM + 9)
    cache.admit(context(long, short), index(0, 1))
    cache.select(index(1), longest=3)
    assert cache.width == 5  # 3 tokens, and 2 of padding, which is less than TRIM
    assert appended(cache, 7) == [[0, 0, 2, 2, 2, 7]]
    cache.select(index(), longest=0)
    assert (cache.count, cache.width) == (0, 0)
    cache.admit(context([4, 5]), index(0, 0))
    assert appended(cache, 8, 9) == [[4, 5, 8], [4, 5, 9]]
