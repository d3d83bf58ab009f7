"""Which file feeds which stage within an iteration: for the job that runs all of them in one process.

The rules of `workflow/rules/iteration.smk` say the same, one by one, for jobs of one stage each; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    """One stage in an iteration.

    of: what it is run for where it runs twice. files: names of tables of this iteration that it reads, which are their
    roles too; renamed: those that it reads in another role. former: tables of the iteration before, in roles that begin
    with `previous_`; former_as: those that it reads in another role. given: inputs that come from outside of both;
    given_as: those in another role. adds: what it writes, by role.
    """

    stage: str
    of: str = ""
    files: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    former_as: Mapping[str, str] = field(default_factory=dict)
    given_as: Mapping[str, str] = field(default_factory=dict)
    adds: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its table and its log: `verify_generate`."""
        return f"{self.stage}_{self.of}" if self.of else self.stage


def of_both(stage: str, given: str) -> tuple[Step, Step]:
    """A stage that runs for the fresh rollouts and for the regenerated ones."""
    fresh, guided = (
        Step(stage, of, given=(given,), renamed={"rollouts": of}, adds={stage: f"{stage}_{of}"})
        for of in ("generate", "regenerate")
    )
    return fresh, guided


PARENTS = {"parents": "generate", "parents_verify": "verify_generate", "parents_scores": "score_entropy_generate"}
"""Rollouts among which the parents of continuations are, and what is known of them: role -> table, of the iteration
before for continuations in `generate`, of the same for those in `regenerate`."""

VERIFY, VERIFY_GUIDED = of_both("verify", "train")
SCORE = Step(
    "score_entropy",
    "generate",
    given=("policy",),
    renamed={"rollouts": "generate", "verify": "verify_generate"},
    former_as=PARENTS,
    given_as={"parents_policy": "former_policy"},
    adds={"score_entropy": "score_entropy_generate"},
)
SCORE_GUIDED = Step(
    "score_entropy",
    "regenerate",
    given=("policy",),
    renamed={"rollouts": "regenerate", "verify": "verify_regenerate", **PARENTS},
    given_as={"parents_policy": "policy"},
    adds={"score_entropy": "score_entropy_regenerate"},
)
BOTH = ("generate", "regenerate")
VERDICTS = ("verify_generate", "verify_regenerate")
SCORES = ("score_entropy_generate", "score_entropy_regenerate")

STEPS = (
    Step("select", given=("train",), former=("summarize", "summarize_state"), adds={"select": "select"}),
    Step(
        "generate",
        files=("select",),
        given=("train", "policy"),
        former=("choose_prefixes",),
        adds={"generate": "generate"},
    ),
    VERIFY,
    SCORE,
    Step(
        "choose_prefixes",
        files=("generate", "verify_generate", "score_entropy_generate"),
        given=("policy", "initial"),
        former=("choose_prefixes_pool",),
        adds={"choose_prefixes": "choose_prefixes", "choose_prefixes_pool": "choose_prefixes_pool"},
    ),
    Step("regenerate", files=("choose_prefixes",), given=("policy",), adds={"regenerate": "regenerate"}),
    VERIFY_GUIDED,
    SCORE_GUIDED,
    Step(
        "novelty",
        files=(*BOTH, *VERDICTS, *SCORES),
        given=("initial",),
        former=("novelty_memory",),
        adds={"novelty": "novelty", "novelty_memory": "novelty_memory"},
    ),
    Step(
        "advantage",
        files=(*BOTH, *VERDICTS, "novelty"),
        former=("generate", "verify_generate"),
        adds={"advantage": "advantage"},
    ),
    Step(
        "update",
        files=(*BOTH, *SCORES, "advantage"),
        given=("policy", "initial"),
        former=("generate", "score_entropy_generate"),
        adds={"update": "update", "next_policy": "policy/manifest.json"},
    ),
    Step(
        "summarize",
        files=("select", *BOTH, *VERDICTS, *SCORES, "choose_prefixes", "advantage", "update"),
        given=("policy",),
        former=("summarize", "summarize_state"),
        adds={"summarize": "summarize", "summarize_state": "summarize_state"},
    ),
)


def unread(stage: str, section: Mapping[str, Any]) -> frozenset[str]:
    """Roles of a stage that it does not read under its section: its job then does not wait for them."""
    if stage == "choose_prefixes" and section["scores_from"] == "sampler":
        return frozenset({"score_entropy_generate"})
    if stage == "score_entropy":
        parents = frozenset({*PARENTS, "parents_policy"})
        if section["rows"] == "all":
            return parents | {"verify"}
        return frozenset() if section["joined"] else parents
    return frozenset()


def inputs_of(
    step: Step, given: Mapping[str, str], here: str, previous: str, section: Mapping[str, Any]
) -> dict[str, str]:
    """Role -> path. previous: folder of the iteration before; empty: there is none, and its roles have empty paths.
    section: of the stage; roles that are unread under it have empty paths too."""
    paths = {
        **{name: table(here, name) for name in step.files},
        **{role: table(here, name) for role, name in step.renamed.items()},
        **{name: given[name] for name in step.given},
        **{role: given.get(name, "") for role, name in step.given_as.items()},
        **{role: table(previous, name) if previous else "" for role, name in step.former_as.items()},
        **{f"previous_{name}": table(previous, name) if previous else "" for name in step.former},
    }
    return paths | dict.fromkeys(unread(step.stage, section) & set(paths), "")


def outputs_of(step: Step, here: str) -> dict[str, str]:
    """Role -> path."""
    return {role: table(here, name) for role, name in step.adds.items()}


def table(folder: str, name: str) -> str:
    return f"{folder}/{name}" if "." in name else f"{folder}/{name}.parquet"


def former_tables() -> list[str]:
    """What an iteration reads of the one before it, beside its policy."""
    return sorted({name for step in STEPS for name in (*step.former, *step.former_as.values())})
