"""The top-level keys of a configuration: how far a run goes, what stays on disk, and which checks may end it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from extra_rl.config.section import Section
from extra_rl.config.tracking import TrackingConfig

LAST_POLICIES = 2
"""Iterations whose policies always stay: the last, and the one that a repeated `update` starts from."""

OnMismatch = Literal["stop", "warn"]
Granularity = Literal["stage", "group", "iteration", "run", "run_by_iteration", "one_process"]
BY_ITERATION = ("iteration", "run_by_iteration", "one_process")
"""Granularities at which the stages of an iteration are one process, so sampling has no shards."""
BY_RUN = ("run", "run_by_iteration", "one_process")
"""Granularities at which an arm and seed is one job: on a cluster, and `one_process` on one machine, too."""


class GenerationConfig(Section):
    """How `generate` and `regenerate` are spread over devices. The workflow reads it; no stage does."""

    shards: int = Field(
        1,
        ge=1,
        le=1000,
        description="number of jobs, one per device, that share the rollouts of each sampling stage "
        "(docs/decisions/0009-shards.md); changing it samples the iterations of the window again",
    )


class ReportConfig(Section):
    """When `report.html` is written, besides the end of the run. No stage reads it."""

    every: int = Field(
        0,
        ge=0,
        description="also write the report after every k-th iteration of each arm and seed, marked as unfinished "
        "(docs/report.md); 0: only at the end; changing it re-runs no stage",
    )


class RetentionConfig(Section):
    """What stays on disk of a run's policies. It is part of the run's context, and of no stage's section."""

    weights_every: int = Field(
        1, ge=1, description="keep the weights of every k-th iteration, of those evaluated, and of the last two; 1: all"
    )
    optimizer_states: int = Field(
        0, ge=0, description="keep the optimizer states of the last n iterations, at least 2; 0: of all iterations"
    )
    optimizer_folder: str | None = Field(
        None,
        description="folder for the optimizer states, with a link next to the policy; in memory, for example "
        "/dev/shm/NAME, they are lost when the machine restarts (docs/decisions/0010-optimizer-state.md); null: next "
        "to the policy",
    )

    @model_validator(mode="after")
    def an_interrupted_update_can_be_repeated(self) -> Self:
        if 0 < self.optimizer_states < LAST_POLICIES:
            raise ValueError(
                f"optimizer_states must be 0 (keep all) or at least {LAST_POLICIES}: an interrupted update starts "
                "again from the state before it"
            )
        return self


