"""Operations against torch's own counter, and hours by hand."""

from __future__ import annotations

import pytest

from extra_rl.planning import compute
from extra_rl.planning.compute import Decoder, Engine, Speed
from extra_rl.planning.devices import DEVICES, Device
from extra_rl.planning.memory import Lengths
from extra_rl.planning.shapes import Shape
from extra_rl.planning.steps import Call

SHAPE = Shape(50, hidden=32, layers=3, heads=4, kv_heads=2, head_dim=16, intermediate=64)
ROWS, PROMPT, RESPONSE = 2, 10, 14


def counted(model: object, backward: bool) -> int:
    """Operations that torch counts in the trainer's own pass."""
    from torch.utils.flop_counter import FlopCounterMode

    from extra_rl.models.probe import probe_of
    from extra_rl.scoring.sequences import TokenSequence
    from extra_rl.scoring.statistics import response_statistics

    probe_of(model)  # reads the head by a pass that does not count
    batch = [TokenSequence([3] * PROMPT, [5] * RESPONSE)] * ROWS
    with FlopCounterMode(display=False) as counter:
        logprob_BT, _, _ = response_statistics(model, batch, 1.0)  # type: ignore[arg-type]
        if backward:
            logprob_BT.sum().backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops()


def small_model(checkpointing: bool = False) -> object:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=SHAPE.vocabulary,
        hidden_size=SHAPE.hidden,
        intermediate_size=SHAPE.intermediate,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.kv_heads,
        head_dim=SHAPE.head_dim,
        tie_word_embeddings=True,
        attn_implementation="eager",  # products that torch counts on the CPU
    )
    model = Qwen3ForCausalLM(config).train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def test_a_scoring_pass_is_what_torch_counts() -> None:
    expected = compute.full_pass(SHAPE, ROWS, Lengths(PROMPT, RESPONSE))
    assert counted(small_model(), backward=False) == pytest.approx(expected, rel=0.01)  # but for rotary embeddings


def test_a_training_pass_is_what_torch_counts() -> None:
    lengths = Lengths(PROMPT, RESPONSE)
    plain = compute.training_pass(SHAPE, ROWS, lengths, checkpointing=False)
    again = compute.training_pass(SHAPE, ROWS, lengths, checkpointing=True)
    assert counted(small_model(), backward=True) == pytest.approx(plain, rel=0.02)
    # torch stops a repeated forward pass once it has what the backward pass needs: a little before its end.
    assert counted(small_model(checkpointing=True), backward=True) == pytest.approx(again, rel=0.1)
    assert again > 1.2 * plain


def test_decoding_by_hand() -> None:
    shape = Shape(10, hidden=4, layers=2, heads=2, kv_heads=1, head_dim=3, intermediate=5)
    matrices = 2 * (4 * 6 + 2 * 4 * 3 + 6 * 4 + 3 * 4 * 5)
    assert compute.layer_matrices(shape) == matrices
    attention = 4 * 2 * 2 * 3
    prefill = 2 * (2 * matrices * 7 + attention * 49 + 2 * 40)
    tokens: float = 6 * (2 * matrices * 8 + attention * (8 * 7 + 32) + 2 * 40 * 8)
    assert compute.decoding(shape, Call(6, contexts=2, prompt=7, mean=8, longest=8)) == prefill + tokens
    # Lengths that spread up to twice their mean: 16 / 3 tokens behind, not 4.
    tokens = 6 * (2 * matrices * 8 + attention * 8 * (7 + 16 / 3) + 2 * 40 * 8)
    assert compute.decoding(shape, Call(6, contexts=2, prompt=7, mean=8, longest=16)) == pytest.approx(prefill + tokens)


SLOW = Device("", bfloat16=1e6, float32=1e3, bandwidth=1e15, memory=1)
NARROW = Device("", bfloat16=1e30, float32=1e30, bandwidth=1e6, memory=1)
FAST = Device("", bfloat16=1e30, float32=1e30, bandwidth=1e30, memory=1)


def seconds(device: Device, call: Call, backend: str = "vllm", precision: str = "bfloat16", devices: int = 1) -> float:
    decoders = {"transformers": Decoder(0.03, 0.5), "vllm": Decoder(0.01, 0.25)}
    engine = Engine(backend, precision, 10, devices)
    return compute.decoding_seconds(SHAPE, Speed(device, 0.9, decoders), engine, call)


def test_decoding_takes_the_longest_of_three() -> None:
    call = Call(10, contexts=10, prompt=100, mean=50, longest=50)
    work = compute.decoding(SHAPE, call)
    assert seconds(SLOW, call, "transformers") == pytest.approx(work / 0.5e6)
    assert seconds(SLOW, call, "transformers", "float32") == pytest.approx(work / 0.5e3)
    assert seconds(SLOW, call) == pytest.approx(work / 0.25e6)
    read = 50 * 2 * SHAPE.parameters + 10 * SHAPE.cache_bytes(2) * (50 * 100 + 1250)
    assert seconds(NARROW, call, "transformers") == pytest.approx(read / 0.5e6)
    assert seconds(NARROW, call) == pytest.approx(read / 0.25e6)
    assert seconds(FAST, call, "transformers") == pytest.approx(1.5)
    assert seconds(FAST, call) == pytest.approx(0.5)
    assert seconds(FAST, Call(0, contexts=0, prompt=100, mean=50, longest=50)) == 0


def test_refilling_reads_padding_with_transformers_and_none_with_vllm() -> None:
    """40 sequences of 25 tokens, 50 at the most, 10 at a time: 100 steps of full rows and 25 more."""
    call = Call(40, contexts=40, prompt=100, mean=25, longest=50)
    read = 125 * 2 * SHAPE.parameters + 40 * 25 * SHAPE.cache_bytes(2) * (100 + 50 / 3)
    assert seconds(NARROW, call) == pytest.approx(read / 0.25e6)
    steps = 1000 / (10 * 0.925) + 25
    read = steps * 2 * SHAPE.parameters + 40 * 25 * SHAPE.cache_bytes(2) * (100 + 50)
    assert seconds(NARROW, call, "transformers") == pytest.approx(read / 0.5e6)


def test_an_engine_over_two_devices_is_twice_as_fast_but_for_the_steps() -> None:
    call = Call(10, contexts=10, prompt=100, mean=50, longest=50)
    for device in (SLOW, NARROW):
        assert seconds(device, call, devices=2) == pytest.approx(seconds(device, call) / 2)
    assert seconds(FAST, call, devices=2) == seconds(FAST, call)


def test_devices_state_plausible_figures() -> None:
    assert DEVICES["h100"].peak("bfloat16") == 989e12
    assert DEVICES["a100"].peak("float32") == 19.5e12
    assert all(d.bfloat16 > d.float32 > d.bandwidth > d.memory > 2e10 for d in DEVICES.values())
