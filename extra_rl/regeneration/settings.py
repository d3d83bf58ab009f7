"""Nested settings of `choose_prefixes`: replay, and the fit of past branches."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from extra_rl.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


def _is_step(value: object) -> bool:
    """Left out where it is the default, so that the jobs of runs without it stay as they are."""
    return value == "step"


class CalibrationConfig(Section):
    """The fit of past branches, by which `rank: calibrated` and `calibrated_half` estimate prefixes."""

    min_branches: int = Field(64, ge=2, description="continued prefixes with a result before the first fit")
    ridge: float = Field(1.0, gt=0, description="weight of the squared slopes of standardised features")
    remember: int = Field(2048, ge=2, description="latest continued prefixes that are fitted")


class ReplayConfig(Section):
    """Continuations of stored trajectories, cut where about half of them are correct (docs/method.md 3)."""

    rows: int = Field(0, ge=0, description="R: stored trajectories that are continued per iteration; 0: off")
    continuations: int = Field(8, ge=2, description="continuations of each, which form a separate group")
    source: Literal["own", "demonstrations"] = Field(
        "own",
        description="correct trajectories. `own`: the policy's rollouts; `demonstrations`: worked solutions of "
        "unsolved problems (control, meant as a bound)",
    )
    rescued: bool = Field(True, description="store the first correct continuation of a rescued group, at its cut")
    fresh_correct: int = Field(
        2,
        ge=0,
        description="store a correct rollout of a fresh group with 1 to N correct ones, at the latest cut; 0: off",
    )
    failures_from: Share | None = Field(
        None,
        description="store an incorrect rollout of a fresh group in which at least this share, but not all of it, is "
        "correct, at the middle cut; null: off",
    )
    cut: Literal["adaptive", "last", "prompt"] = Field(
        "adaptive",
        description="adaptive: the cut moves with the results; controls: `last`: always the latest cut; `prompt`: no "
        "prefix",
    )
    prefix: Literal["own", "other_problem"] = Field(
        "own",
        description="other_problem: as many tokens of a stored trajectory of another problem (control)",
    )
    order: Literal["per_token", "per_group"] = Field(
        "per_token",
        description="what is replayed first: most variance of the reward per expected token, which prefers late cuts, "
        "or per group",
    )
    move: Literal["step", "half"] = Field(
        "step",
        exclude_if=_is_step,
        description="step: the cut moves by one position; half: to the cut where half of the continuations should be "
        "correct, if every token succeeds alike; a fresh trajectory also begins there",
    )
    easy_share: Share = Field(
        0.75, description="if at least this share of a group is correct, the cut moves to the next harder position"
    )
    hard_share: Share = Field(
        0.125, description="if at most this share of a group is correct, the cut moves to the next easier position"
    )
    drop_after: int = Field(
        2, ge=1, description="failures in a row at the easiest cut after which a trajectory is dropped"
    )
    serve_prompt: bool = Field(
        False,
        description="true: after the earliest cut of a correct trajectory, its prompt is replayed without a prefix",
    )
    first_cut: Share = Field(0.0, description="earliest cut, as a share of the trajectory")
    last_cut: Share = Field(0.9, description="latest cut, as a share of the trajectory")
    max_cuts: int = Field(16, ge=1, description="maximum cuts of a trajectory, spread evenly")
    capacity: int = Field(
        256, ge=1, description="maximum stored trajectories; those of the lowest priority are dropped"
    )
    max_age: int = Field(16, ge=1, description="iterations after which a stored trajectory is dropped")
    rest: int = Field(0, ge=0, description="iterations between two groups of the same trajectory")
    min_stored: int = Field(
        1,
        ge=1,
        exclude_if=lambda value: value == 1,  # left out, so that the jobs of runs without it stay as they are
        description="stored trajectories from which on some are replayed: with few of them, every optimizer step would "
        "learn the same ones",
    )

    @model_validator(mode="after")
    def shares_are_ordered(self) -> Self:
        if self.first_cut > self.last_cut:
            raise ValueError(f"first_cut {self.first_cut} must not exceed last_cut {self.last_cut}")
        if self.hard_share >= self.easy_share:
            raise ValueError(f"hard_share {self.hard_share} must be below easy_share {self.easy_share}")
        return self

    @model_validator(mode="after")
    def something_is_replayed(self) -> Self:
        if self.rows and self.min_stored > self.capacity:
            raise ValueError(f"nothing is ever replayed: min_stored {self.min_stored} exceeds capacity {self.capacity}")
        if self.cut == "prompt" and self.prefix == "other_problem":
            raise ValueError("cut: prompt has no prefix, so prefix: other_problem has no effect; choose one of them")
        return self

    @model_validator(mode="after")
    def something_is_stored(self) -> Self:
        own = self.source == "own" and (self.rescued or self.fresh_correct)
        if self.rows and not (own or self.source == "demonstrations" or self.failures_from is not None):
            raise ValueError("nothing is ever stored: set rescued, fresh_correct, failures_from, or rows: 0")
        return self
