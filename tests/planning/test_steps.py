"""Decoding steps by hand, and of the real sampler."""

from __future__ import annotations

from typing import Any

import pytest

from extra_rl.planning.steps import FILLED, Call, decoding_steps, joined, refills


def call(sequences: float, mean: float, longest: float = 100) -> Call:
    return Call(sequences, contexts=sequences, prompt=10, mean=mean, longest=longest)


def test_with_room_for_all_the_longest_decides() -> None:
    assert decoding_steps(call(8, mean=30), 8, "vllm") == 100
    assert not refills(call(8, mean=30), 8)


def test_equal_sequences_come_in_whole_batches() -> None:
    assert decoding_steps(call(16, mean=100), 8, "vllm") == 200
    assert decoding_steps(call(17, mean=100), 8, "transformers") == 300


def test_refilled_rows_share_all_tokens_and_the_last_runs_to_the_limit() -> None:
    assert decoding_steps(call(80, mean=30), 8, "vllm") == 80 * 30 / 8 + 70
    assert decoding_steps(call(80, mean=30), 8, "transformers") == pytest.approx(80 * 30 / (8 * 0.925) + 70)
    assert FILLED["transformers"] == 0.925  # between all rows and 85 % of them


def test_never_more_than_whole_batches_of_the_longest() -> None:
    assert decoding_steps(call(9, mean=99), 8, "transformers") <= 200
    assert decoding_steps(call(16, mean=99), 8, "transformers") == 200


def test_nothing_to_sample_takes_no_step() -> None:
    assert decoding_steps(call(0, mean=30), 8, "vllm") == 0


def test_tokens_behind_a_row() -> None:
    assert call(1, mean=100).behind == 50  # all equal
    assert call(1, mean=50).behind == pytest.approx(100 / 3)  # evenly spread from 0 to 100: E[n^2] / 2 E[n]


def test_two_requests_in_one_call() -> None:
    both = joined(Call(30, 10, prompt=20, mean=40, longest=90), Call(10, 2, prompt=60, mean=20, longest=50))
    assert both == Call(40, 12, prompt=30, mean=35, longest=90)
    nothing = Call(0, 0, prompt=60, mean=20, longest=99)
    assert joined(both, nothing) == both
    assert joined(nothing, nothing) == nothing


def test_a_part_of_a_call() -> None:
    assert Call(12, 4, prompt=10, mean=20, longest=30).share_of(2) == Call(6, 2, prompt=10, mean=20, longest=30)


@pytest.mark.parametrize(("sequences", "rows"), [(40, 40), (160, 40), (200, 16)])
def test_the_real_sampler_takes_about_as_many(sequences: int, rows: int) -> None:
    """Lengths evenly spread from 1 to 60 tokens, set by the requests' limits: nothing ends by itself."""
    import random

    from extra_rl.config.sections import SamplingConfig
    from extra_rl.sampling.base import Request
    from extra_rl.sampling.transformers import TransformersSampler
    from tests.planning.test_memory import WIDE, model_of

    rng = random.Random(0)
    lengths = [rng.randrange(1, 61) for _ in range(sequences)]
    steps = 0

    model = model_of(WIDE)
    inner = model.model.forward

    def forward(*arguments: Any, **named: Any) -> Any:
        nonlocal steps
        steps += named["input_ids"].shape[1] == 1
        return inner(*arguments, **named)

    model.model.forward = forward
    requests = [Request((3, 4), length, n) for n, length in enumerate(lengths)]
    TransformersSampler(model, [WIDE.vocabulary]).sample(requests, SamplingConfig(batch_rows=rows), lambda n: None)
    planned = decoding_steps(call(sequences, mean=sum(lengths) / sequences, longest=60), rows, "transformers")
    assert planned == pytest.approx(steps, rel=0.1)
