"""Noise of the policy gradient of finished iterations, with and without each mechanism, on the same rollouts.

extra gradient-noise results/tiny/extra/s0/iteration_0003
extra gradient-noise results/tiny/extra/s0/iteration_00*

Several iterations give one table of means over them: a single one seldom tells a gradient from noise. Needs the
policies that sampled; two forward and backward passes a variant. docs/counterfactuals.md explains the columns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.devices.acquire import acquire
from extra_rl.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from extra_research.finished import FinishedStage
    from extra_research.noise import Products

HELP = "noise of the policy gradient with and without each mechanism"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("iterations", type=Path, nargs="+", metavar="ITERATION", help="folders iteration_NNNN of a run")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: ITERATION/counterfactual; of several: next to them"
    )


def run(arguments: argparse.Namespace) -> int:
    from extra_research import contracts
    from extra_research.advantages import WITHOUT_REPLAY, has_replays
    from extra_research.finished import folder_for, open_stage, write
    from extra_research.noise import noise_table
    from extra_research.text import noise_lines

    folders: list[Path] = arguments.iterations
    out = arguments.out or folder_for(folders)
    variants: dict[str, list[Products]] = {}
    updates: list[FinishedStage] = []
    replayed = False
    for folder in folders:
        update, advantage, novelty = (open_stage(folder, name) for name in ("update", "advantage", "novelty"))
        if advantage.outputs["advantage"].is_empty():
            print(f"{update.job.place}: no rollouts, the budget was spent before")
            continue
        for name, products in products_of_variants(update, advantage, novelty).items():
            variants.setdefault(name, []).append(products)
        updates.append(update)
        replayed |= has_replays(advantage)
    if not updates:
        raise InputError(f"{folders[0]}: there are no rollouts to learn from; name an earlier iteration.")
    if not replayed:
        variants.pop(WITHOUT_REPLAY)
    table = noise_table({name: found for name, found in variants.items() if len(found) == len(updates)})
    paths = write(out, updates, {"gradient_noise": (table, contracts.GradientNoise)})
    print("\n".join([f"noise of the gradient, {heading(updates)}", *noise_lines(table), f"  {paths[0]}"]))
    return 0


def heading(updates: list[FinishedStage]) -> str:
    """Return which iterations the table is about."""
    first, last = updates[0].job.place, updates[-1].job.place
    return first if len(updates) == 1 else f"{len(updates)} iterations, {first} to {last}"


def products_of_variants(
    update: FinishedStage, advantage: FinishedStage, novelty: FinishedStage
) -> dict[str, Products]:
    """Return variant -> the products that its gradient noise follows from; equal rows are computed once."""
    from extra_research.advantages import tables_with_and_without
    from extra_research.gradients import group_products
    from extra_rl.models.policy import load_policy
    from extra_rl.training.rollouts import to_rollouts

    config = update.config()
    device = acquire(config.compute)
    policy = load_policy(update.inputs.policy(), device=device)
    if config.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    groups = groups_of(update)
    done: list[tuple[pl.DataFrame, Products]] = []
    found: dict[str, Products] = {}
    for name, table in tables_with_and_without(advantage, novelty).items():
        rows = update.helper("training_rows")(update.with_table("advantage", table), config)
        known = [products for previous, products in done if previous.equals(rows)]
        found[name] = known[0] if known else group_products(policy.model, to_rollouts(rows), groups, config)
        done.append((rows, found[name]))
    return found


def groups_of(update: FinishedStage) -> dict[str, Any]:
    """Return rollout_id -> group of its prompt, for all rollouts that the update can learn from."""
    roles = ("generate", "regenerate", "previous_generate")
    rows = (update.inputs[role].select("rollout_id", "group_id").iter_rows() for role in roles)
    return {rollout: group for table in rows for rollout, group in table}
