"""Run by torchrun in test_distributed.py: optimizer steps in this process group and in one process, compared.

python -m torch.distributed.run ... -m tests.training.sharded_cases OUT CASE... [JOB_FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import torch

from extra_rl.models.policy import Policy
from extra_rl.scoring.layout import chosen
from extra_rl.training.launch import read_job
from extra_rl.training.optimizer import load_optimizer, optimizer_state
from extra_rl.training.parallel import Parallel, process_group, whole
from extra_rl.training.run import train
from extra_rl.training.trainer import Trainer
from tests.models import random_qwen3
from tests.training.steps import rollouts, settings

MIXED = [1.0, -0.5, 0.0, 0.0, 2.0, -1.0, 0.5, 0.25]
"""Advantages of one mini-batch; the second group of two is all equal."""

CASES: dict[str, dict[str, Any]] = {
    "token_mean": {},
    "sequence_mean": {"aggregate": "sequence_mean"},
    "constant": {"aggregate": "constant"},
    "one row a micro-batch": {"tokens_per_batch": 1},
    "a reference, entropy": {"loss": "gspo", "kl_weight": 0.5, "entropy_weight": 0.1, "tokens_per_batch": 20},
    "fewer signal rows than processes": {"advantages": [0.0, 1.0, 0.0]},
    "signal_only": {"signal_only": True},
    "clipped gradient": {"gradient_clip": 0.1},
    "checkpointing": {"checkpointing": True, "tokens_per_batch": 16},
    "untied head": {"tied": False},
    "bfloat16": {"precision": "bfloat16", "tokens_per_batch": 1},
}
"""Settings of the two steps. bfloat16: one row at a time, because its rounding depends on the other rows."""


def model_of(seed: int, tied: bool) -> Any:
    model = random_qwen3(seed)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().flip(0).clone())
    return model


def two_steps(
    parallel: Parallel,
    *,
    advantages: list[float] = MIXED,
    checkpointing: bool = False,
    tied: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """Weights, optimizer state and metrics after two steps; the second on other rollouts, with other advantages."""
    section = settings(**{"learning_rate": 1e-3, "weight_decay": 0.01, **changes})
    model, reference = model_of(0, tied), model_of(1, tied).requires_grad_(False)
    first, second = rollouts(model, advantages), rollouts(model, [-a for a in [*advantages, 0.0]])
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for each in (model, reference):  # as `train` does, before anything is sharded
        chosen(section.layout, each)
    parallel.place(model)
    optimizer = load_optimizer(Policy(model, None, (2,), Path("none")), section)
    frozen = parallel.place(reference, trained=False) if section.kl_weight else None
    trainer = Trainer(model, optimizer, section, frozen, parallel)
    metrics = [trainer.step(first), trainer.step(second)]
    if tied:
        assert model.lm_head.weight is model.model.embed_tokens.weight
    weights = {name: whole(p.data) for name, p in model.named_parameters()}
    shards = {name: p.data.to_local().shape if parallel.world > 1 else p.shape for name, p in model.named_parameters()}
    return {
        "weights": weights,
        "state": optimizer_state(optimizer, model),
        "metrics": metrics,
        "numbers": sum(shape.numel() for shape in shards.values()),
    }


def far(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)


def compare(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    start = {name: p.data for name, p in model_of(0, "lm_head.weight" not in expected["weights"]).named_parameters()}
    metrics = [
        {key: [step[key], other[key]] for key in other}
        for step, other in zip(found["metrics"], expected["metrics"], strict=True)
    ]
    return {
        "weights": far(found["weights"], expected["weights"]),
        "moved": far(expected["weights"], start),
        "state": far(found["state"], expected["state"]),
        "numbers": found["numbers"] / expected["numbers"],
        "metrics": metrics,
    }


def main() -> None:
    torch.set_num_threads(1)
    out, names = Path(sys.argv[1]), [word for word in sys.argv[2:] if word in CASES]
    with process_group("cpu") as parallel:
        results = {
            name: compare(two_steps(parallel, **CASES[name]), two_steps(Parallel(), **CASES[name])) for name in names
        }
        if parallel.rank == 0:
            out.write_text(json.dumps(results))
        for folder in map(Path, sys.argv[2 + len(names) :]):
            train(read_job(folder), pl.read_parquet(folder / "rows.parquet"), parallel, lambda: None, {})


if __name__ == "__main__":
    main()
