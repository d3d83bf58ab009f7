"""The probe detects a broken path: each fault is introduced by hand, and the path with it must not be chosen.

These tests fail where the probe's sequences are too short, too similar or too few for a fault to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from extra_rl.errors import ModelError, NumericalError
from extra_rl.models import attention, family
from extra_rl.models.probe import Decision, probe_of, remember
from extra_rl.sampling import decode, decode_cache
from extra_rl.sampling.transformers import FAST, sampling_path
from extra_rl.scoring import segment_attention
from extra_rl.scoring.layout import chosen
from tests.zoo.families import FAMILIES, build, shared

Patch = pytest.MonkeyPatch
FAST_ROWS = [name for name, row in FAMILIES.items() if row.fast]
"""Families on the fast path, as test_table.py checks."""
WINDOWS = [name for name in FAST_ROWS if FAMILIES[name].config.get("sliding_window")]


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Undo what a broken path registers with transformers under our names."""
    from transformers import AttentionInterface, AttentionMaskInterface

    mappings = (AttentionInterface._global_mapping, AttentionMaskInterface._global_mapping)
    before = [dict(mapping) for mapping in mappings]
    yield
    for mapping, entries in zip(mappings, before, strict=True):
        mapping.clear()
        mapping.update(entries)


def sampling(model: Any) -> Decision:
    sampling_path(model)
    return probe_of(model).decisions["sampling"]


def scoring(model: Any) -> str:
    return chosen("auto", model)


def assert_detected(model: Any, by: float = 0.01) -> None:
    """The fast path is not chosen, because it differs by more than `by` nats (or is not finite)."""
    assert sampling(model).rank != "fast"
    measured = probe_of(model).measurements[0]
    assert measured.path == FAST
    assert not measured.fault, measured.fault
    assert measured.largest > by


def no_mask(**_: Any) -> None:
    return None


def no_padding(*, attention_mask: Any = None, **options: Any) -> Any:
    return decode_cache_mask(attention_mask=None, **options)


def no_window(*, mask_function: Any = None, local_size: Any = None, **options: Any) -> Any:
    from transformers.masking_utils import causal_mask_function

    return decode_cache_mask(mask_function=causal_mask_function, **options)


decode_cache_mask = decode_cache.decoding_mask


@pytest.mark.parametrize("mask", [no_mask, no_padding])
@pytest.mark.parametrize("name", FAST_ROWS)
def test_a_missing_mask_of_the_sampler_is_detected(name: str, mask: Callable[..., Any], monkeypatch: Patch) -> None:
    """transformers builds no mask for an attention with an unknown name."""
    monkeypatch.setattr(decode_cache, "decoding_mask", mask)
    assert_detected(build(name), 0.01)


@pytest.mark.parametrize("name", WINDOWS)
def test_a_missing_window_is_detected(name: str, monkeypatch: Patch) -> None:
    monkeypatch.setattr(decode_cache, "decoding_mask", no_window)
    assert_detected(build(name))

    def unbounded(*, mask_function: Any, **options: Any) -> Any:
        from transformers.masking_utils import causal_mask_function

        return path_mask(mask_function=causal_mask_function, **{**options, "local_size": None})

    path_mask = segment_attention.path_mask
    monkeypatch.setattr(segment_attention, "path_mask", unbounded)
    assert scoring(build(name)) == "padded"


@pytest.mark.parametrize("name", FAST_ROWS)
def test_packed_rows_that_attend_to_their_neighbours_are_detected(name: str, monkeypatch: Patch) -> None:
    """Without segments a row is one long sequence."""
    monkeypatch.setattr(segment_attention, "path_mask", decode_cache_mask)
    model = build(name)
    assert scoring(model) == "padded"
    measured = probe_of(model).measurements[0]
    assert not measured.fault, measured.fault
    assert measured.largest > 0.1


@pytest.mark.parametrize("name", FAST_ROWS)
def test_shifted_positions_are_detected(name: str, monkeypatch: Patch) -> None:
    """Shifted for decoded tokens only: a shift of all positions changes nothing where they are relative."""
    forward = decode._Batch._forward

    def shifted(self: Any, tokens_BT: Any, position_BT: Any, *rest: Any) -> Any:
        return forward(self, tokens_BT, position_BT + (tokens_BT.shape[1] == 1), *rest)

    monkeypatch.setattr(decode._Batch, "_forward", shifted)
    assert_detected(build(name))


