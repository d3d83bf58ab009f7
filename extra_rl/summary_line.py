"""The one line that an iteration says on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extra_rl.progress import duration


def summary_line(
    row: Mapping[str, Any], iterations: int, token_budget: int | None, seconds: Mapping[str, float]
) -> str:
    """`row`: a row of `contracts.IterationSummary`. seconds: stage -> seconds of its run, for the slowest few.

    The time left is extrapolated from this iteration alone: by tokens where there is a budget, else by iterations.
    """
    spent, cost = row["total_sampled_tokens"], row["sampled_tokens"]
    name = f"{row['arm']}/s{row['seed']} {row['iteration'] + 1}/{iterations}"
    if not row["rollouts"]:
        return f"{name} | budget spent ({spent:,} sampled tokens), nothing left to do"
    wall = sum(seconds.values())
    left = max(0.0, iterations - row["iteration"] - 1)
    share = (row["iteration"] + 1) / iterations
    if token_budget:
        left, share = max(0.0, (token_budget - spent) / max(cost, 1)), min(1.0, spent / token_budget)
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:3]
    parts = [
        f"{name} {share:.0%}, {duration(wall * left)} left",
        f"reward {_figure(row['mean_reward'])} pass {_figure(row['pass_rate'])}",
        f"groups {row['all_wrong']} wrong {row['mixed']} mixed {row['all_right']} right",
        f"entropy {_figure(row['mean_entropy'])} length {_figure(row['mean_length'])} cut off {row['truncated']}",
        f"regenerated {row['regenerated_groups']} rescued {row['rescued_groups']}",
        f"bonus {row['bonus_share']:.1%}",
        " ".join(f"{stage} {value:.1f}s" for stage, value in slowest),
    ]
    return " | ".join(parts)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
