"""The order in which requests are taken."""

from __future__ import annotations

from extra_rl.sampling.base import Request, decoding_order


def test_requests_are_taken_by_the_length_of_their_context_then_by_context() -> None:
    requested = [Request((3, 1), 9, 0), Request((2,), 9, 1), Request((3, 1), 9, 2), Request((1, 1), 9, 3)]
    assert decoding_order(requested) == [1, 3, 0, 2]
