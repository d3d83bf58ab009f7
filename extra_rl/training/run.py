"""One iteration's optimizer steps, from files to the next policy: run by the stage `update` or by its processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.training.parallel import Parallel
from extra_rl.training.settings import UpdateSettings


@dataclass(frozen=True)
class TrainingJob:
    """What to train, with which settings; pydantic's TypeAdapter turns it into JSON for other processes.

    settings: the section `update`. device: `cuda` or `cpu`, found for `settings.compute.device`.
    policy, initial, next_policy: manifests. initial: of the reference of the KL term and the base of adapters; None
    without both. provenance: for the manifest of the next policy.
    seeds: of the mini-batches, one per pass over the rows. adapter_seed: of new adapters.
    learning_rate_share: share of the peak learning rate in this iteration.
    optimizer_folder: where the optimizer's state is written; None: next to the policy.
    title: begins the lines of progress.
    """

    settings: UpdateSettings
    device: str
    policy: Path
    initial: Path | None
    next_policy: Path
    provenance: Mapping[str, Any]
    seeds: tuple[int, ...]
    adapter_seed: int = 0
    learning_rate_share: float = 1.0
    optimizer_folder: Path | None = None
    title: str = "update: step"

    @property
    def steps(self) -> int:
        """Number of mini-batches, which is the largest possible number of optimizer steps."""
        return len(self.seeds) * self.settings.minibatches


def train(
    job: TrainingJob, rows: pl.DataFrame, parallel: Parallel, step_done: Callable[[], None], figures: dict[str, float]
) -> list[dict[str, float]]:
    """Take the steps, save the next policy, and return the metrics of each step.

    Several processes must all call it, with the same job and rows; rank 0 writes the format that one process writes.

    Args:
        job: what to train.
        rows: the advantage table, joined with tokens and logprobs.
        parallel: this process's part in the computation.
        step_done: called after each mini-batch.
        figures: receives the cost of the optimizer's state: `optimizer_read_s`, `optimizer_write_s`,
            `optimizer_bytes`.
    """
    import torch

    from extra_rl.models.policy import load_policy
    from extra_rl.scoring.layout import chosen
    from extra_rl.training.lora import load_adapted
    from extra_rl.training.optimizer import load_optimizer
    from extra_rl.training.rollouts import minibatches_of, to_rollouts
    from extra_rl.training.trainer import Trainer, reference_model

    settings = job.settings
    adapted = None
    if settings.lora is None:
        policy = load_policy(job.policy)
    else:
        assert job.initial is not None
        policy, adapted = load_adapted(job.initial, job.policy, settings.lora, job.adapter_seed)
    chosen(settings.layout, policy.model)  # measured before the model is sharded
    if settings.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    parallel.place(policy.model)
    started = time.perf_counter()
    optimizer = load_optimizer(policy, settings)
    figures["optimizer_read_s"] = time.perf_counter() - started
    reference = None
    if settings.kl_weight:
        assert job.initial is not None
        reference = adapted or parallel.place(reference_model(job.initial), trained=False)
    trainer = Trainer(policy.model, optimizer, settings, reference, parallel, job.learning_rate_share)
    rollouts = to_rollouts(rows)
    steps: list[dict[str, float]] = []
    for seed in job.seeds:
        torch.manual_seed(seed)  # for an adapter's dropout
        for rows_of_step in minibatches_of(rollouts, settings.minibatches, seed):
            metrics = trainer.step(rows_of_step)
            if metrics is not None:
                steps.append({"step": len(steps), **metrics})
            step_done()
    figures |= _save(job, policy, optimizer, parallel, adapted)
    return steps


def _save(job: TrainingJob, policy: Any, optimizer: Any, parallel: Parallel, adapted: Any | None) -> dict[str, float]:
    """Write the next policy; return the cost of writing its optimizer state.

    Sharded weights are copied into a whole model, one by one, and that model is saved. Adapters are merged.
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
            value = whole(parameter.data)  # a collective call: every rank makes it
            if writes:
                targets[name].data.copy_(value)
    state = optimizer_state(optimizer, policy.model, keep=writes, copy=False)
    adapter = adapter_tensors(model) if adapted is not None else {}
    if adapted is not None:
        model = adapted.merge_and_unload()
    figures: dict[str, float] = {}

    def write_state(directory: Path) -> None:
        figures.update(write_optimizer(directory, state, job.optimizer_folder))
        if job.settings.lora is not None and job.initial is not None:
            write_adapter(directory, adapter, job.initial, job.settings.lora)

    if writes:
        provenance = {**job.provenance, "probe": probe_of(policy.model).to_remember()}
        save_policy(job.next_policy, model, policy.tokenizer, provenance, write_state)
    return figures
