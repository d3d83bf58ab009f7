"""The probe: choice of paths, their storage with a policy, and messages about slower paths."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from extra_rl.errors import ModelError, NumericalError
from extra_rl.models.measure import Measurement, Path, Scored, own_statistics
from extra_rl.models.probe import BRIEF, PROMPTS, RESPONSES, forget_probes, probe_of, probes_made, remember
from extra_rl.sampling import transformers as sampling
from extra_rl.sampling.transformers import probe
from extra_rl.scoring.layout import chosen
from tests.models import random_model, random_qwen3


def test_a_fast_model_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    found = probe(random_model("Llama"))
    assert {d.what: (d.rank, d.path) for d in found.decisions.values()} == {
        "sampling": ("fast", sampling.FAST),
        "scoring": ("fast", "shared_prefix"),
    }
    assert [m.values for m in found.measurements] == [sum(RESPONSES), 2 * sum(RESPONSES)]  # logprobs; and entropies
    assert max(m.largest for m in found.measurements) < 1e-4
    assert capsys.readouterr() == ("", "")


def test_a_slower_path_is_printed_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    found = probe(random_model("Falcon"))
    assert found.decisions["sampling"].rank == "plain"
    assert "attention" in found.decisions["sampling"].reason
    assert "FalconForCausalLM: sampling by the path `generate`, slower: " in capsys.readouterr().err


def test_an_argument_that_attention_ignores_is_warned_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    found = probe(random_model("Gemma2", attn_logit_softcapping=5.0))
    assert found.ignored == ["softcap"]
    assert capsys.readouterr().err.count("softcap") == 1
    assert probe(random_model("Gemma2", attn_logit_softcapping=None)).ignored == []
    model = random_model("Gemma2", attn_logit_softcapping=5.0, attn_implementation="eager")
    assert {d.rank for d in probe(model).decisions.values()} == {"fast"}
    assert probe_of(model).ignored == []
    assert capsys.readouterr().err == ""


def test_a_model_without_a_correct_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family whose cache is broken: sampling with the cache gives other numbers than its forward pass."""
    model = random_model("Llama")
    forward = model.model.forward

    def broken(*given: Any, **options: Any) -> Any:
        found = forward(*given, **options)
        if options.get("use_cache"):
            found.last_hidden_state = found.last_hidden_state * 1.2
        return found

    monkeypatch.setattr(model.model, "forward", broken)
    with pytest.raises(ModelError, match=r"sampling.*refused.*in-place cache.*generate.*one length"):
        sampling.sampling_path(model)
    assert chosen("auto", model) == "shared_prefix"  # no cache is used there


def test_the_paths_of_an_equal_architecture_are_compared_on_fewer_tokens() -> None:
    first = probe(random_model("Llama"))
    other = random_model("Llama", seed=1)
    remember(other, first.to_remember())
    found = probe(other)
    assert [d.known for d in found.decisions.values()] == [True, True]
    assert [m.values for m in found.measurements] == [sum(BRIEF[1]), 2 * sum(BRIEF[1])]
    assert found.to_remember() == first.to_remember()


@pytest.mark.parametrize("config", [{"rope_theta": 2.0}, {"hidden_act": "relu"}, {"num_hidden_layers": 3}])
def test_stored_paths_of_another_architecture_are_not_used(config: dict[str, Any]) -> None:
    first = probe(random_model("Llama"))
    other = random_model("Llama", **config)
    remember(other, first.to_remember())
    assert [d.known for d in probe(other).decisions.values()] == [False, False]


def test_a_stored_path_that_fails_is_not_used() -> None:
    """The whole probe runs and overrules the manifest."""
    model = random_model("Falcon")
    key = probe_of(model).key
    model = random_model("Falcon")
    remember(model, {"key": key, "paths": {"sampling": sampling.FAST, "scoring": "shared_prefix"}})
    found = probe(model)
    assert {d.what: (d.path, d.known) for d in found.decisions.values()} == {
        "sampling": (sampling.PLAIN, False),
        "scoring": ("padded", False),
    }


def test_the_key_ignores_weights_and_the_directory(tmp_path: Any) -> None:
    from extra_rl.models.policy import load_model

    model = random_model("Llama")
    key = probe_of(model).key
    model.save_pretrained(tmp_path)
    assert probe_of(load_model(tmp_path)).key == key
    assert probe_of(random_model("Llama", seed=3)).key == key
    assert probe_of(random_model("Llama").bfloat16()).key != key


