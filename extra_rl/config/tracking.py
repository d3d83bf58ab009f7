"""The key `tracking`: which trackers get the metrics of a run, and under which names (docs/tracking.md)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from extra_rl.config.mistakes import nearest
from extra_rl.config.section import Section
from extra_rl.user_code import is_reference

REFERENCE = "jsonl"
"""The file that every other tracker is fed from. It needs no package, and is written whichever trackers are named."""

PACKAGES = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
}
"""Tracker -> the module that it imports; the extra of the package has the tracker's name."""

TRACKERS = (REFERENCE, *PACKAGES)


class TrackingConfig(Section):
    """Trackers. A list is short for `to`. Other values change no table and re-run no stage but the tracking jobs."""

    to: list[str] = Field(
        [],
        description=f"trackers: {', '.join(TRACKERS)}, or `module:function` of your own (docs/tracking.md); []: none",
    )
    project: str = Field(
        "extra-rl",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$",
        description="project (wandb, trackio) or experiment (mlflow); the group is the name of the results",
    )
    wandb_mode: Literal["offline", "online"] = Field(
        "offline", description="offline: files in the results folder, for `wandb sync`; online: needs a login"
    )
    wandb_entity: str | None = Field(None, description="wandb: user or team; null: the login's own")
    mlflow_uri: str | None = Field(
        None, description="mlflow: address of a tracking server; null: an SQLite file in the results folder"
    )
    rollouts: int = Field(10, ge=0, le=1000, description="rollouts of every iteration that are logged as a table")
    characters: int = Field(
        2000, ge=50, le=100_000, description="longest problem and longest response in that table, in characters"
    )
    timeout_s: float = Field(
        120.0, gt=0, le=86_400, description="seconds after which a tracker counts as unavailable in one tracking job"
    )

    @model_validator(mode="before")
    @classmethod
    def _a_list_names_the_trackers(cls, given: Any) -> Any:
        if given is None:
            return {}
        if isinstance(given, str | int | float):
            raise ValueError(f"expected a list of trackers, such as [jsonl], or keys and values, not {given!r}")
        return {"to": given} if isinstance(given, list) else given

    @field_validator("to")
    @classmethod
    def _known_and_named_once(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in TRACKERS and not is_reference(name):
                raise ValueError(
                    f"{name!r} is no tracker (known: {', '.join(TRACKERS)}; your own: module:function)"
                    f"{nearest(name, TRACKERS)}"
                )
        if len(set(names)) < len(names):
            raise ValueError("name each tracker once")
        return names


def module_of(tracker: str) -> str:
    """The module that has to be installed for a tracker; empty for the reference file."""
    return tracker.partition(":")[0] if ":" in tracker else PACKAGES.get(tracker, "")
