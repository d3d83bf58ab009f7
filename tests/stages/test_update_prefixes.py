"""update: prefixes of continuations, masked or trained, and samplers whose logprobs differ from the trainer's."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.stages.rows import Row
from tests.stages.updates import CONTINUED, PROMPT, RIGHT, one_step, tables


def shifted(found: dict[str, pl.DataFrame], table: str, column: str, tokens: int, by: float) -> dict[str, pl.DataFrame]:
    """The tables with the first tokens' values of the row `continued` changed."""
    values = found[table][column].to_list()
    for row, name in enumerate(found[table]["rollout_id"]):
        if name == "continued":
            values[row] = [v + by if n < tokens else v for n, v in enumerate(values[row])]
    return found | {table: found[table].with_columns(pl.Series(column, values, pl.List(pl.Float32)))}


def test_a_masked_prefix_is_in_neither_the_loss_nor_its_denominator(tmp_path: Path) -> None:
    values = {"right": 1.0, "continued": -1.0}
    masked = one_step(tables([RIGHT, CONTINUED], values, {"continued": 3}), tmp_path)
    assert masked["loss_tokens"] == 6 + 5
    assert masked["loss"] == pytest.approx(-(6 - 5) / 11, abs=1e-6)
    trained = one_step(tables([RIGHT, CONTINUED], values), tmp_path)
    assert trained["loss_tokens"] == 6 + 8
    assert trained["loss"] == pytest.approx(-(6 - 8) / 14, abs=1e-6)


def test_a_masked_prefix_acts_as_a_longer_prompt(tmp_path: Path) -> None:
    """The same text with the prefix as part of the prompt: loss, gradient norm and entropy are the same."""
    values = {"right": 1.0, "continued": -1.0}
    prompt = (*PROMPT, *CONTINUED.response_tokens[:3])
    as_prompt = Row("continued", prompt_tokens=prompt, response_tokens=CONTINUED.response_tokens[3:])
    masked = one_step(tables([RIGHT, CONTINUED], values, {"continued": 3}), tmp_path)
    longer = one_step(tables([RIGHT, as_prompt], values), tmp_path)
    trained = one_step(tables([RIGHT, CONTINUED], values), tmp_path)
    assert masked["loss"] == pytest.approx(longer["loss"], abs=1e-6)
    assert masked["gradient_norm"] == pytest.approx(longer["gradient_norm"], rel=1e-4)
    assert masked["entropy"] == pytest.approx(longer["entropy"], rel=1e-4)
    assert abs(trained["gradient_norm"] / longer["gradient_norm"] - 1) > 0.01


@pytest.mark.parametrize(("table", "column"), [
    ("score_entropy_generate", "policy_logprobs"),
    ("generate", "sampler_logprobs"),
])  # fmt: skip
def test_what_is_stored_of_a_masked_prefix_does_not_reach_the_step(tmp_path: Path, table: str, column: str) -> None:
    found = tables([RIGHT, CONTINUED], {"right": 1.0, "continued": -1.0}, {"continued": 3})
    plain = one_step(found, tmp_path)
    assert one_step(shifted(found, table, column, 3, -0.1), tmp_path) == plain
    assert one_step(shifted(found, table, column, 4, -0.1), tmp_path) != plain


def test_a_trained_prefix_carries_loss_but_no_importance_weight(tmp_path: Path) -> None:
    found = tables([RIGHT, CONTINUED], {"right": 1.0, "continued": -1.0})
    plain = one_step(found, tmp_path)
    assert one_step(shifted(found, "generate", "sampler_logprobs", 3, -0.1), tmp_path) == plain
    old = one_step(shifted(found, "score_entropy_generate", "policy_logprobs", 3, -0.1), tmp_path)
    assert old["loss"] != pytest.approx(plain["loss"], abs=1e-4)


def test_the_importance_weight_of_a_deviating_sampler_is_capped_and_reported(tmp_path: Path) -> None:
    found = tables([RIGHT], {"right": 1.0})
    less_likely = pl.col("sampler_logprobs").list.eval(pl.element() - 3.0)  # the ratio is e^3 on every token
    off = found | {"generate": found["generate"].with_columns(less_likely)}
    row = one_step(off, tmp_path)
    assert row["loss"] == pytest.approx(-2.0, abs=1e-5)
    assert row["importance_mean"] == pytest.approx(20.0855, rel=1e-4)
    assert row["importance_max"] == pytest.approx(20.0855, rel=1e-4)
    unweighted = one_step(off, tmp_path, importance_cap=None)
    assert unweighted["loss"] == pytest.approx(-1.0, abs=1e-5)
    assert unweighted["importance_max"] == pytest.approx(20.0855, rel=1e-4)
