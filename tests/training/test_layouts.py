"""Steps in every layout: the same loss (1e-5) and gradient (1e-4), and reported shares of padding and sharing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from extra_rl.scoring.batches import TokenSequence, micro_batches_by_process
from extra_rl.training.rollouts import TrainingRollout
from extra_rl.training.trainer import Trainer
from tests.models import random_qwen3
from tests.scoring.test_packed import CASES
from tests.training.steps import moved, settings


def rollouts_of(batch: list[TokenSequence]) -> list[TrainingRollout]:
    """Old logprobs that differ from the policy's, so that ratios, clips and weights matter; masks of both kinds."""
    rollouts = []
    for i, sequence in enumerate(s for s in batch if s.response):
        old = [-0.5 - 0.3 * ((i + t) % 5) for t in range(len(sequence.response))]
        sampler = [value + 0.1 * ((i + t) % 3 - 1) for t, value in enumerate(old)]
        start = min(i % 3, len(sequence.response) - 1)
        rollouts.append(TrainingRollout(f"r{i}", "g", sequence, old, sampler, [1.0, -0.5, 2.0][i % 3], start, start))
    return rollouts


def stepped(batch: list[TokenSequence], layout: str, **changes: Any) -> tuple[torch.Tensor, dict[str, float]]:
    model = random_qwen3()
    section = settings(layout=layout, **changes)
    reference = random_qwen3(seed=1) if section.kl_weight else None
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    figures = Trainer(model, optimizer, section, reference).step(rollouts_of(batch))
    assert figures is not None
    return moved(model), figures


LOSSES: list[dict[str, Any]] = [
    {"loss": loss, "aggregate": aggregate}
    for loss in ("clipped", "gspo", "cispo")
    for aggregate in ("token_mean", "sequence_mean", "constant")
]
LOSSES += [{"kl_weight": 0.5}, {"entropy_weight": 0.1}, {"dual_clip": None, "importance_cap": None}]


EVERY = [(changes, "prefixes") for changes in LOSSES]
EVERY += [({}, case) for case in CASES if case not in ("prefixes", "no response")]
"""Every loss on the batch with most sharing, and every other batch with the default loss."""


@pytest.mark.parametrize(("changes", "case"), EVERY, ids=str)
def test_every_loss_is_the_same_in_every_layout(changes: dict[str, Any], case: str) -> None:
    expected, figures = stepped(CASES[case], "padded", **changes)
    for layout, budget in (("packed", 10_000), ("shared_prefix", 10_000), ("shared_prefix", 14)):
        found, same = stepped(CASES[case], layout, tokens_per_batch=budget, **changes)
        assert same["loss"] == pytest.approx(figures["loss"], abs=1e-5)
        assert same["entropy"] == pytest.approx(figures["entropy"], abs=1e-5)
        assert (found - expected).abs().max() < 1e-4 * max(1.0, float(expected.detach().abs().max()))


def test_padding_and_shared_tokens_are_reported() -> None:
    batch = CASES["duplicates"]  # 12, 5 and 12 tokens; the first two share 1 and 5 of their prompts
    assert stepped(batch, "padded")[1]["padding"] == 0  # the short row is a separate batch
    assert stepped(batch, "packed")[1]["shared"] == 0
    figures = stepped(batch, "auto")[1]
    assert figures["padding"] == 0
    assert figures["shared"] == pytest.approx(12 / 29)  # one row for all, but groups count separately


@pytest.mark.parametrize("layout", ["padded", "packed", "shared_prefix"])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_row_has_one_process_and_work_is_balanced(layout: str, processes: int) -> None:
    rows = [TokenSequence((g, 7, 7), (*range(i, 30 + i),)) for g in range(2) for i in range(8)]
    plans = micro_batches_by_process(rows, layout, 200, processes)
    assert sorted(row for batches in plans for batch in batches for row in batch.rows) == list(range(16))
    work = [sum(batch.computed for batch in batches) for batches in plans]
    assert max(work) <= 1.5 * min(work)
