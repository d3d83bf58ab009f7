"""choose_prefixes.rank by a fit of past branches, and prefixes of failures of nearly solved groups."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from extra_rl.errors import ConfigError, InputError
from extra_rl.regeneration.branches import FEATURES, features_of, fit_of
from extra_rl.regeneration.settings import CalibrationConfig
from extra_rl.tables import contracts
from stages import choose_prefixes
from tests.conftest import POLICY
from tests.stages.rows import Row, frame, group, run_stage, tables_of

END = 106
TOKENS = (10, 11, END, 12, 13, END, 14, 15, END, 2)  # cuts after 3, 6 and 9 tokens
FIRST = "extra/s0/i1/0"
MANIFEST = POLICY / "manifest.json"
CONFIG: dict[str, Any] = {
    "groups": "all_hard",
    "cut": "every_boundary",
    "rank": "calibrated",
    "scores_from": "sampler",
    "min_tokens": 1,
    "prefixes_per_problem": 1,
    "first_cut": 0.0,
    "last_cut": 1.0,
    "calibration": {"min_branches": 2},
}
Made = dict[str, pl.DataFrame]


def choose(rows: list[Row], branches: pl.DataFrame | None = None, iteration: int = 1, **config: Any) -> Made:
    tables = tables_of(rows) | ({} if branches is None else {"previous_choose_prefixes_branches": branches})
    paths = {"policy": MANIFEST, "initial": MANIFEST}
    return run_stage(choose_prefixes, tables, {**CONFIG, **config}, paths=paths, iteration=iteration)


def past(*rows: tuple[float, int, int, int]) -> pl.DataFrame:
    """Branches of (surprisal, remaining, successes, tries)."""
    return frame(
        contracts.PrefixBranches,
        [
            {
                "prefix_id": f"extra/s0/i0/0/{n}@3",
                "iteration": 0,
                "estimate": None,
                **dict(zip(FEATURES, (nats, nats, remaining), strict=True)),
                "successes": successes,
                "tries": tries,
            }
            for n, (nats, remaining, successes, tries) in enumerate(rows)
        ],
    )


def hard(*nats: float) -> list[Row]:
    """A hard group of rollouts whose tokens all have this surprisal, with different texts."""
    return [
        Row(f"{FIRST}/{n}", group_id=FIRST, response_tokens=(20 + n, *TOKENS[1:]), sampler_logprob=-value)
        for n, value in enumerate(nats)
    ]


def test_before_the_first_fit_the_lowest_mean_surprisal_is_chosen_and_recorded() -> None:
    made = choose(hard(0.5, 0.25))
    (chosen,) = made["choose_prefixes"].filter("chosen").to_dicts()
    assert (chosen["prefix_id"], chosen["estimate"]) == (f"{FIRST}/1@3", None)
    (branch,) = made["choose_prefixes_branches"].to_dicts()
    assert branch == {
        "prefix_id": f"{FIRST}/1@3",
        "iteration": 1,
        "mean_surprisal": 0.25,
        "highest_surprisal": 0.25,
        "remaining": 7,
        "estimate": None,
        "successes": 0,
        "tries": 0,
    }


def test_the_prefix_with_most_estimated_successes_per_token_is_chosen() -> None:
    """Surprisal does not matter in these branches, so q is 1/2 everywhere and the shortest remainder wins."""
    branches = past((0.5, 4, 1, 2), (0.5, 4, 1, 2))
    made = choose(hard(0.25, 0.75), branches)["choose_prefixes"]
    assert made["estimate"].to_list() == pytest.approx([0.5] * 6)
    assert made.filter("chosen")["prefix_id"].to_list() == [f"{FIRST}/0@9"]
    order = made.sort("rank")["prefix_tokens"].list.len().to_list()
    assert order == [9, 9, 6, 6, 3, 3]


def test_a_likely_prefix_is_preferred_to_a_short_remainder() -> None:
    """18 of 20 correct at 0.25 nats and 2 of 20 at 1.75: with hardly any ridge q is 0.9 and 0.1."""
    branches = past((0.25, 4, 18, 20), (1.75, 4, 2, 20))
    made = choose(hard(0.25, 1.75), branches, calibration={"min_branches": 2, "ridge": 1e-9})["choose_prefixes"]
    assert made["estimate"].to_list() == pytest.approx([0.9] * 3 + [0.1] * 3, abs=1e-5)
    # 0.9 / 1, 0.9 / 4, 0.9 / 7 and 0.1 / 1, 0.1 / 4, 0.1 / 7
    order = [name.removeprefix(f"{FIRST}/") for name in made.sort("rank")["prefix_id"]]
    assert order == ["0@9", "0@6", "0@3", "1@9", "1@6", "1@3"]


def test_results_complete_the_branches_of_the_previous_choice() -> None:
    parent = Row("extra/s0/i0/0/0", group_id="extra/s0/i0/0", problem_id="p3", response_tokens=TOKENS)
    continued = [
        parent.continued(f"extra/s0/i1/i0.0/{n}", 3, verdict=verdict)
        for n, verdict in enumerate(("right", "wrong", "error"))
    ]
    branches = past((0.5, 7, 0, 0), (0.5, 7, 0, 0), (0.5, 7, 1, 2))
    found = choose([*hard(0.5), *continued], branches)["choose_prefixes_branches"]
    assert found["prefix_id"].to_list() == ["extra/s0/i0/0/0@3", "extra/s0/i0/0/2@3", f"{FIRST}/0@9"]
    assert found.select("successes", "tries").rows() == [(1, 2), (1, 2), (0, 0)]


def test_the_oldest_branches_are_forgotten() -> None:
    branches = past((0.5, 7, 1, 2), (0.75, 7, 1, 2))
    found = choose(hard(0.5), branches, calibration={"min_branches": 2, "remember": 2})["choose_prefixes_branches"]
    assert found["prefix_id"].to_list()[0] == "extra/s0/i0/0/1@3"
    assert len(found) == 2


def test_there_is_no_fit_with_few_branches_or_without_a_success() -> None:
    config = CalibrationConfig(min_branches=2)
    assert fit_of(past((0.5, 7, 1, 2)), config) is None
    assert fit_of(past((0.5, 7, 0, 2), (0.5, 7, 0, 2)), config) is None
    assert fit_of(past((0.5, 7, 2, 2), (0.5, 7, 2, 2)), config) is None
    assert fit_of(past((0.5, 7, 1, 2), (0.5, 7, 0, 0)), config) is None
    assert fit_of(past((0.5, 7, 1, 2), (0.5, 7, 0, 2)), config) is not None


def test_other_ranks_record_no_branches() -> None:
    made = choose(hard(0.5), past((0.5, 7, 1, 2)), rank="low_mean_surprisal")
    assert made["choose_prefixes_branches"]["prefix_id"].to_list() == ["extra/s0/i0/0/0@3"]  # as they were
    assert made["choose_prefixes"]["estimate"].to_list() == [None] * 3


def test_rare_failures_are_cut_where_half_of_the_continuations_are_expected_to_be_correct() -> None:
    """By hand: ln(q / (1 - q)) is ln 3 with 13 tokens left and -ln 3 with 1, so 0 with 7: the cut after 3 leaves 7."""
    nearly = group("rrrw", group_id=FIRST, response_tokens=TOKENS, sampler_logprob=-0.5)
    other = group("rrww", group_id="extra/s0/i1/1", problem_id="p1", response_tokens=TOKENS)
    settings: dict[str, Any] = {"min_pass_rate": 0.75, "max_pass_rate": 0.9, "rank": "calibrated_half"}
    cold = choose([*nearly, *other], **settings)["choose_prefixes"]
    assert cold["parent_rollout_id"].unique().to_list() == [f"{FIRST}/3"]
    assert cold.filter("chosen")["prefix_id"].to_list() == [f"{FIRST}/3@6"]  # 6 of 10 tokens are nearest to the half
    branches = past((0.5, 13, 3, 4), (0.5, 1, 1, 4))
    warm = choose(nearly, branches, calibration={"min_branches": 2, "ridge": 1e-9}, **settings)["choose_prefixes"]
    expected = [1 / (1 + 3 ** (-(left - 7) / 6)) for left in (7, 4, 1)]
    assert warm["estimate"].to_list() == pytest.approx(expected, abs=1e-5)
    assert warm.filter("chosen")["prefix_id"].to_list() == [f"{FIRST}/3@3"]
    assert choose(nearly, **{**settings, "min_pass_rate": 0.8})["choose_prefixes"].is_empty()


def test_a_prefix_without_logprobs_cannot_be_estimated() -> None:
    tables = tables_of(hard(0.5))
    tables["generate"] = tables["generate"].with_columns(sampler_logprobs=pl.lit(None, pl.List(pl.Float32)))
    paths = {"policy": MANIFEST, "initial": MANIFEST}
    with pytest.raises(InputError, match="sampler's logprobs"):
        run_stage(choose_prefixes, tables, CONFIG, paths=paths, iteration=1)
    assert features_of([]).shape == (0, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut": "none"}, "needs a cut"),
        ({"smoothing": "policy"}, "smoothing: none"),
        ({"min_pass_rate": 0.5}, "min_pass_rate 0.5 must not exceed max_pass_rate 0.0"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(hard(0.5), **changes)
