"""A plan as lines for a terminal: aligned tables with units, and notes below them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from extra_rl.planning.makespan_report import assumptions_of, lines_of_makespan
from extra_rl.planning.plan import Figures
from extra_rl.planning.tables import number, table

NO_TIME = "Time: unknown, because no device is assumed. Run one iteration and pass `--from results/NAME`."
EXPLAINED = [
    "At most: every response at the limit, every group continued that can be, every row scored and trained on.",
    "FLOP: 2 per weight for every token sampled, read or scored, 6 for every token trained on (docs/method.md).",
    "Memory: only the parts that are known exactly; activations, logits, kernels and the device's context are extra.",
    "Disk: weights and optimizer states are exact, with retention; tables by measured bytes per token (zstd Parquet).",
]


def lines_of(plan: Figures) -> list[str]:
    """Return all lines of a plan."""
    run, model = plan["run"], plan["model"]
    makespan = plan["makespan"]
    notes = [*EXPLAINED, *plan["notes"], *([] if plan["time"] else [NO_TIME])]
    notes += assumptions_of(makespan) if makespan else []
    return [
        f"{plan['name']}: {len(plan['arms'])} arm(s) x {run['seeds']} seed(s) x {run['iterations']:,} iterations, "
        f"{run['evaluations']} evaluation(s), {run['jobs']:,} jobs",
        f"model: {model['source']}, {_short(model['parameters'])} parameters; prompts of at most "
        f"{plan['longest']['prompt']:,} tokens, responses of at most {plan['longest']['response']:,}",
        *_counts(plan),
        *_totals(plan),
        *_time(plan),
        *_memory(plan),
        *_disk(plan),
        *(lines_of_makespan(makespan) if makespan else []),
        "",
        *(line for note in notes for line in textwrap.wrap(note, 118, subsequent_indent="  ")),
    ]


def _counts(plan: Figures) -> list[str]:
    header = ["an iteration, at most", "fresh", "continued", "tokens", "FLOP"]
    rows = [
        [
            name,
            *(f"{found[kind]:,}" for kind in ("fresh", "regenerated")),
            *(_short(found[kind]) for kind in ("sampled_tokens", "flop")),
            *(f"{arm[kind]:,}" for kind in ("fresh", "regenerated")),
            *(_short(arm[kind]) for kind in ("sampled_tokens", "flop")),
        ]
        for name, arm in plan["arms"].items()
        for found in [arm["iteration"]]
    ]
    return table([*header, "a seed: fresh", "continued", "tokens", "FLOP"], rows)


def _totals(plan: Figures) -> list[str]:
    evaluation, total, problems = plan["evaluation"], plan["total"], plan["problems"]["held_out"]
    known = ", ".join(f"{name} {'?' if count is None else count}" for name, count in problems.items())
    samples, tokens = f"{evaluation['samples']:,}", _short(evaluation["sampled_tokens"])
    rows = [
        ["held-out problems", known],
        ["one evaluation", f"{samples} samples, {tokens} tokens"],
        ["sampled tokens", _short(total["sampled_tokens"])],
        ["FLOP of all iterations", _short(total["flop"])],
        ["disk", _bytes(total["bytes"])],
    ]
    return table(["the whole experiment, at most", ""], rows)


def _time(plan: Figures) -> list[str]:
    time = plan["time"]
    if not time:
        return []
    hours = time["hours"]
    measured = (
        f"{time['iterations']:,} iteration(s), {number(1 / time['seconds_per_token'])} response tokens per second, "
        f"{number(time['mean_response'])} tokens per response"
    )
    return [
        "",
        f"time: {number(hours['expected'])} hours expected, {number(hours['at_most'])} at most, one job at a time",
        f"  measured in {time['source']}: {measured}",
    ]


def _memory(plan: Figures) -> list[str]:
    """Return the memory floors of the stages that load a model, by part."""
    rows = []
    for stage, parts in plan["memory"].items():
        total, available = sum(parts.values()), plan["too_much"].get(stage)
        shown = ", ".join(f"{n} {_bytes(parts[n])}" for n in sorted(parts, key=lambda n: -parts[n]) if parts[n])
        rows.append([stage, _bytes(total), f"EXCEEDS {_bytes(available)}" if available else "", shown])
    return table(["device memory, at least", "", "", "at the longest lengths"], rows)


def _disk(plan: Figures) -> list[str]:
    """Return the bytes by kind that remain of all iterations."""
    arms = plan["arms"]
    kinds = list(next(iter(arms.values()))["bytes"])
    rows = [
        [name, *(_bytes(arm["bytes"][kind]) for kind in kinds), _bytes(sum(arm["bytes"].values()))]
        for name, arm in arms.items()
    ]
    return table(["disk of an arm and seed, at most", *kinds, "sum"], rows)


def _short(value: float) -> str:
    return _scaled(value, [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")])


def _bytes(value: float) -> str:
    return _scaled(value, [(1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB")], " B")


def _scaled(value: float, units: Sequence[tuple[float, str]], unit: str = "") -> str:
    for size, name in units:
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}{unit}"
