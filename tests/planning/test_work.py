"""Calls of the sampler in an iteration, shards, and parts of an evaluation: by hand."""

from __future__ import annotations

from typing import Any

import pytest

from extra_rl.planning import counts, work
from extra_rl.planning.compute import Decoder, Speed
from extra_rl.planning.devices import Device
from extra_rl.planning.memory import Lengths
from extra_rl.planning.shapes import Shape
from extra_rl.planning.steps import Call
from tests.planning.test_counts import HALF, sections

SHAPE = Shape(50, hidden=32, layers=3, heads=4, kv_heads=2, head_dim=16, intermediate=64)
FAST = Device("", bfloat16=1e30, float32=1e30, bandwidth=1e30, memory=80e9)
SPEED = Speed(FAST, 0.4, {"transformers": Decoder(3.6, 1.0), "vllm": Decoder(3.6, 1.0)})
"""Nothing but the steps takes time: 1,000 steps are an hour."""


def some(backend: str = "vllm", when: str = "same_iteration", **sampling: Any) -> counts.Sections:
    return sections(
        sampling={"backend": backend, "batch_rows": 8, "max_response_tokens": 60, **sampling},
        choose_prefixes={"groups": 3, "prefixes_per_problem": 2, "continuations_per_prefix": 4, "when": when},
    )


def test_each_stage_is_a_call() -> None:
    made = some()
    fresh, continued = work.calls_of(made, counts.expected(made, HALF), HALF.prompt)
    assert fresh == Call(40, 10, prompt=10, mean=20, longest=60)
    # Cut in the middle of 25 to 75 % of 20 tokens: 10 are given, 10 sampled, at most 50.
    assert continued == Call(24, 6, prompt=20, mean=10, longest=50)
    bound = work.calls_of(made, counts.at_most(made), 40)[1]
    assert bound == Call(24, 6, prompt=40 + 45, mean=60, longest=60)


def test_queued_continuations_are_sampled_in_the_next_call_of_generate() -> None:
    made = some(when="next_iteration")
    (call,) = work.calls_of(made, counts.expected(made, HALF), HALF.prompt)
    assert (call.sequences, call.contexts, call.longest) == (64, 16, 60)
    assert call.mean == (40 * 20 + 24 * 10) / 64


def test_hours_of_sampling_are_those_of_its_steps() -> None:
    made = some()
    rollouts = counts.expected(made, HALF)
    hours = work.hours_of(made, SHAPE, rollouts, HALF.prompt, SPEED, shards=1)["sample"]
    steps = (40 * 20 / 8 + 60 - 20) + (24 * 10 / 8 + 50 - 10)
    assert hours.device == hours.clock == pytest.approx(steps / 1000)
    most = work.hours_of(made, SHAPE, counts.at_most(made), 40, SPEED, shards=1)["sample"]
    assert most.clock == pytest.approx((5 * 60 + 3 * 60) / 1000)


def test_shards_divide_the_clock_and_each_ends_with_its_longest() -> None:
    made = some()
    rollouts = counts.expected(made, HALF)
    hours = work.hours_of(made, SHAPE, rollouts, HALF.prompt, SPEED, shards=2)
    steps = (20 * 20 / 8 + 60 - 20) + (12 * 10 / 8 + 50 - 10)
    assert hours["sample"].clock == pytest.approx(steps / 1000)
    assert hours["sample"].device == pytest.approx(2 * steps / 1000)
    assert all(spent.device == spent.clock for kind, spent in hours.items() if kind != "sample")
    most = [work.hours_of(made, SHAPE, counts.at_most(made), 40, SPEED, shards=n)["sample"] for n in (1, 5)]
    assert most[1].device == pytest.approx((5 * 60 + 5 * 60) / 1000)
    assert most[1].clock < most[0].clock / 4 + 1e-9


def test_an_engine_over_two_devices_costs_both() -> None:
    made = some(engine={"tensor_parallel": 2})
    hours = work.hours_of(made, SHAPE, counts.at_most(made), 40, SPEED, shards=1)["sample"]
    assert hours.device == pytest.approx(2 * hours.clock)
    plain = some("transformers", engine={"tensor_parallel": 2})
    hours = work.hours_of(plain, SHAPE, counts.at_most(plain), 40, SPEED, shards=1)["sample"]
    assert hours.device == hours.clock


@pytest.mark.parametrize(("cache", "steps"), [("somewhere", 2 * (40 * 20 / 8 + 40) + (20 * 20 / 8 + 40)), (None, 290)])
def test_an_evaluation_with_a_cache_is_sampled_in_parts(cache: str | None, steps: float) -> None:
    """100 samples: parts of 36 are rounded up to whole batches of 8, and each waits for its longest."""
    made = sections(
        sampling={"backend": "vllm", "batch_rows": 8, "max_response_tokens": 60},
        evaluate={"samples": 4, "max_response_tokens": 60, "part_samples": 36, "cache": cache},
    )
    _, hours = work.evaluation_of(made, SHAPE, 100, Lengths(10, 20), SPEED)
    assert hours.clock == hours.device == pytest.approx(steps / 1000)


def test_rows_are_no_more_than_there_are_sequences() -> None:
    made = some(batch_rows=30)
    rollouts = counts.expected(made, HALF)
    assert work.rows_of(made, SHAPE, rollouts, 10, 80e9, shards=1) == 30
    assert work.rows_of(made, SHAPE, rollouts, 10, 80e9, shards=4) == 10
