"""Figures of training: pass rate, rewards, group composition, continuations, entropy and length, bonus."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from extra_rl.report import charts, curves
from extra_rl.report.figure import BANDS, Figure, Look, Panel, by_regime, label, top
from extra_rl.report.sources import Sources

X = ("iteration", "iteration")
BY = [*curves.PLACE, "iteration"]


def learning(sources: Sources, iterations: pl.DataFrame, arms: list[Look]) -> Iterator[Figure]:
    """Yield the training pass rate against sampled tokens."""
    tokens = ("tokens", "sampled tokens")
    rates = curves.over_tokens(iterations, "pass_rate")
    highest = top(rates)
    yield Figure(
        "learning",
        "Learning curves",
        "Pass rate of training groups against sampled tokens",
        f"Share of correct fresh rollouts. {BANDS} Source: summarize.parquet of every iteration.",
        [
            Panel(label(sources, regime), charts.lines(part, tokens, "pass rate", arms, percent=True, top=highest))
            for regime, part in by_regime(sources, rates)
        ],
        arms,
    )


def rewards(sources: Sources, iterations: pl.DataFrame, arms: list[Look]) -> Iterator[Figure]:
    """Yield the mean reward and the means of a judge's numbers; no panel where the reward is the pass rate."""
    numbers = iterations.explode("mean_numbers").unnest("mean_numbers").drop_nulls("name")
    differs = iterations.filter((pl.col("mean_reward") - pl.col("pass_rate")).abs() > 1e-6)
    found = [("reward", "mean_reward", iterations)] if len(differs) or len(numbers) else []
    found += [(name, "value", numbers.filter(name=name)) for name in numbers["name"].unique().sort()]
    yield Figure(
        "rewards",
        "Rewards",
        "Mean reward, and the numbers that it is made of",
        "Over fresh rollouts. The numbers are those that the judge returns and those that verify.weights names, before "
        f"they are weighted. {BANDS} Source: summarize.parquet.",
        [
            Panel(label(sources, regime, title), charts.lines(part, X, title, arms, zero=False))
            for regime in sources.regimes
            for title, column, rows in found
            if not (part := curves.over_seeds(rows.filter(regime=regime), BY, column)).is_empty()
        ],
        arms,
        small=True,
    )


def composition(sources: Sources, iterations: pl.DataFrame) -> Iterator[Figure]:
    """Yield the shares of the kinds of groups over iterations."""
    shares = curves.composition(iterations)
    yield Figure(
        "composition",
        "Groups",
        "Fresh groups: all incorrect, mixed, all correct",
        "Share of the groups of all seeds, by iteration; from the bottom up all incorrect, mixed, all correct. GRPO "
        "learns only from groups whose rewards differ: the mixed ones, and others where the reward is a weighted sum. "
        "Source: summarize.parquet of every iteration.",
        [
            Panel(label(sources, cell.regime, cell.arm), charts.stacked(shares.filter(folder=cell.folder)))
            for cell in sources.cells
            if not shares.filter(folder=cell.folder).is_empty()
        ],
        small=True,
    )


def regeneration(sources: Sources, iterations: pl.DataFrame, arms: list[Look]) -> Iterator[Figure]:
    """Yield the shares of continued and rescued groups over iterations."""
    rates = curves.regeneration(iterations)
    used = set(rates.filter(pl.col("mean") > 0)["arm"])
    shown = [look for look in arms if look.name in used]
    rates = rates.filter(pl.col("arm").is_in(used))
    names = {"triggered": "continued (per fresh group)", "rescued": "rescued (per continued group)"}
    yield Figure(
        "regeneration",
        "Continued groups",
        "Groups that are continued, and groups that are rescued",
        "Continued groups per fresh group of the iteration, and the share of continued groups with a correct "
        f"continuation. Arms without continuations are left out. {BANDS} Source: summarize.parquet.",
        [
            Panel(label(sources, regime, title), charts.lines(part.filter(what=what), X, "share", shown, percent=True))
            for regime, part in by_regime(sources, rates)
            for what, title in names.items()
            if not part.filter(what=what).is_empty()
        ],
        shown,
    )


