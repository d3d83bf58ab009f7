"""The configuration of a fork: that of the run it is made from, with changes from an iteration on."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from extra_rl.config.arms import contains, merge
from extra_rl.config.comparisons import WARM_START
from extra_rl.config.mistakes import nearest
from extra_rl.config.schedule import KEY
from extra_rl.config.selection import Selection
from extra_rl.errors import ConfigError

FREE = ("iterations", "evaluate_every", "retention", "on_mismatch", "mismatch_tolerance", "stop_without_signal")
"""Keys of the run that change no byte of finished iterations, so that a fork may set them for the whole run."""


def changes_of(words: Iterable[str]) -> dict[str, Any]:
    """Return key -> value of words KEY=VALUE, the values read as YAML. ConfigError for another form, or a key twice."""
    changes: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {word}: expected KEY=VALUE, for example update.learning_rate=1e-4.")
        if key in changes:
            raise ConfigError(f"--set {word}: {key} is given twice.")
        try:
            # YAML 1.1 reads 1e-4 as text
            changes[key] = float(text) if re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", text) else yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {word}: not a YAML value; quote it if it is text.") from None
    return changes


def changed(
    raw: Mapping[str, Any], name: str, at: int, changes: Mapping[str, Any], chosen: Selection
) -> tuple[dict[str, Any], list[str]]:
    """Return the configuration of a fork, and notes for the user.

    Args:
        raw: the configuration of the run that is forked, a valid one.
        name: of the fork.
        at: first iteration in which the changes hold; 0: they hold in the whole run.
        changes: dotted key -> value.
        chosen: arms and seeds of the fork.
    Raises ConfigError for an unknown arm or seed, and where the seeds would get other initial policies.
    """
    new = copy.deepcopy(dict(raw)) | {"name": name}
    of_run = {key: value for key, value in changes.items() if key.partition(".")[0] in FREE}
    of_sections = {key: value for key, value in changes.items() if key not in of_run}
    for key, value in of_run.items():
        new = merge(new, nested(key, value))
    if (new.get("first_iteration") or 0) > at:  # the window of a run does not reach back before it
        new["first_iteration"] = at
    _choose_arms(new, chosen.arms)
    _choose_seeds(new, chosen.seeds)
    notes: list[str] = []
    if of_sections and at:
        entries = list(new.get(KEY) or [])
        place = sum(int(entry["from"]) <= at for entry in entries)
        notes = [
            f"the schedule sets {key} again from iteration {entry['from']} on."
            for entry in entries[place:]
            for key in of_sections
            if key in entry or contains(entry, tuple(key.split(".")))
        ]
        new[KEY] = [*entries[:place], {"from": at, **of_sections}, *entries[place:]]
    elif of_sections:
        for key, value in of_sections.items():
            new["arms"] = {arm: merge(diff or {}, nested(key, value)) for arm, diff in new["arms"].items()}
    return new, notes


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return the mapping that a dotted key stands for."""
    for part in reversed(key.split(".")):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def _choose_arms(new: dict[str, Any], names: Sequence[str] | None) -> None:
    if names is None:
        return
    known = dict(new["arms"])
    for name in names:
        if name not in known:
            there = f"the run has {', '.join(known)}{nearest(name, known)}"
            raise ConfigError(f"--arms {','.join(names)}: there is no arm {name!r}; {there}")
    new["arms"] = {name: diff for name, diff in known.items() if name in names}
    compare = new.get("compare") or {}
    if compare.get("comparisons"):
        kept = [text for text in compare["comparisons"] if {*text.split(" - ")} <= {*names, WARM_START}]
        new["compare"] = compare | {"comparisons": kept}
    entries = []
    for entry in new.get(KEY) or []:
        mine = [arm for arm in entry.get("arms") or names if arm in names]
        if mine:
            entries.append(entry | ({"arms": mine} if entry.get("arms") else {}))
    if new.get(KEY):
        new[KEY] = entries


def _choose_seeds(new: dict[str, Any], seeds: Sequence[int] | None) -> None:
    if seeds is None:
        return
    every, starts = list(new.get("seeds") or [0]), list(new.get("warm_starts") or [0])
    for seed in seeds:
        if seed not in every:
            raise ConfigError(f"--seeds {seed}: the run has the seeds {', '.join(map(str, every))}.")
    needed = [starts[every.index(seed) % len(starts)] for seed in seeds]
    for length in range(1, len(seeds) + 1):
        cycle = needed[:length]
        if len(set(cycle)) == length and all(start == cycle[i % length] for i, start in enumerate(needed)):
            new["seeds"] = list(seeds)
            if len(starts) > 1 or "warm_starts" in new:
                new["warm_starts"] = cycle
            return
    raise ConfigError(
        f"--seeds {','.join(map(str, seeds))}: their initial policies are {', '.join(map(str, needed))}, which "
        "`warm_starts` cannot assign in turn. Choose or order the seeds so that it can, or keep all."
    )
