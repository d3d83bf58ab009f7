"""Which figures the page has, in their order."""

from __future__ import annotations

import polars as pl

from extra_rl.report import held_out_figures, regime_figures, training_figures
from extra_rl.report.figure import Figure
from extra_rl.report.sources import Sources
from extra_rl.report.theme import looks


def figures(sources: Sources, iterations: pl.DataFrame, evaluations: pl.DataFrame, ks: list[int]) -> list[Figure]:
    """All figures that these results have something for."""
    arms = looks(sources.arms)
    made = [
        *regime_figures.figures(sources, iterations, ks, arms),
        *training_figures.learning(sources, iterations, arms),
        *held_out_figures.over_training(sources, evaluations, ks, arms),
        *held_out_figures.pass_at_k(sources, evaluations, arms),
        *held_out_figures.benchmarks(sources, evaluations, ks, arms),
        *training_figures.composition(sources, iterations),
        *training_figures.regeneration(sources, iterations, arms),
        *training_figures.entropy_and_length(sources, iterations, arms),
        *training_figures.bonus(sources, iterations, arms),
    ]
    return [figure for figure in made if figure.panels]
