"""Memory of vLLM's engine, by hand, and where a plan shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from extra_rl.planning.engines import ASLEEP, engine_bytes, engine_rows
from extra_rl.planning.peaks import peaks_of
from extra_rl.planning.shapes import KNOWN
from extra_rl.planning.steps import Call
from extra_rl.planning.work import engine_of
from tests.planning.test_counts import sections

SHAPE = KNOWN["Qwen/Qwen3-1.7B"]
CACHE = 2 * 28 * 8 * 128 * 2
"""Bytes of a token's keys and values in bfloat16."""


def vllm(**engine: Any) -> Any:
    return sections(
        sampling={"backend": "vllm", "batch_rows": 256, "max_response_tokens": 60, "engine": engine},
        compute={"precision": "bfloat16"},
        choose_prefixes={"groups": 2},
    )


def test_an_engine_takes_its_share_and_gives_the_weights_their_part() -> None:
    parts = engine_bytes(SHAPE, precision="bfloat16", share=0.5, device=80e9, devices=1)
    assert parts == {"weights": 2 * 1_720_574_976, "keys and values": 40e9 - 2 * 1_720_574_976}
    two = engine_bytes(SHAPE, precision="float32", share=0.5, device=80e9, devices=2)
    assert two == {"weights": 2 * 1_720_574_976, "keys and values": 40e9 - 2 * 1_720_574_976}


def test_rows_that_have_room() -> None:
    parts = {"weights": 1.0, "keys and values": 10 * 6144.0 * CACHE}
    assert engine_rows(SHAPE, parts, precision="bfloat16", devices=1, tokens=6144) == 10
    assert engine_rows(SHAPE, parts, precision="bfloat16", devices=2, tokens=6144) == 20
    assert engine_rows(SHAPE, parts, precision="float32", devices=1, tokens=6145) == 4


def test_vllm_decodes_as_many_rows_as_have_room() -> None:
    room = 0.85 * 80e9 - 2 * SHAPE.parameters
    equal = Call(3072, 512, prompt=2048, mean=4096, longest=4096)
    assert engine_of(vllm(), "generate", SHAPE, equal, 80e9).rows == int(room / (6144 * CACHE)) == 91
    spread = Call(3072, 512, prompt=256, mean=2048, longest=4096)
    assert engine_of(vllm(), "generate", SHAPE, spread, 80e9).rows == 256
    small = engine_of(vllm(), "generate", SHAPE, spread, 24e9)
    assert small.rows == int((0.85 * 24e9 - 2 * SHAPE.parameters) / ((256 + 4096 / 3) * CACHE)) == 91
    assert small.backend == "vllm"
    assert engine_of(vllm(tensor_parallel=2), "generate", SHAPE, equal, 80e9).devices == 2
    none = engine_of(vllm(), "generate", SHAPE, equal, 1e9)
    assert none.rows == 1  # the plan says in a note that there is no room


def test_transformers_decodes_batch_rows_on_one_device() -> None:
    plain = sections(sampling={"batch_rows": 48, "max_response_tokens": 60, "engine": {"tensor_parallel": 2}})
    engine = engine_of(plain, "generate", SHAPE, Call(99, 9, prompt=9, mean=9, longest=99), 80e9)
    assert (engine.backend, engine.rows, engine.devices) == ("transformers", 48, 1)


@pytest.mark.parametrize("stage", ["generate", "regenerate", "evaluate"])
def test_while_it_samples_the_engine_is_the_peak(stage: str) -> None:
    peaks = peaks_of(vllm(gpu_memory_utilization=0.7), SHAPE, 80e9)
    assert sum(peaks[stage].values()) == pytest.approx(0.7 * 80e9)


def test_it_sleeps_while_others_work() -> None:
    other = sections(compute={"precision": "bfloat16"}, choose_prefixes={"groups": 2})
    awake, asleep = peaks_of(other, SHAPE, 80e9), peaks_of(vllm(), SHAPE, 80e9)
    for stage in ("score_entropy", "update"):
        assert sum(asleep[stage].values()) == sum(awake[stage].values()) + ASLEEP


def test_without_vllm_the_device_plays_no_part() -> None:
    plain = sections(choose_prefixes={"groups": 2})
    shape = replace(SHAPE, layers=2)
    assert peaks_of(plain, shape, 80e9) == peaks_of(plain, shape, 1.0)
