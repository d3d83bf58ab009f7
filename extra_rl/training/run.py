"""One iteration's optimizer steps, from files to the next policy: what the stage `update` and its processes run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.training.lora import LoraConfig
from extra_rl.training.parallel import Parallel
from extra_rl.training.settings import LossSettings


@dataclass(frozen=True)
class TrainingJob:
    """What to train and how, beside the rows; pydantic's TypeAdapter makes JSON of it for other processes.

    policy, initial, next_policy: manifests; initial: of the reference of the KL term, None: no such term.
    provenance: for the manifest of the next policy. seeds: of the mini-batches, one a pass over the rows.
    title: how lines of progress begin. optimizer: its kind; optimizer_folder: where its state is written, None: beside
    the policy. lora: adapters to train in the place of all weights, over those of `initial`; adapter_seed: of theirs.
    """

    policy: Path
    initial: Path | None
    next_policy: Path
    provenance: Mapping[str, Any]
    settings: LossSettings
    betas: tuple[float, float]
    weight_decay: float
    gradient_checkpointing: bool
    minibatches: int
    seeds: tuple[int, ...]
    title: str
    optimizer: str = "adamw"
    optimizer_folder: Path | None = None
    lora: LoraConfig | None = None
    adapter_seed: int = 0

    @property
    def steps(self) -> int:
        """Mini-batches, and so optimizer steps at most."""
        return len(self.seeds) * self.minibatches


def train(
    job: TrainingJob, rows: pl.DataFrame, parallel: Parallel, step_done: Callable[[], None], figures: dict[str, float]
) -> list[dict[str, float]]:
    """Takes the steps and saves the next policy; returns the metrics of each step.

    Of several processes all must call it, with the same job and rows; rank 0 writes, in the format of one process.
    figures: is given what the optimizer's state cost to read and write: `optimizer_read_s`, `optimizer_write_s`,
    `optimizer_bytes`.
    """
    import torch

    from extra_rl.models.policy import load_policy
    from extra_rl.scoring.layout import chosen
    from extra_rl.training.lora import load_adapted
    from extra_rl.training.optimizer import load_optimizer
    from extra_rl.training.rollouts import minibatches_of, to_rollouts
    from extra_rl.training.trainer import Trainer, reference_model

    adapted = None
    if job.lora is None:
        policy = load_policy(job.policy)
    else:
        assert job.initial is not None
        policy, adapted = load_adapted(job.initial, job.policy, job.lora, job.adapter_seed)
    chosen(job.settings.layout, policy.model)  # measured before adapters and shards
    if job.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    parallel.place(policy.model)
    started = time.perf_counter()
    optimizer = load_optimizer(
        policy,
        learning_rate=job.settings.learning_rate,
        betas=job.betas,
        weight_decay=job.weight_decay,
        kind=job.optimizer,
    )
    figures["optimizer_read_s"] = time.perf_counter() - started
    reference = None
    if job.settings.kl_weight:
        assert job.initial is not None
        reference = adapted or parallel.place(reference_model(job.initial), trained=False)
    trainer = Trainer(policy.model, optimizer, job.settings, reference, parallel)
    rollouts = to_rollouts(rows)
    steps: list[dict[str, float]] = []
    for seed in job.seeds:
        torch.manual_seed(seed)  # of an adapter's dropout
        for rows_of_step in minibatches_of(rollouts, job.minibatches, seed):
            metrics = trainer.step(rows_of_step)
            if metrics is not None:
                steps.append({"step": len(steps), **metrics})
            step_done()
    figures |= _save(job, policy, optimizer, parallel, adapted)
    return steps


def _save(job: TrainingJob, policy: Any, optimizer: Any, parallel: Parallel, adapted: Any | None) -> dict[str, float]:
    """The next policy, and what writing its optimizer state cost.

    Where weights are sharded, they are put into a whole model, one by one, and that is saved; adapters are merged.
    """
    from extra_rl.models.policy import load_policy_model, save_policy
    from extra_rl.models.probe import probe_of
    from extra_rl.training.lora import adapter_tensors, write_adapter
    from extra_rl.training.optimizer import optimizer_state
    from extra_rl.training.optimizer_file import write_optimizer
    from extra_rl.training.parallel import whole

    writes = parallel.rank == 0
    model = policy.model
    if parallel.world > 1:
        model = load_policy_model(job.policy) if writes else None
        targets = dict(model.named_parameters()) if model is not None else {}
        for name, parameter in policy.model.named_parameters():
            value = whole(parameter.data)
            if writes:
                targets[name].data.copy_(value)
    state = optimizer_state(optimizer, policy.model, keep=writes, copy=False)
    adapter = adapter_tensors(model) if adapted is not None else {}
    if adapted is not None:
        model = adapted.merge_and_unload()
    figures: dict[str, float] = {}

    def write_state(directory: Path) -> None:
        figures.update(write_optimizer(directory, state, job.optimizer_folder))
        if job.lora is not None and job.initial is not None:
            write_adapter(directory, adapter, job.initial, job.lora)

    if writes:
        provenance = {**job.provenance, "probe": probe_of(policy.model).to_remember()}
        save_policy(job.next_policy, model, policy.tokenizer, provenance, write_state)
    return figures
