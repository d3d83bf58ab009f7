"""The benchmarks' reference answers, shared with the tests of the mathematics verifier."""

from __future__ import annotations

from tests.mathjudge.conftest import benchmark_golds

__all__ = ["benchmark_golds"]
