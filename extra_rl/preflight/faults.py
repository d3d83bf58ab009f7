"""All faults of what a configuration names outside itself, found before the first job and in a dry run.

Only local things are looked at, and only a little of each: headers, first rows, JSON files. Names on the hub cannot be
checked without a network, and what a run has made already is not looked at again.
"""

from __future__ import annotations

import errno
import importlib.util
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from extra_rl.config.check import grouped
from extra_rl.config.experiment import Experiment
from extra_rl.config.judges import JUDGES as FIRST_JUDGES
from extra_rl.config.judges import is_generated
from extra_rl.config.sections import ModelConfig, TaskConfig
from extra_rl.config.tracking import PACKAGES, TrackingConfig, module_of
from extra_rl.errors import ConfigError
from extra_rl.judging.audit import JUDGES, NONE
from extra_rl.preflight.hub import LOCAL
from extra_rl.preflight.model import faults_of_model
from extra_rl.preflight.sources import faults_of_sources
from extra_rl.preflight.user_code import faults_of_judge, faults_of_own_task
from extra_rl.user_code import is_reference, names_in_source

Section = Mapping[str, Any]

INTERPRETERS = ("python", "python3", "bash", "sh")
ROOM_BYTES = 1 << 20
"""What must fit into a folder before a run: a full disk is noticed, and how much the run needs is not checked."""


def refuse_faults(
    experiment: Experiment, results: Path, *, problems: bool, model: bool, packages: bool, trackers: bool = True
) -> None:
    """Raise ConfigError that lists all faults, unless there are none.

    Args:
        experiment: the validated configuration.
        results: the folder of the run.
        problems: check the files of problems; false where `prepare` has read them.
        model: check the model; false where the initial policies are there.
        packages: check the optional packages; false where the stages run in another environment.
        trackers: check the packages of the trackers; false where the tracking jobs run in another environment.
    """
    found = list(faults_of_folders(experiment, results))
    prepare = experiment.common["prepare"]
    if problems:
        found += faults_of_sources(TaskConfig.model_validate(prepare["task"]))
    if problems and is_generated(prepare["task"]["name"]) and not has_training_problems(prepare):
        found.append("prepare.train_per_level: there are no training problems; give a number for at least one level")
    if model:
        targets = {name: (arm["update"]["lora"] or {}).get("targets", ()) for name, arm in experiment.arms.items()}
        found += faults_of_model(
            ModelConfig.model_validate(prepare["model"]),
            TaskConfig.model_validate(prepare["task"]),
            longest(experiment),
            targets,
        )
    found += grouped({name: faults_of_arm(sections) for name, sections in experiment.arms.items()})
    if packages:
        found += faults_of_own_task(experiment)
        found += grouped({name: faults_of_judge(sections) for name, sections in experiment.arms.items()})
        found += missing_packages(experiment)
    if trackers:
        found += missing_trackers(experiment.run.tracking)
    if found:
        lines = "\n".join(f"  {line}" for line in dict.fromkeys(found))
        raise ConfigError(f"the run cannot start:\n{lines}")


def longest(experiment: Experiment) -> dict[str, int]:
    """Key -> the most tokens of a response that it allows, in any arm."""
    sections = [experiment.common, *experiment.arms.values()]
    return {
        "sampling.max_response_tokens": max(arm["generate"]["sampling"]["max_response_tokens"] for arm in sections),
        "evaluate.max_response_tokens": max(arm["evaluate"]["max_response_tokens"] for arm in sections),
    }


def has_training_problems(prepare: Section) -> bool:
    """Whether the section names problems to train on."""
    task, counts = prepare["task"], prepare["train_per_level"]
    if task["name"] == "math":
        return bool(task["train"])
    if task["name"] == "reasoning_gym":
        return any(counts.get(name) != 0 for name in task["sets"])
    return any(counts.values())


def faults_of_folders(experiment: Experiment, results: Path) -> Iterator[str]:
    """Folders that a run writes to and cannot."""
    named = {f"name: {experiment.run.name}": results, "working directory": Path(".snakemake")}
    for sections in (experiment.common, *experiment.arms.values()):
        if cache := sections["evaluate"]["cache"]:
            named["evaluate.cache"] = Path(cache)
    if folder := experiment.run.retention.optimizer_folder:
        named["retention.optimizer_folder"] = Path(folder)
    for key, path in named.items():
        if reason := unwritable(path):
            yield f"{key}: cannot write to {path}: {reason}"


