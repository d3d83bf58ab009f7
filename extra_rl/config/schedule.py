"""The key `schedule`: other values of some keys from an iteration on. Each entry is a diff, as that of an arm is.

    schedule:
      - {from: 10, update: {learning_rate: 1.0e-4}}
      - {from: 20, arms: [extra], generate.group_size: 16}

An entry holds until a later one sets the same key. A dotted key is a short form of nested keys. What is made once for
the whole run, or carried from one iteration to the next, cannot change in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from extra_rl.config.arms import Cell, contains, merge
from extra_rl.config.mistakes import Mistakes, nearest, unknown_key
from extra_rl.config.run import RunConfig

KEY = "schedule"
CHANGEABLE = (
    *("sampling", "select", "generate", "verify", "score_entropy", "choose_prefixes", "regenerate", "novelty"),
    *("advantage", "update"),
)
"""Sections that an entry may change."""

_ONCE = "it is made once, before the first iteration"
_STATE = "the optimizer's state is carried from one iteration to the next"
_RESERVED = "the workflow reserves cores and devices for the whole run"
_BUDGET = "a budget is that of the whole run"
FIXED = {
    "model": _ONCE,
    "task": "prompts and answers of all iterations must be of one kind",
    "prepare": _ONCE,
    "warm_start": _ONCE,
    "evaluate": "the evaluations of a run must be comparable",
    "compare": "it compares whole runs",
    "audit": "one second judge audits the whole run",
    "verifier": "all iterations and evaluations are judged alike",
    "compute": _RESERVED,
    "regimes": "an entry is for all regimes of its arms",
    "select.token_budget": _BUDGET,
    "select.compute_budget": _BUDGET,
    "sampling.backend": _RESERVED,
    "sampling.engine": _RESERVED,
    "update.optimizer": _STATE,
    "update.lora": _STATE,
    "update.processes": _RESERVED,
    "update.nodes": _RESERVED,
}
"""Sections and keys that are the same in all iterations, with the reason."""


class Entry(BaseModel):
    """One entry. start: its first iteration. arms: those that it changes; None: all. diff: over the sections."""

    start: int
    arms: list[str] | None
    diff: dict[str, Any]

    @property
    def place(self) -> str:
        """How messages call the entry."""
        return f"{KEY}, from {self.start}"

    def is_for(self, cell: Cell) -> bool:
        return self.arms is None or cell.arm in self.arms


class Phase(BaseModel):
    """The sections of an arm from iteration `start` on, until its next phase."""

    start: int
    sections: dict[str, dict[str, Any]]


def entries_of(raw: Any, arms: Iterable[str], run: RunConfig | None, mistakes: Mistakes) -> list[Entry]:
    """Return the entries; notes every one that is malformed, out of order, or changes a fixed key.

    Args:
        raw: the value of `schedule`.
        arms: names that an entry may list.
        run: the keys of the run; None where they are invalid.
        mistakes: receives the mistakes.
    """
    if raw is None:
        return []
    if not isinstance(raw, list):
        mistakes.add(KEY, f"list entries such as {{from: 10, update: {{learning_rate: 1.0e-4}}}}, not {raw!r}")
        return []
    found: list[Entry] = []
    for number, given in enumerate(raw, start=1):
        where = f"{KEY}, entry {number}"
        keys = mistakes.mapping(given, where)
        start = _start(keys.pop("from", None), where, found, run, mistakes)
        named = _arms(keys.pop("arms", None), list(arms), where, mistakes)
        if start is None:
            continue
        entry = Entry(start=start, arms=named, diff={})
        entry.diff = _diff(keys, entry.place, mistakes)
        found.append(entry)
    return found


def _start(given: Any, where: str, before: Sequence[Entry], run: RunConfig | None, mistakes: Mistakes) -> int | None:
    if given is None:
        mistakes.add(where, "give the first iteration as `from`, for example {from: 10, ...}")
    elif isinstance(given, bool) or not isinstance(given, int) or given < 1:
        mistakes.add(
            f"{where}.from", f"expected an iteration from 1 on, not {given!r}; for the whole run, set the key itself"
        )
    elif run is not None and given >= run.iterations:
        mistakes.add(f"{where}.from", f"{given} is beyond the run: its last iteration is {run.iterations - 1}")
    elif before and given < before[-1].start:
        mistakes.add(f"{where}.from", f"{given} comes after {before[-1].start}; order the entries by `from`")
    else:
        return given
    return None


def _arms(given: Any, known: list[str], where: str, mistakes: Mistakes) -> list[str] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not given:
        mistakes.add(f"{where}.arms", f"list at least one arm, for example [extra], not {given!r}")
        return None
    for unknown in sorted(set(map(str, given)) - set(known)):
        reason = f"there is no arm {unknown!r}; there are {', '.join(known)}{nearest(unknown, known)}"
        mistakes.add(f"{where}.arms", reason)
    return [str(name) for name in given if str(name) in known] or None


def _diff(keys: Mapping[Any, Any], place: str, mistakes: Mistakes) -> dict[str, Any]:
    """The changes of an entry, dotted keys expanded, without those that are refused."""
    diff: dict[str, Any] = {}
    for key, value in keys.items():
        section, *inner = str(key).split(".")
        for part in reversed(inner):
            value = {part: value}
        if inner and contains(diff, tuple(str(key).split("."))):
            mistakes.add(f"{place}: {key}", "is given twice, as a section and as a dotted key; keep one")
        refused = fixed_reason(section)
        if refused:
            mistakes.add(f"{place}: {section}", refused)
            continue
        if not isinstance(value, Mapping):
            mistakes.add(f"{place}: {section}", f"expected keys and values, not {value!r}")
            continue
        for name in value:
            if f"{section}.{name}" in FIXED:
                mistakes.add(f"{place}: {section}.{name}", f"cannot change within a run: {FIXED[f'{section}.{name}']}")
        diff = merge(diff, {section: {k: v for k, v in value.items() if f"{section}.{k}" not in FIXED}})
    if not keys:
        mistakes.add(place, "changes nothing; name a section, for example `update: {learning_rate: 1.0e-4}`")
    return diff


def fixed_reason(section: str) -> str:
    """Say why an entry cannot have this section; empty for one that it may change."""
    if section in CHANGEABLE:
        return ""
    if section in FIXED:
        return f"cannot change within a run: {FIXED[section]}"
    if section in RunConfig.model_fields:
        return f"cannot change within a run: `{section}` belongs to the whole run; set it at the top"
    return unknown_key(section, CHANGEABLE).replace("unknown key", "unknown section", 1)


def place_of(entries: Sequence[Entry], path: tuple[str, ...]) -> str:
    """Where a key is set, as messages write it: in the last entry that sets it, or sets something in its section."""
    for length in range(len(path), 0, -1):
        for entry in reversed(entries):
            if contains(entry.diff, path[:length]):
                return f"{entry.place}: {'.'.join(path)}"
    return ".".join(path)


def remembered_otherwise(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say why a phase cannot follow another one: novelty that remembers rollouts compares them with one measure."""
    old, new = before["novelty"], now["novelty"]
    changed = [key for key in old if key not in ("remember", "compute") and old[key] != new[key]]
    if not changed or not (old["remember"] or new["remember"]):
        return ""
    return (
        f"novelty.{changed[0]} cannot change while novelty.remember is {old['remember']}: rollouts of earlier "
        "iterations would be compared by another measure than they were remembered for"
    )


def longer_responses(common: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say that responses become longer than `prepare` has left tokens for next to the prompts; none where they do not.

    Args:
        common: the sections that all arms share.
        now: those of a phase.
    """
    if "prepare" not in common or "generate" not in now:
        return []
    most, wanted = (of["sampling"]["max_response_tokens"] for of in (common["prepare"], now["generate"]))
    if wanted <= most:
        return []
    return [
        f"sampling.max_response_tokens: {wanted:,} is more than the run's {most:,}, next to which `prepare` keeps only "
        "prompts that fit. Set the largest value at the top, and a lower one in `arms` for the beginning"
    ]