def test_a_window_is_reached_or_reported() -> None:
    near = probe_of(random_model("Mistral", sliding_window=30))
    assert (max(len(prompt) for prompt, _ in near.sequences), near.unreached) == (34, [])
    far = random_model("Mistral", sliding_window=5000, max_position_embeddings=9000)
    assert probe_of(far).unreached == [5000]
    assert max(len(prompt) for prompt, _ in probe_of(far).sequences) == max(PROMPTS)
    far = random_model("Mistral", sliding_window=5000, max_position_embeddings=9000)
    assert probe_of(far, 5010).unreached == []


def test_measurements_by_hand() -> None:
    model = random_qwen3()
    found = probe_of(model)
    prompt, response = (1, 5, 9), (4, 7)
    logprobs, entropies = own_statistics(model, (*prompt, *response), "x")
    shifted = Scored(prompt, response, [logprobs[2] + 0.25, logprobs[3]], entropies[2:])
    one = found.measure(model, Path("odd", "fast", lambda _: [shifted]))
    assert (one.largest, one.mean, one.values) == (pytest.approx(0.25), pytest.approx(0.0625), 4)
    assert one.holds((0.3, 0.1))
    assert not one.holds((0.2, 0.1))
    assert not one.holds((0.3, 0.05))
    nan = found.measure(model, Path("nan", "fast", lambda _: [shifted._replace(logprobs=[float("nan"), 0.0])]))
    assert not nan.holds((1e9, 1e9))
    nothing = found.measure(model, Path("nothing", "fast", lambda _: []))
    assert not nothing.holds((1e9, 1e9))
    assert nothing.text == "nothing gives numbers that are not finite"


def test_own_statistics_are_those_of_the_models_softmax() -> None:
    model = random_qwen3()
    with torch.inference_mode():
        log_p_TV = model(torch.tensor([[3, 4, 5]])).logits[0].log_softmax(-1)
    logprobs, entropies = own_statistics(model, (3, 4, 5), "x")
    assert logprobs == pytest.approx([float(log_p_TV[0, 4]), float(log_p_TV[1, 5])], abs=1e-6)
    assert entropies == pytest.approx((-(log_p_TV.exp() * log_p_TV).sum(-1))[:2].tolist(), abs=1e-6)


def test_weights_that_are_not_finite_are_an_error_of_the_model() -> None:
    model = random_qwen3()
    model.lm_head.weight.data[3, 3] = float("nan")
    with pytest.raises(NumericalError, match="not finite"):
        probe(model)


def test_training_mode_is_restored() -> None:
    model = random_model("GPT2").train()
    probe(model)
    assert all(module.training for module in model.modules())


def test_a_replaced_head_is_used() -> None:
    model = random_qwen3()
    assert chosen("auto", model) == "shared_prefix"
    other = copy.deepcopy(model)
    other.lm_head = torch.nn.Linear(32, 40, bias=False)
    from extra_rl.scoring.batches import TokenSequence
    from extra_rl.scoring.layout import token_statistics

    with torch.inference_mode():
        found = token_statistics(other, [TokenSequence((3, 4), (5, 6))], 1.0, "float32", "shared_prefix")[0][0]
    assert found.tolist() == pytest.approx(own_statistics(other, (3, 4, 5, 6), "x")[0][1:], abs=1e-5)


def test_probes_of_a_stage_are_in_its_record() -> None:
    forget_probes()
    model = random_model("Llama")
    probe(model)
    (summary,) = [one.summary() for one in probes_made()]
    assert summary["decisions"]["sampling"]["path"] == sampling.FAST
    assert summary["measurements"][0]["largest"] < 1e-4
    forget_probes()
    assert probes_made() == []


def test_a_fault_is_not_within_any_tolerance() -> None:
    failed = Measurement("x", float("inf"), float("inf"), 0, 0.1, "KeyError: 'layer'")
    assert not failed.holds((1e9, 1e9))
    assert failed.text == "x failed (KeyError: 'layer')"


def test_the_probe_computes_in_float32_where_tf32_is_allowed() -> None:
    """With TF32, which training in bfloat16 allows on a GPU, the difference would exceed the tolerance."""
    seen: list[str] = []

    def compute(sequences: Any) -> list[Scored]:
        seen.append(torch.get_float32_matmul_precision())
        return []

    model = random_model("Llama")
    torch.set_float32_matmul_precision("high")
    try:
        probe_of(model).measure(model, Path("any", "fast", compute))
        assert seen == ["highest"]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