def entropy_and_length(sources: Sources, iterations: pl.DataFrame, arms: list[Look]) -> Iterator[Figure]:
    """Yield entropy and length of fresh rollouts over iterations."""
    columns = {"mean_entropy": ("entropy", "nats per token"), "mean_length": ("response length", "tokens")}
    tables = {name: curves.over_seeds(iterations, BY, name) for name in columns}
    yield Figure(
        "entropy-length",
        "Entropy, length",
        "Entropy and length of fresh rollouts",
        f"Mean token entropy under the sampling policy, and mean response length. {BANDS} Source: summarize.parquet.",
        [
            Panel(label(sources, regime, title), charts.lines(part, X, unit, arms, top=top(tables[name])))
            for regime in sources.regimes
            for name, (title, unit) in columns.items()
            if not (part := tables[name].filter(regime=regime)).is_empty()
        ],
        arms,
    )


UPDATE = (
    ("loss", "loss", "", False),
    ("gradient_norm", "gradient norm", "", False),
    ("approx_kl", "KL of the updates", "nats per token", False),
    ("kl_to_reference", "KL to the initial policy", "nats per token", False),
    ("clip_share", "clip share", "share of tokens", True),
    ("cut_off", "cut off", "share of rollouts", True),
    ("mismatch_mean", "mismatch of sampler and policy", "nats per token", False),
)
"""Panels of `update`: column, title, unit, whether it is a share."""


def update(sources: Sources, iterations: pl.DataFrame, updates: pl.DataFrame, arms: list[Look]) -> Iterator[Figure]:
    """Yield what shows whether training is sound: loss, gradient norm, KL, clip share, cut-off rollouts, mismatch.

    Args:
        sources: the results.
        iterations: `collect.iterations`.
        updates: `collect.updates`.
        arms: looks of the arms.
    """
    rows = iterations.with_columns(cut_off=pl.col("truncated") / pl.col("rollouts"))
    panels = []
    for regime in sources.regimes:
        for name, title, unit, percent in UPDATE:
            table = rows if name in rows.columns else updates
            part = curves.over_seeds(table.filter(regime=regime), BY, name)
            if part.is_empty():
                continue
            spec = charts.lines(part, X, unit or title, arms, percent=percent, zero=name != "loss")
            panels.append(Panel(label(sources, regime, title), spec))
    yield Figure(
        "training",
        "Training",
        "Training: loss, gradient, KL, clip share, cut-off rollouts, mismatch",
        "Means over the optimizer steps of an iteration. KL: estimated between the policy before and after a step, on "
        "the trained tokens. Clip share: trained tokens outside of the clipping range. Cut off: rollouts that reached "
        "the token limit. Mismatch: mean absolute difference of the log-probabilities of sampler and policy. Values "
        f"that an iteration does not have, such as the loss without a step, are left out. {BANDS} Source: "
        "summarize.parquet and update.parquet.",
        panels,
        arms,
        small=True,
    )


def bonus(sources: Sources, iterations: pl.DataFrame, arms: list[Look]) -> Iterator[Figure]:
    """Yield the share of the novelty bonus over iterations."""
    shares = curves.over_seeds(iterations, BY, "bonus_share")
    used = set(shares.filter(pl.col("mean") > 0)["arm"])
    shown = [look for look in arms if look.name in used]
    yield Figure(
        "bonus",
        "Bonus",
        "Share of the novelty bonus in the advantages",
        "Sum over tokens of |bonus|, divided by the sum of |normalised reward| + |bonus|. Arms without a bonus are "
        f"left out. {BANDS} Source: summarize.parquet.",
        [
            Panel(label(sources, regime), charts.lines(part, X, "share", shown, percent=True))
            for regime, part in by_regime(sources, shares.filter(pl.col("arm").is_in(used)))
        ],
        shown,
    )
