"""Intervals and tests for differences between arms over several seeds: pure functions on arrays (docs/statistics.md).

Axes: S seeds, B benchmarks, R resamples, T tests, P problems.
"""
