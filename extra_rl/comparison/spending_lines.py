"""What arms spent, at the terminal: three currencies, and useful groups per unit of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from extra_rl.comparison.lines import aligned, amount
from extra_rl.run.records import SECONDS
from extra_rl.statistics.intervals import mean_and_sd

Arms = Mapping[str, Mapping[str, Any]]
"""`arms` of summary.json."""
LEFT_OUT = "without evaluations and warm start"
"""What the seconds of training leave out."""


def spent_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return what an arm spent per seed: mean and sd over seeds, one line per arm. summary: summary.json."""
    key, name = kind_of(summary)
    cells = [["", *_head(name), "seeds"]]
    for folder, figures in summary["arms"].items():
        seeds = [_figures(seed, key) for seed in figures["per_seed"].values()]
        cells.append([folder, *(_spread(column) for column in zip(*seeds, strict=True)), str(len(seeds))])
    return ["", f"Spent per seed, mean ± sd over seeds; {name} {LEFT_OUT}", *aligned(cells)]


def seed_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return what every seed of every arm spent, one line each. summary: summary.json."""
    key, name = kind_of(summary)
    cells = [["", "seed", *_head(name)]]
    for folder, figures in summary["arms"].items():
        for seed, spent in figures["per_seed"].items():
            cells.append([folder, seed, *map(amount, _figures(spent, key))])
    return ["", f"Spent by each seed; {name} {LEFT_OUT}", *aligned(cells)]


def total_lines(arms: Arms) -> list[str]:
    """Return what each arm spent, all seeds together, one line per arm."""
    head = ["sampled tokens", "TFLOP", "loss tokens", "CPU-s", "device-s", "wall s", "tokens/CPU-s"]
    cells = [["", *head, "CPU-s of evaluations"]]
    for name, figures in arms.items():
        budget = figures["budget"]
        spent = ("loss_tokens", "compute_seconds", "device_seconds", "wall_seconds", "tokens_per_cpu_second")
        cells.append(
            [
                name,
                amount(budget["sampled_tokens"]),
                amount(budget["compute"] / 1e12),
                # a summary.json of an earlier version has no device_seconds
                *(amount(budget.get(key)) for key in (*spent, "measuring_compute_seconds")),
            ]
        )
    return ["", f"Spent by all seeds together; seconds {LEFT_OUT}", *aligned(cells)]


def kind_of(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Return the key and the name of the seconds in which arms are compared; CPU-seconds in an earlier summary.json."""
    found = summary.get("seconds", {"key": "compute_seconds", "name": SECONDS["compute_seconds"]})
    return found["key"], found["name"]


def _head(name: str) -> list[str]:
    one = name.removesuffix("s")
    return ["sampled tokens", "TFLOP", name, "useful groups", "per 1,000 tokens", "per TFLOP", f"per {one}"]


def _figures(seed: Mapping[str, Any], key: str) -> list[float | None]:
    """Return the figures of a seed in the order of `_head`. seed: an entry of `per_seed`; an earlier one lacks some."""
    useful = ("useful_groups", "useful_per_1000_tokens", "useful_per_tflop", "useful_per_second")
    return [
        seed["generated_tokens"],
        seed["compute"] / 1e12,
        *(seed.get(name) for name in (key, *useful)),
    ]


def _spread(values: Sequence[float | None]) -> str:
    """Return mean and sd over seeds; a hyphen where a seed has no value, no sd for one seed."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return amount(None)
    mean, sd = mean_and_sd(np.array(known, np.float64))
    return amount(mean) + ("" if sd is None else f" ± {amount(sd)}")
