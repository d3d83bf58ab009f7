"""What a stage needs to know of other sections: derived values, which no configuration sets.

`generate.rounds` decides how many problems `select` provides, for example. Such a value changes the bytes of the stage
that reads it, so it is part of the stage's job, next to its section (`Job.derived`). The stage declares the values that
it takes as the model `Stage.derived`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from extra_rl.config.experiment import Experiment
from extra_rl.config.judges import JUDGES, TASK_NAMES, who_judges
from extra_rl.novelty import embedder_of
from extra_rl.user_code import is_reference, source_digest

Sections = Mapping[str, Mapping[str, Any]]
"""stage -> its validated section."""


def derive(experiment: Experiment, stage: str, arm: str, iteration: int = 0) -> dict[str, Any]:
    """Return the derived values of a stage; {} for a stage that takes none.

    Args:
        experiment: the configuration.
        stage: name of the stage.
        arm: folder of an arm, or empty for a stage that runs once for all arms.
        iteration: in which the stage runs; sections may change from one on (`schedule`).
    """
    if stage == "compare":
        return _of_compare(experiment)
    sections = experiment.at(arm, iteration) if arm else experiment.common
    found = DERIVED[stage](sections) if stage in DERIVED else {}
    if stage == "select" and arm and _stream_continues(experiment, arm, iteration):
        found["continued"] = True
    return found


def in_force_since(experiment: Experiment, stage: str, arm: str, iteration: int) -> int:
    """Return the first iteration from which a stage of an arm has had the settings that it has in `iteration`.

    Args:
        experiment: the configuration.
        stage: name of the stage.
        arm: folder of the arm.
        iteration: in which the stage runs.
    """
    starts = [phase.start for phase in experiment.phases.get(arm, []) if phase.start <= iteration]
    for start in reversed(starts):
        before, now = (
            (experiment.at(arm, number)[stage], derive(experiment, stage, arm, number)) for number in (start - 1, start)
        )
        if before != now:
            return start
    return 0


def _stream_continues(experiment: Experiment, arm: str, iteration: int) -> bool:
    """Whether the schedule has changed how many problems an iteration takes, so that its number does not tell which."""
    first = experiment.arms[arm]
    return any(
        phase.sections[stage].get(key) != first[stage].get(key)
        for phase in experiment.phases.get(arm, [])
        if phase.start <= iteration
        for stage, key in (("select", "prompts"), ("generate", "rounds"), ("generate", "rounds_on"))
    )


def _of_prepare(sections: Sections) -> dict[str, Any]:
    """The source text of a task of one's own, which generates the problems."""
    return _task_source(sections["prepare"])


def _of_verify(sections: Sections) -> dict[str, Any]:
    """The source text of a user's judge: an edit of it judges the responses again."""
    return _judge_source(sections["verify"])


def _of_evaluate(sections: Sections) -> dict[str, Any]:
    return _judge_source(sections["evaluate"])


def _of_generate(sections: Sections) -> dict[str, Any]:
    """Between rounds rollouts are judged, and weighted as in `verify`; demonstrations are a task's own."""
    generate = sections["generate"]
    if generate["rounds"] > 1 or generate.get("half_groups"):
        weights = sections["verify"]["weights"]
        return _judge_source(generate) | ({"weights": weights} if weights else {})
    return _task_source(generate) if generate["source"] == "demonstrations" else {}


def _task_source(section: Mapping[str, Any]) -> dict[str, Any]:
    name = section["task"]["name"]
    return {"task_source": _digest(name, Path.cwd())} if is_reference(name) else {}


def _judge_source(section: Mapping[str, Any]) -> dict[str, Any]:
    judge = who_judges(section["task"])
    if judge in TASK_NAMES or judge in JUDGES:
        return {}
    found = _digest(judge, Path.cwd())
    return {"judge_source": found} if found else {}


@lru_cache(maxsize=256)
def _digest(judge: str, folder: Path) -> str:
    """Digest of a user's code, once a process: all jobs of a run get the same, also where the file is edited."""
    return source_digest(judge, folder)


def _of_select(sections: Sections) -> dict[str, Any]:
    """It provides the problems of all rounds; rounds of the same problems need no further ones."""
    generate = sections["generate"]
    return {"rounds": 1 if generate.get("rounds_on") == "same_problem" else generate["rounds"]}


def _of_warm_start(sections: Sections) -> dict[str, Any]:
    """A demonstration ends as a response does: with the first stop string, where there is one."""
    return {"stop": next(iter(sections["generate"]["sampling"]["stop"]), None)} | _task_source(sections["warm_start"])


def _of_choose_prefixes(sections: Sections) -> dict[str, Any]:
    """Worked solutions to replay end as a response does, and may be those of a task of one's own.

    With `action: cheapest` it matters whether continuations join the group of their parents.
    """
    section = sections["choose_prefixes"]
    cheapest = section["groups"] != 0 and section.get("action") == "cheapest"
    found = {"joined_group": True} if cheapest and sections["advantage"]["group"] == "joined" else {}
    if not section["replay"]["rows"] or section["replay"]["source"] != "demonstrations":
        return found
    stop = next(iter(sections["generate"]["sampling"]["stop"]), None)
    return found | {"stop": stop} | _task_source(section)


def _of_score_entropy(sections: Sections) -> dict[str, Any]:
    """With `rows: signal`: which rollouts may carry a signal. Otherwise nothing depends on it."""
    if sections["score_entropy"]["rows"] == "all":
        return {}
    advantage = sections["advantage"]
    found = {"joined": advantage["group"] == "joined", "bonus": advantage["weight"] > 0}
    # Left out where they are off, so that the jobs of runs without them stay as they are.
    further = {
        "zero_variance": advantage["zero_variance_weight"] > 0,
        "segments": advantage["credit"] == "segment",
    }
    return found | {name: True for name, is_on in further.items() if is_on}


def _of_summarize(sections: Sections) -> dict[str, Any]:
    """Embeddings are charged for the model that computes them."""
    novelty, prefixes = sections["novelty"], sections["choose_prefixes"]
    # Left out where nothing is smoothed, so that the jobs of such runs stay as they are.
    smoothed = prefixes["groups"] != 0 and prefixes["cut"] != "none" and prefixes["smoothing"] != "none"
    return {
        "embedder": embedder_of(novelty["measure"], novelty["params"]),
        "tail_tokens": novelty["tail_tokens"],
        **({"smoothing": prefixes["smoothing"]} if smoothed else {}),
    }


def _of_compare(experiment: Experiment) -> dict[str, Any]:
    """An arm that ran out of iterations before its budget cannot be compared; seeds and regimes order the rows."""
    return {
        "token_budgets": {folder: sections["select"]["token_budget"] for folder, sections in experiment.arms.items()},
        "compute_budgets": {
            folder: sections["select"]["compute_budget"] for folder, sections in experiment.arms.items()
        },
        "warm_starts": experiment.run.warm_starts,
        "seeds": experiment.run.every_seed,
        "regimes": experiment.regimes,
    }


DERIVED: dict[str, Callable[[Sections], dict[str, Any]]] = {
    "prepare": _of_prepare,
    "select": _of_select,
    "generate": _of_generate,
    "verify": _of_verify,
    "evaluate": _of_evaluate,
    "warm_start": _of_warm_start,
    "score_entropy": _of_score_entropy,
    "summarize": _of_summarize,
    "choose_prefixes": _of_choose_prefixes,
}
"""Stage -> its derived values, from the sections of its arm; `compare` derives from all arms."""
