"""The one line that an iteration says on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extra_rl.algorithms.mismatch import TOLERANCE
from extra_rl.run.context import Horizon
from extra_rl.run.progress import duration

MISMATCH_RATIO = 2.0
"""Greatest ratio between policy and sampler beyond which the line speaks of it: the default of `update.importance_cap`.
The mean difference of sampler and policy is held to the tolerance of the iteration (`extra_rl.run.guards`). Source: our
decision."""


def summary_line(
    row: Mapping[str, Any], run: Horizon, seconds: Mapping[str, float], tolerance: float | None = None
) -> str:
    """`row`: a row of `contracts.IterationSummary`. seconds: stage -> seconds of its run, for the slowest few.
    tolerance: nats, on the mean difference of sampler and policy; None: that of float32, where none was recorded.

    The time left is extrapolated from this iteration alone: by the budget that is spent first, else by iterations.
    """
    spent, cost = row["total_sampled_tokens"], row["sampled_tokens"]
    iterations = max(run.iterations, row["iteration"] + 1)
    name = f"{row['arm']}/s{row['seed']} {row['iteration'] + 1}/{iterations}"
    if not row["rollouts"]:
        return f"{name} | budget spent ({spent:,} sampled tokens), nothing left to do"
    wall = sum(seconds.values())
    left = max(0.0, iterations - row["iteration"] - 1)
    share = (row["iteration"] + 1) / iterations
    budgets = [(run.token_budget, spent, cost), (run.compute_budget, row["total_compute"], row["compute"])]
    known = [(whole, done, step) for whole, done, step in budgets if whole]
    if known:
        left = min(max(0.0, (whole - done) / max(step, 1)) for whole, done, step in known)
        share = min(1.0, max(done / whole for whole, done, _ in known))
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:3]
    parts = [
        f"{name} {share:.0%}, {duration(wall * left)} left",
        f"reward {_figure(row['mean_reward'])} pass {_figure(row['pass_rate'])}",
        f"groups {row['all_wrong']} wrong {row['mixed']} mixed {row['all_right']} right",
        f"entropy {_figure(row['mean_entropy'])} length {_figure(row['mean_length'])} cut off {row['truncated']}",
        *_faults(row),
        *_mismatch(row, TOLERANCE["float32"] if tolerance is None else tolerance),
        f"regenerated {row['regenerated_groups']} rescued {row['rescued_groups']}",
        f"bonus {row['bonus_share']:.1%}",
        " ".join(f"{stage} {value:.1f}s" for stage, value in slowest),
    ]
    return " | ".join(parts)


def _faults(row: Mapping[str, Any]) -> list[str]:
    """What should not happen and is said only when it does."""
    counts = {
        "gold unparseable": row["verdict_gold_unparseable"],
        "verifier errors": row["verdict_error"],
        "timeouts": row["verdict_timeout"],
    }
    said = [f"{what} {count}" for what, count in counts.items() if count]
    return [" ".join(said)] if said else []


def _mismatch(row: Mapping[str, Any], tolerance: float) -> list[str]:
    """Mismatch of sampler and policy, said only beyond its thresholds."""
    mean, ratio = row["mismatch_mean"], row["mismatch_max_ratio"]
    if mean is None or (mean <= tolerance and ratio <= MISMATCH_RATIO):
        return []
    return [f"sampler off by {mean:.2g} nats, ratio up to {ratio:.3g}, KL {_figure(row['mismatch_kl'])}"]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