@pytest.mark.parametrize("name", ["Llama", "Gemma 3", "GPT-2", "Qwen3-MoE"])
def test_exchanged_rows_of_the_cache_are_detected(name: str, monkeypatch: Patch) -> None:
    select, admit = decode_cache.DecodeCache.select, decode_cache.DecodeCache.admit

    def first_rows(self: Any, keep_A: torch.Tensor, longest: int) -> None:
        select(self, torch.arange(len(keep_A)), longest)

    def one_context(self: Any, context: Any, rows_A: torch.Tensor) -> None:
        admit(self, context, torch.zeros_like(rows_A))

    for method, fault in (("select", first_rows), ("admit", one_context)):
        with monkeypatch.context() as patch:
            patch.setattr(decode_cache.DecodeCache, method, fault)
            assert_detected(build(name), 0.1)


@pytest.mark.parametrize(
    ("name", "lost"), [("Gemma 2", {"cap": None}), ("Granite", {"scale": 1.0}), ("Cohere", {"scale": 1.0})]
)
def test_a_missing_soft_cap_or_scale_of_the_logits_is_detected(
    name: str, lost: dict[str, Any], monkeypatch: Patch
) -> None:
    """Neither fast path is chosen; the plain ones use the model's own head."""
    model = build(name)
    head = family.read_head(model)
    assert head is not None
    monkeypatch.setattr(family, "read_head", lambda _: replace(head, **lost))
    assert_detected(model, 0.1)
    assert scoring(model) == "plain"
    assert sampling(model).rank == "plain"


@pytest.mark.parametrize(("name", "changes"), [("Gemma 2", {"attn_implementation": "eager"}), ("gpt-oss", {})])
def test_a_missing_soft_cap_or_sink_of_the_attention_is_detected(
    name: str, changes: dict[str, Any], monkeypatch: Patch
) -> None:
    assert sampling(build(name, **changes)).rank == "fast"
    monkeypatch.setattr(attention, "honoured_by", lambda _: frozenset())
    model = build(name, **changes)
    assert_detected(model, 0.05)
    assert scoring(model) == "padded"


def test_an_unknown_argument_of_the_attention_excludes_the_fast_paths(monkeypatch: Patch) -> None:
    """Our attention refuses an argument that it would ignore, so the family's own is used."""
    monkeypatch.setattr(attention, "HONOURED", {})
    monkeypatch.setattr(attention, "INERT", attention.INERT - {"sliding_window"})
    model = build("Mistral, window")
    assert sampling(model).rank == "plain"
    assert "passes sliding_window to its attention" in probe_of(model).measurements[0].fault
    assert scoring(model) == "padded"


def only_alone(module: Any, arguments: Any, options: dict[str, Any], output: Any) -> Any:
    """Change the output where there is a mask, a cache or more than one row."""
    options = {key: value for key, value in options.items() if key in ("attention_mask", "past_key_values")}
    if output.last_hidden_state.shape[0] > 1 or any(value is not None for value in options.values()):
        output.last_hidden_state = output.last_hidden_state * 1.02
    return output


@pytest.mark.parametrize("name", ["Llama", "Gemma 2", "GPT-2", "Qwen3-MoE", "Falcon"])
def test_a_model_whose_plain_path_differs_is_refused(name: str) -> None:
    model = build(name)
    model.base_model.register_forward_hook(only_alone, with_kwargs=True)
    for use, what in ((sampling, "sampling"), (scoring, "scoring")):
        with pytest.raises(ModelError, match=f"{what} with this model is refused"):
            use(model)


def test_weights_that_are_not_finite_are_refused() -> None:
    for name in ("Llama", "GPT-2"):
        model = build(name)
        next(model.base_model.parameters()).data[:] = float("nan")
        with pytest.raises(NumericalError, match="not finite"):
            sampling(model)


@pytest.mark.parametrize("name", FAST_ROWS)
def test_a_remembered_path_is_still_measured(name: str, monkeypatch: Patch) -> None:
    """Another policy of the same architecture is probed briefly, which shows a missing mask too."""
    sampling(shared(name))
    remembered = probe_of(shared(name)).to_remember()
    assert remembered["paths"]["sampling"] == FAST
    healthy, broken = build(name, seed=1), build(name, seed=1)
    for model in (healthy, broken):
        remember(model, remembered)
    assert sampling(healthy).known
    monkeypatch.setattr(decode_cache, "decoding_mask", no_mask)
    assert sampling(broken).rank != "fast"
    assert not sampling(broken).known


@pytest.mark.parametrize("name", ["Qwen3-MoE", "GPT-2", "gpt-oss", "Gemma 2"])
def test_a_missing_mask_is_detected_in_bfloat16(name: str, monkeypatch: Patch) -> None:
    """Rounding is within the tolerance and a missing mask is not."""
    assert sampling(build(name).to(torch.bfloat16)).rank == "fast"
    monkeypatch.setattr(decode_cache, "decoding_mask", no_mask)
    assert_detected(build(name).to(torch.bfloat16), 0.5)
