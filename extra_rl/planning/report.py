"""A plan as lines for a terminal: aligned tables with units, and below them what was assumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from extra_rl.planning.assumed import assumptions
from extra_rl.planning.devices import ROOM
from extra_rl.planning.plan import Figures

Show = Callable[[float], str]


def lines_of(plan: Figures) -> list[str]:
    """The whole report."""
    run, model = plan["run"], plan["model"]
    return [
        f"{plan['name']}: {len(plan['expected']['arms'])} arm(s) x {run['seeds']} seed(s) x {run['iterations']:,} "
        f"iterations, {run['evaluations']:,} evaluation(s), {run['jobs']:,} jobs",
        f"model: {model['source']}, {_short(model['parameters'])} parameters",
        *_arms(plan),
        *_evaluation(plan),
        *_total(plan),
        *_memory(plan),
        *_disk(plan),
        *assumptions(plan),
    ]


def _arms(plan: Figures) -> list[str]:
    """What each arm and seed does: expected / at most."""
    arms = list(plan["expected"]["arms"])

    def row(label: str, pick: Callable[[Figures], float], show: Show) -> list[str]:
        return [
            label,
            *(_both(pick(plan["expected"]["arms"][a]), pick(plan["at_most"]["arms"][a]), show) for a in arms),
        ]

    kinds = plan["expected"]["arms"][arms[0]]["iteration"]["hours"]
    one_device = all(arm["hours"] == arm["clock_hours"] for arm in plan["expected"]["arms"].values())
    return _table(
        ["an arm and seed, expected / at most", *arms],
        [
            row("fresh rollouts an iteration", lambda a: a["iteration"]["fresh"], _count),
            row("regenerated rollouts an iteration", lambda a: a["iteration"]["regenerated"], _count),
            row("iterations that sample", lambda a: a["active_iterations"], _count),
            row("fresh rollouts in all", lambda a: a["fresh"], _count),
            row("regenerated rollouts in all", lambda a: a["regenerated"], _count),
            row("sequences decoded together", lambda a: a["iteration"]["rows"], _count),
            row("sampled tokens an iteration", lambda a: a["iteration"]["sampled_tokens"], _short),
            row("sampled tokens in all", lambda a: a["sampled_tokens"], _short),
            row("floating-point operations an iteration", lambda a: sum(a["iteration"]["operations"].values()), _short),
            *(row(f"device-minutes an iteration: {kind}", _minutes(kind), _number) for kind in kinds),
            row("device-hours in all", lambda a: a["hours"], _number),
            *([] if one_device else [row("hours by the clock in all", lambda a: a["clock_hours"], _number)]),
        ],
    )


def _minutes(kind: str) -> Callable[[Figures], float]:
    return lambda arm: 60.0 * float(arm["iteration"]["hours"][kind])


def _evaluation(plan: Figures) -> list[str]:
    expected, most = plan["expected"]["evaluation"], plan["at_most"]["evaluation"]
    problems = plan["problems"]["held_out"]
    return _table(
        ["one evaluation, expected / at most", ""],
        [
            ["problems", ", ".join(f"{name} {'?' if count is None else count}" for name, count in problems.items())],
            ["samples", _count(expected["samples"])],
            ["sampled tokens", _both(expected["sampled_tokens"], most["sampled_tokens"], _short)],
            ["device-hours", _both(expected["hours"], most["hours"], _number)],
        ],
    )


def _total(plan: Figures) -> list[str]:
    expected, most = plan["expected"]["total"], plan["at_most"]["total"]
    return _table(
        ["in all, expected / at most", ""],
        [
            ["sampled tokens", _both(expected["sampled_tokens"], most["sampled_tokens"], _short)],
            ["floating-point operations", _both(expected["operations"], most["operations"], _short)],
            ["device-hours", _both(expected["hours"], most["hours"], _number)],
            ["disk", _both(expected["bytes"], most["bytes"], _bytes)],
        ],
    )


def _memory(plan: Figures) -> list[str]:
    """Peaks of the stages that hold a model, part by part."""
    device = plan["assumptions"]["device"]
    rows = []
    for stage, parts in plan["memory"].items():
        total = sum(parts.values())
        large = sorted(parts, key=lambda name: -parts[name])[:LARGEST]
        shown = ", ".join(f"{name} {_bytes(parts[name])}" for name in large if parts[name] >= 0.01 * total)
        rows.append([stage, _bytes(total), "" if total <= ROOM * device["memory"] else "TOO MUCH", shown])
    return _table(
        [f"device memory, of {device['name']}", "peak", "", "longest rows, by part"],
        rows,
    )


LARGEST = 4
"""Parts of a peak that are named."""


def _disk(plan: Figures) -> list[str]:
    """Bytes by kind: the last iteration, and what stays of all."""
    arms = plan["expected"]["arms"]
    kinds = list(next(iter(arms.values()))["bytes"])
    header = ["disk of an arm and seed, expected"]
    header += [text for arm in arms for text in (f"{arm}: iteration", "in all")]
    rows = [
        [kind, *(_bytes(v) for a in arms.values() for v in (a["iteration"]["bytes"][kind], a["bytes"][kind]))]
        for kind in kinds
    ]
    sums = [sum(v.values()) for a in arms.values() for v in (a["iteration"]["bytes"], a["bytes"])]
    return _table(header, [*rows, ["sum", *map(_bytes, sums)]])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Left-aligned columns under a header, an empty line before."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(len(header))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)).rstrip() for row in cells]
    return ["", lines[0], "-" * min(120, max(map(len, lines))), *lines[1:]]


def _both(expected: float, at_most: float, show: Show) -> str:
    """`expected / at most`, once where they are the same."""
    first, second = show(expected), show(at_most)
    return first if first == second else f"{first} / {second}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _short(value: float) -> str:
    return _scaled(value, [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")])


def _bytes(value: float) -> str:
    return _scaled(value, [(1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB")], " B")


def _scaled(value: float, units: Sequence[tuple[float, str]], unit: str = "") -> str:
    for size, name in units:
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}{unit}"
