"""What the Snakefile asks of the configuration: the resolved experiment and the param of a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extra_rl.config import Experiment, resolve
from extra_rl.stage import Job
from stages import STAGES
from stages.command import load

SHARED_BY_ARMS = ("prepare", "warm_start", "compare")


def experiment_of(raw: Mapping[str, Any]) -> Experiment:
    """The validated experiment of a raw configuration."""
    return resolve(raw, {name: load(name).Config for name in STAGES})


def job_json(experiment: Experiment, stage: str, wildcards: Mapping[str, str]) -> str:
    """The canonical JSON of one job. What arms share has neither arm nor seed, so that it is made once."""
    arm = wildcards.get("arm", "")
    sections = experiment.arms[arm] if arm else experiment.common
    return Job(
        stage=stage,
        version=load(stage).STAGE.version,
        seed=int(wildcards.get("seed", 0)),
        config=sections[stage],
        arm=arm,
        iteration=int(wildcards.get("iteration", 0)),
    ).to_json()
