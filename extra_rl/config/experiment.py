"""Resolution of a configuration: from YAML and the diffs of an arm to the validated section of every stage.

A configuration is one file: shared sections, one section per stage, and `arms`, each a diff over the rest that may
start from a preset. Unknown keys are refused at every level. One message lists all mistakes with their places.
`extra_rl.config.arms` reads the arms, and the regimes in which they may be repeated; `extra_rl.config.schedule` reads
the changes from an iteration on; `extra_rl.config.check` holds the rules between sections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from extra_rl.config.arms import Cell, cells_of, merge, regimes_of
from extra_rl.config.check import contradictions
from extra_rl.config.comparisons import unknown_arms
from extra_rl.config.mistakes import Mistake, Mistakes, unknown_key, validated
from extra_rl.config.run import RunConfig
from extra_rl.config.schedule import (
    CHANGEABLE,
    KEY,
    Entry,
    Phase,
    entries_of,
    longer_responses,
    place_of,
    remembered_otherwise,
)
from extra_rl.config.section import StageConfig
from extra_rl.config.sections import SHARED


class Experiment(BaseModel):
    """A whole configuration, validated: the keys of the run, and the section of every stage for every arm.

    Args:
        run: the top-level keys.
        arms: folder of an arm -> stage -> section; with regimes an arm has one folder for each.
        common: stage -> section, for what all arms share.
        cells: folder of an arm -> its arm, regime and diff.
        regimes: name -> value; empty: none.
        phases: folder of an arm -> its sections from an iteration on (`schedule`), in ascending order; empty: none.
        cell: `<arm>/s<seed>` where only this arm and seed runs, as a part of a run that another Snakemake conducts.
    """

    run: RunConfig
    arms: dict[str, dict[str, dict[str, Any]]]
    common: dict[str, dict[str, Any]]
    cells: dict[str, Cell]
    regimes: dict[str, float]
    phases: dict[str, list[Phase]] = {}
    cell: str = ""

    def at(self, arm: str, iteration: int) -> dict[str, dict[str, Any]]:
        """Return the sections of an arm in an iteration: those of the last phase that has begun."""
        begun = [phase.sections for phase in self.phases.get(arm, []) if phase.start <= iteration]
        return begun[-1] if begun else self.arms[arm]

    def with_phases_as_arms(self) -> Experiment:
        """Return the experiment with every phase as a separate arm, for checks that all sections have to pass."""
        phases = {f"{arm} from {phase.start}": phase.sections for arm, found in self.phases.items() for phase in found}
        return self.model_copy(update={"arms": self.arms | phases, "phases": {}})


def resolve(raw: Mapping[str, Any], stages: Mapping[str, type[StageConfig]]) -> Experiment:
    """Validate a raw configuration for the given stages (name -> Config class).

    Raises ConfigError, which lists all mistakes: unknown keys, invalid values, and keys that exclude each other.
    """
    mistakes = Mistakes()
    known = {*RunConfig.model_fields, *SHARED, *stages, "arms", "regimes", KEY}
    for key in raw:
        if key not in known:
            mistakes.add(str(key), unknown_key(str(key), known, keys_of(stages)))
    run, found = validated(RunConfig, {key: raw[key] for key in RunConfig.model_fields if key in raw})
    for mistake in found:
        mistakes.add(".".join(mistake.path), mistake.reason)
    base = {key: value for key, value in raw.items() if key in SHARED or key in stages}
    regimes = regimes_of(mistakes.mapping(raw.get("regimes"), "regimes"), mistakes)
    cells = cells_of(mistakes.mapping(raw.get("arms"), "arms"), regimes, mistakes)
    common = resolved(base, stages)
    arms = {name: resolved(merge(base, cell.diff), stages) for name, cell in cells.items()}
    for mistake in common.mistakes:
        mistakes.add(".".join(mistake.path), mistake.reason)
    for name, cell in cells.items():
        for mistake in arms[name].mistakes:
            if mistake not in common.mistakes:
                mistakes.add(cell.place_of(mistake.path), mistake.reason)
    named = list(dict.fromkeys(cell.arm for cell in cells.values()))
    entries = entries_of(raw.get(KEY), named, run, mistakes)
    checked = {name: (found.sections, found.wrong) for name, found in arms.items()}
    firsts = {name: [entry.start for entry in entries if entry.is_for(cell)][:1] for name, cell in cells.items()}
    ends = {name: first[0] for name, first in firsts.items() if first}
    for line in contradictions((common.sections, common.wrong), checked, run, ends):
        mistakes.add("", line)
    if "compare.comparisons" not in common.wrong and "compare" in common.sections:
        named = common.sections["compare"]["comparisons"]
        for reason in unknown_arms(named, [cell.arm for cell in cells.values()]):
            mistakes.add("compare.comparisons", reason)
    phases = {}
    if run is not None:
        for name, cell in cells.items():
            mine = [entry for entry in entries if entry.is_for(cell)]
            phases[name] = phases_of(merge(base, cell.diff), mine, arms[name], stages, mistakes)
            broken_in_phases(arms[name], phases[name], common, run, mistakes)
    mistakes.refuse()
    assert run is not None  # a mistake otherwise
    return Experiment(
        run=run,
        common=common.sections,
        arms={name: found.sections for name, found in arms.items()},
        cells=cells,
        regimes={name: regime.value for name, regime in regimes.items()},
        phases={name: found for name, found in phases.items() if found},
    )


def phases_of(
    raw: Mapping[str, Any],
    entries: Sequence[Entry],
    first: Resolved,
    stages: Mapping[str, type[StageConfig]],
    mistakes: Mistakes,
) -> list[Phase]:
    """Return the phases of an arm after its first one; notes the mistakes that the entries add.

    Args:
        raw: the sections of the arm, not yet validated.
        entries: those for this arm, in ascending order.
        first: the arm without a schedule.
        stages: name -> Config class.
        mistakes: receives the mistakes.
    """
    phases: dict[int, Phase] = {}
    before = first.sections
    for number, entry in enumerate(entries):
        raw = merge(raw, entry.diff)
        found = resolved(raw, stages)
        for mistake in found.mistakes:
            if mistake not in first.mistakes:
                mistakes.add(place_of(entries[: number + 1], mistake.path), mistake.reason)
        # What cannot change stays as it is, although it has a copy of a shared section that does.
        sections = {name: found.sections.get(name, old) for name, old in first.sections.items() if name in CHANGEABLE}
        sections = first.sections | sections
        if reason := remembered_otherwise(before, sections) if "novelty" in before else "":
            mistakes.add(entry.place, reason)
        before = sections
        phases[entry.start] = Phase(start=entry.start, sections=sections)
    return list(phases.values())


def broken_in_phases(
    first: Resolved, phases: Sequence[Phase], common: Resolved, run: RunConfig, mistakes: Mistakes
) -> None:
    """Note every rule between sections that a phase breaks, and the arm without a schedule does not.

    The run of a phase ends where the next one begins.

    Args:
        first: the arm without a schedule.
        phases: of the arm, in ascending order.
        common: the sections that all arms share.
        run: the keys of the run.
        mistakes: receives the mistakes.
    """
    ends = [phase.start for phase in phases] + [run.iterations]
    known = set(contradictions((first.sections, first.wrong), {}, run.model_copy(update={"iterations": ends[0]})))
    for phase, end in zip(phases, ends[1:], strict=True):
        until = run.model_copy(update={"iterations": end})
        lines = contradictions((phase.sections, set()), {}, until)
        for line in [*lines, *longer_responses(common.sections, phase.sections)]:
            if line not in known:
                mistakes.add(f"{KEY}, from {phase.start}", line)


class Resolved(NamedTuple):
    """The sections of one arm, or of what all arms share.

    Args:
        sections: stage -> its section as plain JSON values, with defaults and shared sections; a stage whose section
            cannot be completed is missing.
        mistakes: unknown keys and invalid values, by their path in the sections.
        wrong: paths of the keys whose value is not the given one, because that is invalid.
    """

    sections: dict[str, dict[str, Any]]
    mistakes: list[Mistake]
    wrong: set[str]


def resolved(raw: Mapping[str, Any], stages: Mapping[str, type[StageConfig]]) -> Resolved:
    """Complete the section of every stage. A mistake in a shared section is noted once, at the shared section."""
    mistakes = [
        Mistake((str(name),), unknown_section(str(name), stages))
        for name in raw
        if name not in SHARED and name not in stages
    ]
    wrong: set[str] = set()
    elsewhere = keys_of(stages)
    shared: dict[str, BaseModel | None] = {}
    for name, model in SHARED.items():
        shared[name] = _complete(name, model, _given(raw.get(name), name, mistakes), elsewhere, mistakes, wrong)
    sections = {}
    for name, config_class in stages.items():
        given = raw.get(name)
        if isinstance(given, str) and config_class.SHORTHAND:
            given = {config_class.SHORTHAND: given}
        section = _given(given, name, mistakes)
        for key in set(section) & set(SHARED):
            mistakes.append(Mistake((name, key), f"`{key}` is a shared section; set it at the top"))
            del section[key]
        used = {key: shared[key] or model() for key, model in SHARED.items() if key in config_class.model_fields}
        found = _complete(name, config_class, section | used, elsewhere, mistakes, wrong)
        if found is not None:
            sections[name] = found.model_dump(mode="json")
    return Resolved(sections, mistakes, wrong)


def _complete(
    name: str,
    model: type[BaseModel],
    given: Mapping[str, Any],
    elsewhere: Mapping[str, Iterable[str]],
    mistakes: list[Mistake],
    wrong: set[str],
) -> BaseModel | None:
    """A section with its defaults; its mistakes are added to `mistakes`, and its invalid keys to `wrong`.

    elsewhere: other section -> its keys, for a key that is in the wrong one.
    """
    section, found = validated(model, given, hidden=SHARED)
    own = set(model.model_fields) - set(SHARED)
    for mistake in found:
        if mistake.unknown and len(mistake.path) == 1:
            mistake = mistake._replace(reason=unknown_key(mistake.path[0], own, elsewhere))
        mistakes.append(mistake._replace(path=(name, *mistake.path)))
        if not mistake.unknown:
            wrong.add(".".join((name, *mistake.path[:1])))
    return section


def _given(value: Any, name: str, mistakes: list[Mistake]) -> dict[str, Any]:
    """The keys of a section; a list or scalar in its place is a mistake."""
    if not isinstance(value, Mapping | None):
        mistakes.append(Mistake((name,), f"expected keys and values, not {value!r}"))
        return {}
    return dict(value or {})


def unknown_section(name: str, stages: Mapping[str, type[StageConfig]]) -> str:
    """The reason why an arm or regime cannot have this section."""
    if name in RunConfig.model_fields or name in ("arms", "regimes", KEY):
        return f"`{name}` belongs to the whole run; set it at the top"
    return unknown_key(name, [*SHARED, *stages], keys_of(stages)).replace("unknown key", "unknown section", 1)


def keys_of(stages: Mapping[str, type[StageConfig]]) -> dict[str, Iterable[str]]:
    """Section -> its keys; those of the run under ""."""
    models: dict[str, type[BaseModel]] = {"": RunConfig, **SHARED, **stages}
    return {name: set(model.model_fields) - set(SHARED) for name, model in models.items()}
