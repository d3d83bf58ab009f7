"""The line that an iteration prints on the terminal, and the warnings below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extra_rl.algorithms.mismatch import TOLERANCE
from extra_rl.run.context import Horizon
from extra_rl.run.progress import duration

MISMATCH_RATIO = 2.0
"""Largest ratio between the probabilities of policy and sampler without a warning: the default of
`update.importance_cap`. The mean difference is compared with the tolerance of the iteration (`extra_rl.run.guards`).
Source: our decision."""


def summary_line(
    row: Mapping[str, Any], run: Horizon, seconds: Mapping[str, float], tolerance: float | None = None
) -> str:
    """Return one line for an iteration, and one line below it for each warning.

    The time left is extrapolated from this iteration alone: to the budget that is spent first, else to the last
    iteration.

    Args:
        row: a row of `contracts.IterationSummary`.
        run: the iterations and budgets of the run.
        seconds: stage -> seconds of its run; the three slowest are shown.
        tolerance: nats, for the mean difference of sampler and policy; None: that of float32, where none was recorded.
    """
    done = row["iteration"] + 1
    iterations = max(run.iterations, done)
    name = f"{row['arm']}/s{row['seed']}: {done}/{iterations} iterations"
    if not row["rollouts"]:
        return f"{name} | no rollouts: the budget was spent after {row['total_sampled_tokens']:,} sampled tokens"
    budgets = [
        (run.token_budget, row["total_sampled_tokens"], row["sampled_tokens"], "{:,} tokens"),
        (run.compute_budget, row["total_compute"], row["compute"], "{:.3g} FLOP"),
    ]
    known = [(whole, spent, step, unit) for whole, spent, step, unit in budgets if whole]
    shares = [f"{min(1.0, spent / whole):.0%} of {unit.format(whole)}" for whole, spent, _, unit in known]
    remaining = [max(0.0, (whole - spent) / max(step, 1)) for whole, spent, step, _ in known]
    left = min(remaining, default=float(iterations - done))
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:3]
    parts = [
        ", ".join([name, *shares, f"{duration(sum(seconds.values()) * left)} left"]),
        ", ".join(
            [f"pass {_share(row['pass_rate'])}, reward {_figure(row['mean_reward'])}"]
            + [f"{number['name']} {_figure(number['value'])}" for number in row.get("mean_numbers") or ()]
        ),
        f"groups {row['all_correct']} solved, {row['mixed']} mixed, {row['all_incorrect']} unsolved",
        f"entropy {_figure(row['mean_entropy'])} nats",
        f"tokens {row['sampled_tokens']:,}, {_figure(row['mean_length'])} per response, {row['truncated']} cut off",
        f"continued {row['regenerated_groups']} groups, rescued {row['rescued_groups']}{_replays(row)}",
        f"bonus {row['bonus_share']:.1%} of advantage",
        " ".join(f"{stage} {value:.1f}s" for stage, value in slowest),
    ]
    found = warnings(row, TOLERANCE["float32"] if tolerance is None else tolerance)
    return "\n".join([" | ".join(parts), *(f"  WARNING: {warning}" for warning in found)])


def warnings(row: Mapping[str, Any], tolerance: float) -> list[str]:
    """Return what is wrong in an iteration, what it means and what to do; [] where nothing is wrong.

    row and tolerance: as in `summary_line`.
    """
    counts = {
        "verdict_gold_unparseable": "rollouts belong to problems whose reference answer cannot be parsed, so they are "
        "left out of training. List these problems with `extra check-answers` and correct or remove them",
        "verdict_error": "responses made the judge fail, so they are left out of training. Find them by verdict "
        "`error` in verify_*.parquet, with the reason in `rule`; correct your judge, or report a bug of ours",
        "verdict_timeout": "responses could not be judged within verifier.timeout_s and count as unsolved. Raise the "
        "limit if correct responses are among them",
    }
    found = [f"{row[name]} {text}." for name, text in counts.items() if row[name]]
    mean, ratio = row["mismatch_mean"], row["mismatch_max_ratio"]
    if mean is not None and (mean > tolerance or ratio > MISMATCH_RATIO):
        found.append(
            f"sampler and policy differ by {mean:.2g} nats per token on average (tolerance {tolerance:g}), their "
            f"probabilities by a factor of up to {ratio:.3g}, KL {_figure(row['mismatch_kl'])} nats. The rollouts do "
            "not come from the policy that is trained. Check the model with `extra doctor MODEL`, or use "
            "sampling.backend: transformers."
        )
    return found


def _replays(row: Mapping[str, Any]) -> str:
    """Replayed groups, their pass rate, and how many trajectories are stored; empty for a run that stores none."""
    groups, stored = row.get("replayed_groups", 0), row.get("stored_trajectories", 0)
    if not groups and not stored:
        return ""
    return f", replayed {groups} at {_share(row['replayed_pass_rate'])} of {stored} stored"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
