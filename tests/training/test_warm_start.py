"""The warm start: its loss by hand, determinism, schedule, and learning."""

import math

import pytest
import torch

from extra_rl.config.sections import TaskConfig
from extra_rl.errors import ConfigError, ModelError, NumericalError
from extra_rl.models.tokenizers import word_level
from extra_rl.tables import contracts
from extra_rl.tasks.demonstrations import demonstrations, response_tokens
from extra_rl.tasks.load import load_task
from extra_rl.tasks.sets import demonstration_stream
from extra_rl.training.warm_start import ModelShape, learning_rate_factor, new_model, summed_loss, train
from tests.stages.rows import frame

SHAPE = ModelShape(hidden=16, layers=1, heads=2, kv_heads=1, head_dim=32, intermediate=32, max_positions=64)
TASK = load_task(TaskConfig(name="signed_sum"))
SETTINGS = {"steps": 60, "batch": 8, "lr": 1e-2, "warmup": 5, "weight_decay": 0.01}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tokenizer():
    return word_level(TASK.vocabulary)


def texts(seed: int = 0):
    return demonstration_stream(TASK, seed, level_weights={"L1": 1, "L2": 1}, exclude=frozenset())


def stream(seed: int = 0):
    return demonstrations(
        TaskConfig(name="signed_sum"),
        None,
        word_level(TASK.vocabulary),
        seed=seed,
        level_weights={"L1": 1, "L2": 1},
        held_out=frame(contracts.Problems, []),
        train=frame(contracts.Problems, []),
    )


def test_a_new_model_has_the_tokenizers_ids_and_weights_by_seed(tokenizer) -> None:
    torch.manual_seed(7)
    model = new_model(tokenizer, SHAPE, seed=0)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(3))  # the global generator is unchanged
    same, other = new_model(tokenizer, SHAPE, seed=0), new_model(tokenizer, SHAPE, seed=1)
    weights = model.model.embed_tokens.weight
    assert torch.equal(weights, same.model.embed_tokens.weight)
    assert not torch.equal(weights, other.model.embed_tokens.weight)
    assert model.lm_head.weight is weights
    assert weights.dtype == torch.float32
    assert weights.shape == (len(tokenizer), 16)
    assert weights[1:].std().item() == pytest.approx(16**-0.5, rel=0.1)
    for config in (model.config, model.generation_config):
        assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)


def test_a_tokenizer_without_eos_is_refused(tokenizer) -> None:
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="eos"):
        new_model(tokenizer, SHAPE, seed=0)


def test_the_loss_covers_response_and_eos_only(tokenizer) -> None:
    model = new_model(tokenizer, SHAPE, seed=0)
    pairs = [("2 3 :", "2 + 3 = 5"), ("4 5 6 :", "4 + 5 = 9 ; 9 + 6 = 15")]
    tokens = [
        (tokenizer(problem)["input_ids"], response_tokens(solution, TaskConfig(), None, tokenizer))
        for problem, solution in pairs
    ]
    expected = 0.0
    for prompt, response in pairs:  # each text separately, without padding, token by token
        prompt_ids = tokenizer(prompt)["input_ids"]
        target_ids = [*tokenizer(response, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for position, target in enumerate(target_ids):
            context = torch.tensor([prompt_ids + target_ids[:position]])
            expected -= model(input_ids=context).logits[0, -1].log_softmax(-1)[target].item()
    assert summed_loss(model, tokens).item() == pytest.approx(expected, rel=1e-5)


def test_training_learns_and_repeats_bit_for_bit(tokenizer) -> None:
    weights, metrics, seen = [], [], []
    for _ in range(2):
        model = new_model(tokenizer, SHAPE, seed=0)
        metrics.append(
            train(
                model,
                stream(),
                stop_at=60,
                on_step=lambda *step_loss: seen.append(step_loss),
                **SETTINGS,
            )
        )
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert metrics[0] == metrics[1]
    assert metrics[0].first_loss == pytest.approx(math.log(len(tokenizer)), rel=0.2)
    assert metrics[0].last_loss < 0.7 * metrics[0].first_loss
    assert [step for step, _ in seen] == [*range(60), *range(60)]
    assert seen[59][1] == metrics[0].last_loss


def test_training_stops_at_the_configured_step(tokenizer) -> None:
    model = new_model(tokenizer, SHAPE, seed=0)
    metrics = train(model, stream(), stop_at=3, **SETTINGS)
    responses = [response for step in range(3) for _, response in texts()(step, 8)]
    assert metrics.steps == 3
    assert metrics.trained_tokens == sum(len(response.split()) + 1 for response in responses)
    assert not model.training
    for stop_at in (0, 61):
        with pytest.raises(ConfigError, match="stop_at"):
            train(model, stream(), stop_at=stop_at, **SETTINGS)


def test_the_learning_rate_rises_and_falls() -> None:
    factors = [learning_rate_factor(step, warmup=4, steps=12) for step in range(13)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[8] == pytest.approx(0.5)
    assert factors[12] == pytest.approx(0.0)


def test_a_loss_that_is_not_finite_stops_the_run(tokenizer) -> None:
    model = new_model(tokenizer, SHAPE, seed=0)
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    with pytest.raises(NumericalError, match="step 0"):
        train(model, stream(), stop_at=1, **SETTINGS)
