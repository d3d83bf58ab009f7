"""The packed row gives the padded batch's logprobs, entropies and gradients, with and without shared prefixes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from extra_rl.models.probe import probe_of
from extra_rl.scoring import segment_attention
from extra_rl.scoring.batches import TokenSequence
from extra_rl.scoring.packed import packed_statistics
from extra_rl.scoring.statistics import response_statistics
from tests.models import random_qwen3

PROMPT, OTHER = (1, 5, 9, 11), (1, 5, 30)
LONG = (12, 13, 14, 15, 16, 17, 18, 2)
CASES = {
    "nothing": [TokenSequence((3, 4), (5, 6, 7)), TokenSequence((6,), (5, 6, 7, 8, 9)), TokenSequence((9, 9), (2,))],
    "prompts": [TokenSequence(PROMPT, (20 + i, *range(3, 5 + i), 2)) for i in range(4)]
    + [TokenSequence(OTHER, (20 + i, 21, 2)) for i in range(3)],
    "prefixes": [TokenSequence(PROMPT, (*LONG[: 2 * i], 30 + i, 31, *range(2, 4 + i))) for i in range(4)]
    + [TokenSequence(PROMPT, LONG), TokenSequence((*PROMPT, *LONG[:2]), (33, 34))],
    "a prefix of another": [
        TokenSequence(PROMPT, LONG),
        TokenSequence(PROMPT, LONG[:3]),
        TokenSequence(PROMPT, LONG[:1]),
    ],
    "duplicates": [TokenSequence(PROMPT, LONG), TokenSequence(OTHER, (4, 2)), TokenSequence(PROMPT, LONG)],
    "no response": [TokenSequence(PROMPT, ()), TokenSequence(PROMPT, LONG)],
}


def found(model: Any, batch: list[TokenSequence], how: str, precision: str = "float32") -> tuple[torch.Tensor, ...]:
    """Logprobs, entropies, mask, and the gradient of a weighted sum of both."""
    if how == "padded":
        logprob_BT, entropy_BT, mask_BT = response_statistics(model, batch, 0.7, precision)
    else:
        logprob_BT, entropy_BT, mask_BT = packed_statistics(model, batch, 0.7, precision, share=how == "shared")
    weight_BT = torch.linspace(-1, 1, mask_BT.numel()).reshape(
        mask_BT.shape
    )  # other weights for each reader of a token
    model.zero_grad()
    ((weight_BT * logprob_BT)[mask_BT].sum() + (weight_BT.flip(0, 1) * entropy_BT)[mask_BT].sum()).backward()
    return logprob_BT, entropy_BT, mask_BT, torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("how", ["packed", "shared"])
@pytest.mark.parametrize("case", CASES)
def test_packing_and_sharing_change_nothing(case: str, how: str) -> None:
    expected = found(random_qwen3(), CASES[case], "padded")
    packed = found(random_qwen3(), CASES[case], how)
    torch.testing.assert_close(packed[:3], expected[:3], atol=1e-5, rtol=1e-5)
    assert (packed[3] - expected[3]).abs().max() < 1e-5 * expected[3].abs().max()


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_grouped_heads_keep_their_keys(kv_heads: int) -> None:
    expected = found(random_qwen3(kv_heads=kv_heads), CASES["prefixes"], "padded")
    shared = found(random_qwen3(kv_heads=kv_heads), CASES["prefixes"], "shared")
    assert (shared[3] - expected[3]).abs().max() < 1e-5 * expected[3].abs().max()


def test_the_layers_run_on_shared_tokens_once() -> None:
    model, widths = random_qwen3(), []
    probe_of(model)
    model.model.layers[0].mlp.register_forward_hook(lambda module, given, out: widths.append(out.shape[:2]))
    batch = CASES["prompts"]
    found(model, batch, "packed")
    found(model, batch, "shared")
    total = sum(map(len, batch))
    # 4 rollouts of a prompt of 4 tokens, 3 of one of 3 that begins with the same 2 tokens; (20, 21) twice.
    prompts = {(s.prompt + s.response)[: n + 1] for s in batch for n in range(len(s))}
    assert widths == [(1, total), (1, len(prompts))]
    assert len(prompts) < total - 3 * 4 - 2 * 3


def test_a_recomputed_layer_attends_as_in_its_forward_pass() -> None:
    plain, again = random_qwen3(), random_qwen3()
    again.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    expected, recomputed = (found(model.train(), CASES["prefixes"], "shared") for model in (plain, again))
    torch.testing.assert_close(recomputed, expected, atol=1e-6, rtol=0)


def test_bfloat16_agrees_to_a_hundredth() -> None:
    exact = found(random_qwen3(), CASES["prefixes"], "shared")
    rounded = found(random_qwen3(), CASES["prefixes"], "shared", "bfloat16")
    assert rounded[0].dtype == torch.float32
    difference = (rounded[0] - exact[0])[exact[2]].abs()
    assert 0 < difference.max() < 0.1


def test_the_model_still_computes_padded_batches() -> None:
    model = random_qwen3()
    expected = response_statistics(model, CASES["prefixes"], 1.0)
    packed_statistics(model, CASES["prefixes"], 1.0)
    torch.testing.assert_close(response_statistics(model, CASES["prefixes"], 1.0), expected, atol=0, rtol=0)


def test_flash_attention_gets_queries_and_keys_that_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel needs CUDA; its arguments are checked with its definition in plain torch."""
    from torch.nn.attention import varlen

    calls = []

    def plain(query: Any, key: Any, value: Any, query_ends: Any, key_ends: Any, *longest: int, **options: Any) -> Any:
        calls.append((longest, options["window_size"]))
        parts = []
        for n in range(len(query_ends) - 1):
            q, k, v = (
                t[ends[n] : ends[n + 1]].transpose(0, 1)
                for t, ends in ((query, query_ends), (key, key_ends), (value, key_ends))
            )
            k, v = (t.repeat_interleave(len(q) // len(k), dim=0) for t in (k, v))
            outside = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).triu(k.shape[1] - q.shape[1] + 1)
            scores = (q @ k.transpose(1, 2) * options["scale"]).masked_fill(outside, -torch.inf)
            parts.append((scores.softmax(-1) @ v).transpose(0, 1))
        return torch.cat(parts)

    batch = CASES["prefixes"]
    expected = found(random_qwen3(), batch, "shared")
    monkeypatch.setattr(varlen, "varlen_attn", plain)
    monkeypatch.setattr(segment_attention, "takes_flash", lambda query: True)
    flash = found(random_qwen3(), batch, "shared")
    torch.testing.assert_close(flash[:3], expected[:3], atol=1e-5, rtol=1e-5)
    assert calls[0][1] == (-1, 0)
    assert calls[0][0][1] == max(map(len, batch))


def test_a_single_sequence_needs_no_other() -> None:
    (sequence,) = CASES["nothing"][:1]
    alone = found(random_qwen3(), [replace(sequence)], "shared")
    torch.testing.assert_close(alone[:3], found(random_qwen3(), [sequence], "padded")[:3], atol=1e-5, rtol=1e-5)