def unwritable(folder: Path) -> str | None:
    """Return why nothing can be written to a folder, which may not exist yet; None where something can.

    A temporary file is written in the nearest folder that exists: permissions alone do not tell of
    read-only, of full and of special file systems.
    """
    place = folder
    while not place.exists() and not place.is_symlink() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{place} is a file, or a link that leads nowhere; move it or choose another place"
    try:
        with tempfile.TemporaryFile(dir=place) as file:  # without a name, so that kill -9 leaves none
            file.write(bytes(ROOM_BYTES))
            file.flush()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "make room" if full else "choose another folder, or change its permissions"
        return f"{error.strerror or error} ({place}); {advice}"
    return None


def faults_of_arm(sections: Mapping[str, Section]) -> Iterator[str]:
    """Commands of judges that cannot be started, and directories of sentence models that do not exist."""
    first = sections["verify"]["task"]["judge"]
    if first not in FIRST_JUDGES and not is_reference(first) and (missing := missing_program(first)):
        known = ", ".join(FIRST_JUDGES)
        yield f"task.judge: {first!r}: there is no {missing}; name {known}, module:function or a command"
    judge = sections["audit"]["judge"]
    if judge not in (NONE, *JUDGES) and (missing := missing_program(judge)):
        yield f"audit.judge: {judge!r}: there is no {missing}; name a command, or {', '.join(JUDGES)}"
    model = sections["novelty"]["sentence_model"]
    if model.startswith(LOCAL) and not Path(model).expanduser().is_dir():
        yield f"novelty.sentence_model: {model}: there is no such directory"


def missing_program(command: str) -> str | None:
    """Return what a command line needs and is not there: its program, or the script that an interpreter is to run."""
    program, *arguments = shlex.split(command)
    if shutil.which(program) is None:
        return f"program {program}"
    script = next((word for word in arguments if not word.startswith("-")), None)
    interprets = Path(program).name in INTERPRETERS and not any(word in ("-c", "-m") for word in arguments)
    return f"file {script}" if interprets and script is not None and not Path(script).is_file() else None


def missing_packages(experiment: Experiment) -> Iterator[str]:
    """Optional packages that the configuration needs and that are not installed; they are not imported."""
    sections = [section for arm in (experiment.common, *experiment.arms.values()) for section in arm.values()]
    needed = {
        "vllm": ("sampling.backend: vllm", any(s.get("sampling", {}).get("backend") == "vllm" for s in sections)),
        "reasoning_gym": ("task.name: reasoning_gym", experiment.common["prepare"]["task"]["name"] == "reasoning_gym"),
        "bitsandbytes": ("update.optimizer: adamw_8bit", any(s.get("optimizer") == "adamw_8bit" for s in sections)),
    }
    extras = {"vllm": "vllm", "reasoning_gym": "reasoning-gym", "bitsandbytes": "adam8bit"}
    for package, (key, wanted) in needed.items():
        if wanted and importlib.util.find_spec(package) is None:
            yield f"{key} needs the package {package}: pip install 'extra-rl[{extras[package]}]'"


def missing_trackers(tracking: TrackingConfig) -> Iterator[str]:
    """Trackers that the configuration names and whose module or function is missing; nothing of it is run."""
    for tracker in tracking.to:
        module = module_of(tracker)
        if module and not is_installed(module):
            remedy = f"pip install 'extra-rl[{tracker}]'" if tracker in PACKAGES else "put it on the Python path"
            yield f"tracking.to: {tracker} needs the module {module}, which is not installed: {remedy}"
        elif ":" in tracker and not names_in_source(tracker):
            yield f"tracking.to: {tracker}: {module} defines no {tracker.partition(':')[2]}"


def is_installed(module: str) -> bool:
    """Whether a module can be found, also next to where the command was started; nothing of it is run but parents."""
    try:
        return importlib.util.find_spec(module) is not None or Path(f"{module.replace('.', '/')}.py").is_file()
    except ImportError:
        return Path(f"{module.replace('.', '/')}.py").is_file()
