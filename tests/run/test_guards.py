"""The two checks that may end a run: what they measure, their messages, and when they do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.errors import ConfigError, NoSignalError, NumericalError
from extra_rl.run.context import Guards, RunContext
from extra_rl.run.guards import check_mismatch, refuse_without_signal
from extra_rl.run.progress import Console
from extra_rl.run.stage import Context, Job
from extra_rl.tables import contracts
from stages.experiment import experiment_of, job_json, run_context
from tests.stages.rows import Row, frame, tables_of

MINIMAL: dict[str, Any] = {"name": "mini", "iterations": 2, "arms": {"grpo": {}}}


def context_of(iteration: int = 0, **keys: Any) -> Context:
    """keys: of the guards; the others have the defaults of a stage that is run by hand."""
    job = Job("score_entropy", 1, 0, {}, "extra", iteration)
    return Context(job, {}, Console(None), {}, run=RunContext(guards=Guards(**keys)))


def compared(rows: list[Row], precision: str = "float32", **keys: Any) -> dict[str, float]:
    """The figures of a comparison of constructed rollouts. keys: of the guards."""
    tables, context = tables_of(rows), context_of(**keys)
    check_mismatch(tables["generate"], tables["score_entropy_generate"], precision, "generate.parquet", context)
    return context.figures


def row(name: str, difference: float, **changes: Any) -> Row:
    return Row(name, sampler_logprob=-2.0, policy_logprob=-2.0 + difference, **changes)


def test_the_tokens_of_a_prefix_are_not_compared() -> None:
    continued = Row("a").continued("b", 2, sampler_logprob=-2.0, policy_logprob=(-9.0, -9.0, -2.004))
    figures = compared([row("a", 0.002), continued])
    assert figures["mismatch_mean"] == pytest.approx((3 * 0.002 + 0.004) / 4, rel=1e-3)
    assert figures["mismatch_max"] == pytest.approx(0.004, rel=1e-3)
    assert figures["mismatch_tolerance"] == 0.01


def test_beyond_the_tolerance_the_error_names_figures_and_remedies() -> None:
    with pytest.raises(NumericalError) as error:
        compared([row("near", 0.0), row("far", -0.5)], on_mismatch="stop")
    said = str(error.value)
    for part in ("generate.parquet", "differ by 0.25 nats", "6 sampled tokens", "at most by 0.5 (rollout far)"):
        assert part in said
    for part in ("tolerance is 0.01", "extra doctor MODEL", "backend: transformers", "mismatch_tolerance", "warn"):
        assert part in said


def test_with_warn_one_line_is_printed_and_the_figures_are_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    assert compared([row("a", 0.5), row("b", 0.25)], on_mismatch="warn")["mismatch_mean"] == pytest.approx(0.375)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("WARNING: extra/s0/i0 score_entropy: generate.parquet: sampler and policy differ by 0.375")


@pytest.mark.parametrize(
    ("precision", "tolerance", "difference", "stops"),
    [
        *[("float32", None, 0.009, False), ("float32", None, 0.011, True)],
        *[("bfloat16", None, 0.19, False), ("bfloat16", None, 0.21, True)],
        *[("float32", 0.5, 0.4, False), ("bfloat16", 0.05, 0.1, True)],
    ],
)
def test_the_tolerance_follows_the_precision_unless_it_is_configured(
    precision: str, tolerance: float | None, difference: float, stops: bool
) -> None:
    keys: dict[str, Any] = {"on_mismatch": "stop", "mismatch_tolerance": tolerance}
    if not stops:
        compared([row("a", difference)], precision, **keys)
        return
    with pytest.raises(NumericalError, match="sampler and policy differ"):
        compared([row("a", difference)], precision, **keys)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_logprob_that_is_not_finite_is_refused_even_with_warn(value: float) -> None:
    tables = tables_of([row("a", 0.0), row("b", 0.0)])
    logprobs = pl.Series([[-2.0] * 3, [-2.0, value, -2.0]], dtype=pl.List(pl.Float32))
    rollouts = tables["generate"].with_columns(sampler_logprobs=logprobs)
    with pytest.raises(NumericalError, match=r"1 of 6 sampled tokens is not finite, first in rollout b"):
        check_mismatch(
            rollouts, tables["score_entropy_generate"], "float32", "generate.parquet", context_of(on_mismatch="warn")
        )


def test_by_hand_nothing_stops(capsys: pytest.CaptureFixture[str]) -> None:
    compared([row("a", 3.0)])
    assert capsys.readouterr().out.startswith("WARNING: ")


def test_without_sampled_tokens_nothing_is_compared() -> None:
    given = row("a", 3.0, origin="demonstration", prefix_length=3)
    assert compared([], on_mismatch="stop") == compared([given], on_mismatch="stop") == {}


ALL_WRONG = {"all_wrong": 4}
MIXED = {"mixed": 1, "all_wrong": 3}


def finish(run: Path, iteration: int, normalised: float = 0.0, trained: str = "no_signal", **counts: int) -> None:
    """Write the tables of a finished iteration of four groups that the check reads."""
    folder = run / f"iteration_{iteration:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    summary = dict.fromkeys(contracts.IterationSummary.columns(), 0) | {"arm": "extra", "rollouts": 8, "groups": 4}
    frame(contracts.IterationSummary, [{**summary, **counts, "iteration": iteration}]).write_parquet(
        folder / "summarize.parquet"
    )
    advantage = {
        "rollout_id": f"extra/s0/i{iteration}/0/0",
        "advantage_group": f"extra/s0/i{iteration}/0",
        "group_type": "mixed",
        "reward": 0.0,
        "normalised": normalised,
        "bonus": 0.5,
        "advantage": normalised + 0.5,
        "carried": False,
        "trained": trained,
        "loss_start": 0,
    }
    frame(contracts.Advantages, [advantage]).write_parquet(folder / "advantage.parquet")


def begin(run: Path, iteration: int, limit: int | None) -> None:
    """The check at the beginning of an iteration. limit: `stop_without_signal`."""
    previous = run / f"iteration_{iteration - 1:04d}" / "summarize.parquet"
    refuse_without_signal(previous if iteration else None, context_of(iteration, stop_without_signal=limit))


def test_a_run_ends_after_the_configured_iterations_without_a_useful_group(tmp_path: Path) -> None:
    finish(tmp_path, 0, normalised=1.0, trained="trained", **MIXED)
    for iteration in (1, 2, 3):
        finish(tmp_path, iteration, all_wrong=3, all_right=1, steps=2)  # steps: of a KL term
    for iteration in (0, 1, 2, 3):
        begin(tmp_path, iteration, 3)
    with pytest.raises(NoSignalError) as error:
        begin(tmp_path, 4, 3)
    said = str(error.value)
    for part in ("extra/s0: iterations 1 to 3 had no group", "Of 12 fresh groups, 3 were all correct and 9 all incorr"):
        assert part in said
    for part in ("easier problems", "group_size", "temperature", "iteration 4, raise or remove stop_without_signal"):
        assert part in said
    for limit in (4, 0, None):
        begin(tmp_path, 4, limit)


def test_a_novelty_bonus_and_untrained_rows_are_no_signal(tmp_path: Path) -> None:
    finish(tmp_path, 0, normalised=0.0, trained="trained", all_right=4)  # the bonus alone
    finish(tmp_path, 1, normalised=1.0, trained="unrescued", all_wrong=1, all_right=3)
    with pytest.raises(NoSignalError, match=r"iterations 0 to 1 had .* with harder problems \(task"):
        begin(tmp_path, 2, 2)


def test_rewards_that_differ_are_a_signal_in_a_group_without_a_correct_rollout(tmp_path: Path) -> None:
    """`verify.rewards` may weight wrong and truncated differently; a continued group counts in the same way."""
    finish(tmp_path, 0, normalised=-0.5, trained="trained", **ALL_WRONG)
    begin(tmp_path, 1, 1)


def test_iterations_without_a_rollout_do_not_count(tmp_path: Path) -> None:
    finish(tmp_path, 0, **ALL_WRONG)
    for iteration in (1, 2):
        finish(tmp_path, iteration, rollouts=0, groups=0)
    begin(tmp_path, 3, 2)
    finish(tmp_path, 3, **ALL_WRONG)
    with pytest.raises(NoSignalError, match=r"Of 8 fresh groups"):
        begin(tmp_path, 4, 2)


def test_iterations_whose_tables_are_missing_are_not_counted(tmp_path: Path) -> None:
    for iteration in (0, 1):
        finish(tmp_path, iteration, **ALL_WRONG)
    (tmp_path / "iteration_0000" / "advantage.parquet").unlink()
    begin(tmp_path, 2, 2)
    refuse_without_signal(tmp_path / "elsewhere" / "summarize.parquet", context_of(2, stop_without_signal=2))


KEYS: dict[str, Any] = {"on_mismatch": "warn", "mismatch_tolerance": 0.5, "stop_without_signal": 7}


def test_the_keys_are_in_the_context_of_the_run_and_no_part_of_a_job() -> None:
    plain, changed = experiment_of(MINIMAL), experiment_of(MINIMAL | KEYS)
    assert (plain.arms, plain.common) == (changed.arms, changed.common)
    for stage in ("select", "generate", "score_entropy", "update", "summarize"):
        place = {"arm": "grpo", "seed": "0", "iteration": "0001"}
        assert job_json(plain, stage, place) == job_json(changed, stage, place)
    assert run_context(plain).guards == Guards("stop", None, None)
    assert run_context(changed).guards == Guards(**KEYS)


@pytest.mark.parametrize("bad", [{"on_mismatch": "ignore"}, {"mismatch_tolerance": 0}, {"stop_without_signal": -1}])
def test_bad_values_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        experiment_of(MINIMAL | bad)