class RunConfig(Section):
    """Top-level keys, in addition to the sections and arms."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100, description="results are written to results/<name>"
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(
        [0], min_length=1, description="experiment seeds; every arm runs with each"
    )
    warm_starts: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(
        [0],
        min_length=1,
        description="seeds of the initial policies; the i-th experiment seed starts from the i-th of them, in turn, "
        "with every arm",
    )
    iterations: int = Field(ge=1, le=10_000, description="iterations of every arm and seed")
    first_iteration: int = Field(
        0, ge=0, description="first iteration of the window; earlier ones are finished and not checked again"
    )
    granularity: Granularity = Field(
        "stage",
        description="what one job of the workflow runs. `stage`: one stage. `iteration`: all stages of an iteration in "
        "one process. On a cluster also `group`: light stages share a job with a heavy one; and `run`, "
        "`run_by_iteration`: one allocation for an arm and seed, inside which Snakemake runs stages or iterations "
        "locally. On one machine `group` and `run` are `stage`, and `run_by_iteration` is `iteration`. `one_process`: "
        "all iterations of an arm and seed in one process, on one machine and on a cluster. The files are the same "
        "(docs/decisions/0013-granularity.md, docs/slurm.md)",
    )
    container: str | None = Field(
        None,
        min_length=1,
        description="image in which the rules run with `--software-deployment-method apptainer`, for example "
        "docker://NAME or a .sif file; extra-rl is installed in it (docs/slurm.md); null: none",
    )
    evaluate_every: int = Field(
        0, ge=0, description="also evaluate the policy of every k-th iteration; 0: only the final one"
    )
    report: ReportConfig = Field(
        default_factory=ReportConfig, description="when `report.html` is written during the run"
    )
    retention: RetentionConfig = Field(
        default_factory=RetentionConfig, description="which policies stay on disk; changing it re-runs nothing"
    )
    on_mismatch: OnMismatch = Field(
        "stop",
        description="what happens when sampler and policy differ by more than `mismatch_tolerance`: `stop` or `warn` "
        "(docs/sampling.md); changing it re-runs nothing",
    )
    mismatch_tolerance: float | None = Field(
        None,
        gt=0,
        description="tolerance on the mean absolute difference of the sampler's and the policy's logprobs, in nats, "
        "over the tokens that one stage sampled; null: 0.01 in float32, 0.2 in bfloat16; changing it re-runs nothing",
    )
    stop_without_signal: int | None = Field(
        None,
        ge=0,
        description="end the run after N consecutive iterations of an arm and seed without a group whose rewards "
        "differ (docs/sampling.md); null or 0: never, as an ended run is not compared; changing it re-runs nothing",
    )
    generation: GenerationConfig = Field(
        default_factory=GenerationConfig, description="how sampling is spread over devices"
    )
    tracking: TrackingConfig = Field(
        default_factory=TrackingConfig,
        description="trackers that get the metrics, as a list or as a section (docs/tracking.md)",
    )

    _every_seed: list[int] = PrivateAttr([])
    """All seeds of the configuration, where only some run."""

    @field_validator("seeds", "warm_starts")
    @classmethod
    def named_once(cls, values: list[int]) -> list[int]:
        if len(set(values)) < len(values):
            raise ValueError("name each once")
        return values

    @model_validator(mode="after")
    def the_window_is_not_empty(self) -> Self:
        if self.first_iteration >= self.iterations:
            raise ValueError("first_iteration must be below iterations: nothing would be left to run")
        return self

    @model_validator(mode="after")
    def shards_are_jobs_of_a_stage(self) -> Self:
        if self.by_iteration and not self.one_process and self.generation.shards > 1:
            instead = "stage" if self.granularity == "iteration" else "run"
            raise ValueError(
                f"granularity: {self.granularity} runs an iteration in one process; set generation.shards: 1, or "
                f"granularity: {instead}"
            )
        return self

    @model_validator(mode="after")
    def one_process_runs_stages_only(self) -> Self:
        """The audit is refused with the sections of the arms (`extra_rl.config.check`)."""
        jobs = {
            f"generation.shards: {self.generation.shards}": self.generation.shards > 1,
            f"tracking.to: {', '.join(self.tracking.to)}": bool(self.tracking.to),
            f"report.every: {self.report.every}": self.report.every > 0,
        }
        others = [key for key, needs_jobs in jobs.items() if needs_jobs]
        if self.one_process and others:
            instead = "stage" if self.generation.shards > 1 else "iteration"
            raise ValueError(
                f"granularity: one_process runs an arm and seed in one process, without the further jobs of "
                f"{'; '.join(others)}. Remove {'it' if len(others) == 1 else 'them'}, or set granularity: {instead}"
            )
        return self

    @property
    def by_iteration(self) -> bool:
        """Whether all stages of an iteration run in one process."""
        return self.granularity in BY_ITERATION

    @property
    def by_run(self) -> bool:
        """Whether an arm and seed is one job: on a cluster, or with `one_process` anywhere."""
        return self.granularity in BY_RUN

    @property
    def one_process(self) -> bool:
        """Whether all iterations of an arm and seed run in one process."""
        return self.granularity == "one_process"

    def warm_start_of(self, seed: int) -> int:
        """Seed of the initial policy that an experiment seed starts from."""
        return self.warm_starts[self.every_seed.index(seed) % len(self.warm_starts)]

    @property
    def every_seed(self) -> list[int]:
        """All seeds of the configuration, of which a selection on the command line runs some."""
        return self._every_seed or self.seeds

    @property
    def starts(self) -> list[int]:
        """Seeds of the initial policies of this run: all, or those that a selection of seeds needs."""
        if not self._every_seed:
            return self.warm_starts
        needed = {self.warm_start_of(seed) for seed in self.seeds}
        return [start for start in self.warm_starts if start in needed]

    def only(self, seeds: list[int]) -> Self:
        """Return the run with some of its seeds; each keeps its initial policy."""
        if seeds == self.seeds:
            return self
        run = self.model_copy(update={"seeds": seeds})
        run._every_seed = self.every_seed
        return run
