"""Judge the rollouts a second time, and keep the rows on which the judges disagree.

READS   rollouts (generate or regenerate), verify (the first judge's verdicts), train (the problems' texts)
WRITES  audit: one row per disagreement on correctness, with both judgements and the response
SOURCE  our decision; nothing reads this table: rewards follow the first judge alone
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from pydantic import Field, field_validator

from extra_rl.config.section import StageConfig
from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.errors import ConfigError, ContractError
from extra_rl.judging.audit import NONE, judge_mistake, second_judgements
from extra_rl.judging.command import Case
from extra_rl.run.stage import Context, Inputs, Stage
from extra_rl.tables import contracts
from extra_rl.verdict import Verdict


class Config(StageConfig):
    """The second judge. `audit: string` is short for `audit: {judge: string}`."""

    SHORTHAND = "judge"

    task: TaskConfig = Field(description="shared section `task`")
    verifier: VerifierConfig = Field(description="shared section `verifier`")
    judge: str = Field(
        NONE,
        description="`string`: equal text; `sympy_only`: math-verify, unmodified; `none`: no audit; any other text: a "
        "command that reads and writes JSON lines (docs/audit.md)",
    )
    timeout_s: float = Field(
        600.0, gt=0, description="time limit in seconds of a command, for all rollouts of one table"
    )

    @field_validator("judge")
    @classmethod
    def can_be_run(cls, judge: str) -> str:
        if mistake := judge_mistake(judge):
            raise ValueError(mistake)
        return judge


STAGE = Stage(
    name="audit",
    version=1,
    reads={"rollouts": contracts.Rollouts, "verify": contracts.Verdicts, "train": contracts.Problems},
    writes={"audit": contracts.Disagreements},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Return the rows on which the judges disagree, in the order of the rollouts, with the first judge's gold."""
    if config.judge == NONE:
        raise ConfigError("audit.judge is none: name a second judge (see config/README.md).")
    rows = judged(inputs["rollouts"], inputs["verify"], inputs["train"])
    cases = [
        Case(r["rollout_id"], r["prompt"], r["gold"], r["response"], r["finish_reason"] != "stop", r["first_extracted"])
        for r in rows.iter_rows(named=True)
    ]
    progress = context.progress(len(cases), "judgement")
    second = second_judgements(
        config.judge, cases, config.task, config.verifier, timeout_s=config.timeout_s, progress=progress.update
    )
    rows = rows.with_columns(
        pl.Series("second_verdict", [j.verdict.value for j in second], dtype=pl.String),
        pl.Series("second_extracted", [j.extracted for j in second], dtype=pl.String),
        pl.Series("second_rule", [j.rule for j in second], dtype=pl.String),
    )
    first_right, second_right = (pl.col(f"{who}_verdict") == Verdict.RIGHT.value for who in ("first", "second"))
    differ = rows.filter(first_right != second_right)
    first_only = len(differ.filter(first_right))
    context.console.say(
        f"{context.outputs['audit'].stem}: {config.judge} judged {len(rows)} rollouts and disagrees on {len(differ)}: "
        f"{first_only} correct for the first judge only, {len(differ) - first_only} for the second only"
    )
    return {"audit": contracts.Disagreements.cast(differ.select(contracts.Disagreements.column_names()))}


def judged(rollouts: pl.DataFrame, verify: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    """Return rollouts with `prompt`, `gold` and the first judgement.

    Raises ContractError where a rollout has no verdict or problem.
    """
    first = verify.rename({name: f"first_{name}" for name in ("verdict", "extracted", "rule")})
    first = first.with_columns(pl.col("first_verdict").cast(pl.String))
    rows = rollouts.join(first, on="rollout_id", how="left", maintain_order="left")
    rows = rows.join(train.select("problem_id", "prompt"), on="problem_id", how="left", maintain_order="left")
    for column, table in (("first_verdict", "verify"), ("prompt", "train")):
        lost = rows.filter(pl.col(column).is_null())
        if len(lost):
            raise ContractError(
                f"{len(lost)} rollout(s) have no row in {table}, first {lost['rollout_id'][0]} with problem "
                f"{lost['problem_id'][0]!r}: the files belong to different runs. Delete the newer ones and run again."
            )
    return rows
