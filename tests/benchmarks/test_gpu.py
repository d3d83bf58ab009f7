"""benchmarks/gpu.py: the operations that its utilisation counts, and that ours and the plain step are the same step."""

from __future__ import annotations

import pytest

from benchmarks import gpu


def asked(side: str, case: str = "full") -> dict[str, object]:
    common = {"shape": "tiny", "tokens": 512, "passes": 2, "repetitions": 1, "precision": "float32"}
    return {**common, "side": side, "case": case}


def test_operations_by_hand() -> None:
    """Layers: 2 x (64 x 32 x (4 + 2) x 2 + 3 x 64 x 192) = 122,880 weights; 512 tokens, 256 of them response."""
    weights = 2 * 122_880 * 512
    attention = 4 * 2 * 4 * 32 * 512 * 512 / 2
    head = 2 * 512 * 64 * 256
    forward = weights + attention + head
    assert gpu.utilisation(asked("ours"), "score", 2.0, 1e9) == pytest.approx(2 * forward / 2e9)
    assert gpu.utilisation(asked("ours"), "update", 2.0, 1e9) == pytest.approx(6 * forward / 2e9)
    assert gpu.utilisation(asked("ours", "lora"), "update", 2.0, 1e9) == pytest.approx(4 * forward / 2e9)


def test_operations_are_those_that_torch_counts() -> None:
    """Of the scorer's own pass over two rows, with eager attention, whose products torch counts on the CPU; torch
    computes the masked half too."""
    from torch.utils.flop_counter import FlopCounterMode

    from extra_rl.models.probe import probe_of
    from extra_rl.scoring.batches import TokenSequence
    from extra_rl.scoring.statistics import response_statistics

    model = gpu.make_model(gpu.TINY, "cpu").train()
    model.set_attn_implementation("eager")
    probe_of(model)  # reads the head by a pass that does not count
    expected = 2 * gpu.operations(gpu.TINY, tokens=24, pairs=24**2, logits=14)
    for backward, passes in ((False, 1), (True, 3)):
        with FlopCounterMode(display=False) as counter:
            logprob_BT, _, _ = response_statistics(model, [TokenSequence([3] * 10, [5] * 14)] * 2, 1.0)
            if backward:
                logprob_BT.sum().backward()  # type: ignore[no-untyped-call]
        assert counter.get_total_flops() == pytest.approx(passes * expected, rel=0.02)


def test_both_sides_take_the_same_step() -> None:
    import torch

    torch.set_num_threads(1)
    weights = []
    for side in (gpu.ours, gpu.plain):
        model = gpu.make_model(gpu.TINY, "cpu")
        before = model.lm_head.weight.detach().clone()
        update, score = side(model, asked("ours"), gpu.drawn(gpu.TINY, 512, 2))
        score()
        update()
        weights.append(model.lm_head.weight.detach() - before)
    ours, plain = weights
    assert float(ours.abs().max()) > 1e-7
    # AdamW's first step is the learning rate times a sign, but where the gradient is as small as its epsilon.
    assert float(torch.nn.functional.cosine_similarity(ours.flatten(), plain.flatten(), dim=0)) > 0.99


def test_a_device_is_known_by_its_name() -> None:
    assert gpu.peak_rate_of("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert gpu.peak_rate_of("NVIDIA GeForce RTX 4090", "bfloat16") == 165e12
    assert gpu.peak_rate_of("NVIDIA T4", "bfloat16") is None
