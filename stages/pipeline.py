"""Which file feeds which stage within an iteration, derived from the declarations of the stages.

A role in `Stage.reads` and `Stage.writes` names its file: `verify_generate` is that table of the same iteration,
`previous_generate` the table of the previous iteration. The exceptions are below: files from outside the iteration, and
the two stages that run twice. The rules of `workflow/rules/iteration.smk` contain the same paths; a test checks this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from extra_rl.algorithms.prefixes import BY_FIT
from extra_rl.run.stage import Stage
from stages.load import load

GIVEN = ("train", "policy", "initial")
"""Roles of files that no stage of an iteration writes."""
PREVIOUS = "previous_"
"""Prefix of the roles of tables of the previous iteration."""
PARENTS = {"parents": "generate", "parents_verify": "verify_generate", "parents_scores": "score_entropy_generate"}
"""Role -> table of the rollouts that contain the parents of continuations, with their verdicts and scores. The parents
of continuations in `generate` are in the previous iteration, those of continuations in `regenerate` in the same one."""
NEXT_POLICY = "policy/manifest.json"


@dataclass(frozen=True)
class Step:
    """One run of a stage in an iteration. of: the table of rollouts that it runs for, where it runs twice."""

    stage: str
    of: str = ""

    @property
    def name(self) -> str:
        """Name of its table and its log: `verify_generate`."""
        return f"{self.stage}_{self.of}" if self.of else self.stage


STEPS = (
    Step("select"),
    Step("generate"),
    Step("verify", "generate"),
    Step("score_entropy", "generate"),
    Step("choose_prefixes"),
    Step("regenerate"),
    Step("verify", "regenerate"),
    Step("score_entropy", "regenerate"),
    Step("novelty"),
    Step("advantage"),
    Step("update"),
    Step("summarize"),
)


def stage_of(name: str) -> Stage:
    """The declaration of a stage."""
    stage: Stage = load(name).STAGE
    return stage


def unread(stage: str, section: Mapping[str, Any], derived: Mapping[str, Any]) -> frozenset[str]:
    """Roles that a stage does not read under its section and derived values: its job then does not wait for them."""
    if stage == "choose_prefixes":
        return _unread_by_choose_prefixes(section)
    if stage == "score_entropy":
        parents = frozenset({*PARENTS, "parents_policy"})
        if section["rows"] == "all":
            return parents | {"verify"}
        return frozenset() if derived["joined"] or derived.get("segments") else parents
    if stage == "advantage" and not section["zero_variance_weight"]:
        return frozenset({"score_entropy_generate", "score_entropy_regenerate"})
    return frozenset()


def _unread_by_choose_prefixes(section: Mapping[str, Any]) -> frozenset[str]:
    """Scores are not read where the sampler's are; the rest serves only replays and the fit of past branches."""
    unused = {"score_entropy_generate"} if section["scores_from"] == "sampler" else set()
    replay = section["replay"]
    fitted = section["groups"] != 0 and section["rank"] in BY_FIT
    if not replay["rows"]:
        unused.add("previous_choose_prefixes_bank")
    if not fitted:
        unused.add("previous_choose_prefixes_branches")
    if section["groups"] == 0 or section.get("action") != "cheapest":
        unused.add("previous_choose_prefixes_groups")
    if not replay["rows"] and not fitted:
        unused |= {"previous_regenerate", "previous_verify_regenerate"}
    if not replay["rows"] or replay["source"] != "demonstrations":
        unused.add("train")
    return frozenset(unused)


def inputs_of(
    step: Step, given: Mapping[str, str], here: str, previous: str, leave_out: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Role -> path of a step's inputs; empty for a file that is not read or does not exist before iteration 0.

    Args:
        given: paths of the roles in GIVEN, and `previous_policy`, from which the previous iteration sampled.
        here: folder of the iteration.
        previous: folder of the previous iteration, or empty.
        leave_out: roles that the stage does not read (`unread`).
    """
    paths = {}
    for declared in stage_of(step.stage).reads:
        role = declared.rstrip("?")
        paths[role] = _path(role, step.of, given, here, previous)
    return paths | dict.fromkeys(leave_out & paths.keys(), "")


def _path(role: str, of: str, given: Mapping[str, str], here: str, previous: str) -> str:
    if role in GIVEN:
        return given[role]
    if role.startswith(PREVIOUS):
        return table(previous, role.removeprefix(PREVIOUS))
    if role == "parents_policy":
        return given["policy"] if of == "regenerate" else given.get("previous_policy", "")
    if role in PARENTS:
        return table(here if of == "regenerate" else previous, PARENTS[role])
    if of:
        return table(here, of if role == "rollouts" else f"{role}_{of}")
    return table(here, role)


def outputs_of(step: Step, here: str) -> dict[str, str]:
    """Role -> path of a step's outputs."""
    paths = {role: table(here, role) for role in stage_of(step.stage).writes}
    if step.of:
        paths = {role: table(here, f"{role}_{step.of}") for role in paths}
    return paths | ({"next_policy": f"{here}/{NEXT_POLICY}"} if "next_policy" in paths else {})


def table(folder: str, name: str) -> str:
    """Path of a table; empty where there is no folder."""
    return f"{folder}/{name}.parquet" if folder else ""


def previous_tables() -> list[str]:
    """Names of the tables of the previous iteration that an iteration reads."""
    roles = {role.rstrip("?") for step in STEPS for role in stage_of(step.stage).reads}
    return sorted({role.removeprefix(PREVIOUS) for role in roles if role.startswith(PREVIOUS)} | {*PARENTS.values()})
