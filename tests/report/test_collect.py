"""What the report reads from a results folder, on tables written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.errors import InputError
from extra_rl.report import answer, collect, curves, problems, provenance, sources, spent, tables
from tests.report.results_folder import footer, write_iteration, write_results

REGIMES = {"low": 50.0, "high": 90.0}


def right(folder: str, seed: int, problem: int) -> int:
    """Of four samples: GRPO 1 in every problem, extra 2 with an even seed and 3 with an odd one, warm starts 0."""
    if folder.startswith("warm_start"):
        return 0
    return 1 if folder.endswith("grpo") else 2 + seed % 2


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "hand"
    return write_results(
        folder,
        ["grpo", "extra"],
        [0, 1],
        right,
        iterations=3,
        comparisons=["extra - grpo"],
        figures_of=lambda folder, seed, iteration: {"rollouts": 0, "sampled_tokens": 0} if iteration == 2 else {},
    )


def test_a_finished_run_has_its_arms_in_order_and_nothing_missing(results: Path) -> None:
    found = sources.find(results)
    assert (found.arms, found.seeds, found.regimes) == (["grpo", "extra"], [0, 1], [""])
    assert found.section["ks"] == [1, 4]
    assert list(found.warm_starts) == ["warm_start"]
    assert found.missing() == []


def test_a_folder_name_is_split_at_the_first_hyphen_into_regime_and_arm() -> None:
    values: dict[str, float | None] = dict(REGIMES)
    assert sources.cell_of("low-extra-strong", values) == sources.Cell("low-extra-strong", "extra-strong", "low", 50.0)
    assert sources.cell_of("extra-strong", values) == sources.Cell("extra-strong", "extra-strong")


@pytest.mark.parametrize(
    ("folders", "regimes"),
    [
        (["h50-grpo", "h90-grpo", "h90-extra"], ["h50", "h90"]),
        (["extra-weak", "extra-strong"], []),
        (["a-one", "b-two"], []),
        (["grpo", "h50-grpo"], []),
    ],
    ids=["an arm in two", "one beginning", "no arm twice", "a name without"],
)
def test_regimes_are_guessed_from_names_only_where_an_arm_occurs_twice(folders: list[str], regimes: list[str]) -> None:
    assert list(sources.guessed_regimes(folders)) == regimes


def test_an_unfinished_run_lists_what_is_missing(tmp_path: Path) -> None:
    root = write_results(tmp_path / "part", ["low-grpo", "high-grpo"], [0, 1], right, compared=False, warm_starts=[])
    write_iteration(root / "low-grpo" / "s0" / "iteration_0002", "low-grpo", 0, 2)
    write_iteration(root / "high-extra" / "s1" / "iteration_0000", "high-extra", 1, 0)
    said = " ".join(sources.find(root).missing())
    assert "compare.parquet is missing" in said
    assert "Regimes are guessed" in said
    assert "No warm start has been evaluated" in said
    assert "high-grpo/s0 has 2 of 3 iterations" in said
    assert "high-extra has no finished iteration of seed 0" in said
    assert sources.find(root).regimes == ["high", "low"]


def test_a_folder_without_iterations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished iteration below it"):
        sources.find(tmp_path)


def test_iterations_that_sampled_nothing_are_left_out(results: Path) -> None:
    rows = collect.iterations(sources.find(results))
    assert rows.select("folder", "seed", "iteration").rows() == [
        (folder, seed, iteration) for folder in ("grpo", "extra") for seed in (0, 1) for iteration in (0, 1)
    ]


def test_scores_are_means_over_benchmarks_then_seeds_with_the_sample_sd(results: Path) -> None:
    found = sources.find(results)
    evaluations = collect.evaluations(found)
    scores = answer.scores(evaluations, [1, 4])
    # pass@1 is 1/4 for grpo; 2/4 and 3/4 for extra: mean 62.5, sd 25 / sqrt(2); pass@4 is 1 wherever one is right.
    assert scores["grpo"][1] == answer.Score(25.0, 0.0, 2)
    assert scores["extra"][1].mean == pytest.approx(62.5)
    assert scores["extra"][1].sd == pytest.approx(25 / 2**0.5)
    assert scores["extra"][4].mean == 100.0
    assert scores["warm_start"][1] == answer.Score(0.0, None, 1, (0.0, 0.0))
    finals = evaluations.filter(pl.col("final"))
    assert set(finals["tokens"]) == {3000}
    assert set(evaluations.filter(seed=-1)["tokens"]) == {0}


def test_the_table_has_differences_against_the_first_arm_of_the_same_regime(results: Path) -> None:
    found = sources.find(results)
    table = answer.rows(found, [1], answer.scores(collect.evaluations(found), [1]))
    assert [row["cell"].arm for row in table] == ["warm start", "grpo", "extra"]
    assert [list(row["against"]) for row in table] == [[], [], [1]]
    difference = table[2]["against"][1]
    assert difference.value == pytest.approx(37.5)
    assert difference.t is not None
    # two seeds: 37.5 +- t(0.975, 1 df) 12.7062 * sd 17.6777 / sqrt(2)
    assert difference.t == pytest.approx((37.5 - 12.7062 * 12.5, 37.5 + 12.7062 * 12.5), abs=1e-2)


def said(folder: Path, folders: list[str], seeds: list[int], rights: Any = right, **options: Any) -> str:
    found = sources.find(write_results(folder, folders, seeds, rights, iterations=1, **options))
    ks = answer.ks_of(found, collect.evaluations(found))
    table = answer.rows(
        found, ks, answer.scores(collect.evaluations(found), ks), problems.difference_intervals(found, ks)
    )
    return "\n".join([answer.sentence(found), *answer.sentences(found, table)])


def test_the_sentence_says_which_differences_are_significant_or_why_none_can_be(tmp_path: Path) -> None:
    both = ["grpo", "extra"]
    named = {"comparisons": ["extra - grpo"]}
    assert said(tmp_path / "one", ["grpo"], [0, 1]) == "The run has one arm, grpo, so there is nothing to compare."
    assert said(tmp_path / "part", both, [0, 1], compared=False).startswith("The run is not finished")
    assert said(tmp_path / "open", both, [0, 1]).startswith("No comparison was named before the run")
    one_seed = said(tmp_path / "seed", both, [0], **named)
    assert one_seed.startswith("One seed cannot tell whether the arms differ.")
    # every problem has one more correct sample of four under extra, so resampling problems changes nothing
    assert one_seed.splitlines()[1:] == [
        "extra is 25.0 points above grpo at pass@1 (95 % interval +25.0 to +25.0 over problems, one seed).",
        "extra is equal to grpo at pass@4 (95 % interval 0.0 to 0.0 over problems, one seed).",
    ]
    # eight seeds, all differences positive: p = 2 / 2^8 = 0.0078, times two for pass@1 and pass@4 (which differ by 0)
    eight = said(tmp_path / "eight", both, list(range(8)), **named)
    assert eight.startswith("1 of the 2 differences named before the run is significant (")
    first, second = eight.splitlines()[1:]
    assert first.startswith("extra is 37.5 points above grpo at pass@1 (95 % interval +")
    assert first.endswith(" over 8 seeds), which is significant.")
    assert second.endswith(", which is not significant.")
    # three seeds reach 2 / 2^3 = 0.25 at best, 0.5 after Holm over two
    assert "reach a Holm-adjusted p of 0.5 at best" in said(tmp_path / "few", both, [0, 1, 2], **named)


def a_difference(regime: str, arm: str, k: int, named: bool) -> answer.Difference:
    return answer.Difference(regime, arm, "grpo", k, 5.0, 12, (4.0, 6.0), (4.0, 6.0), 0.01, 0.01, named)


def test_named_comparisons_have_one_cell_per_regime() -> None:
    given = [
        ("high", "extra", 1, True),
        ("low", "extra", 1, True),
        ("low", "extra", 16, True),
        ("high", "novelty", 1, True),
        ("low", "random", 1, False),
    ]
    found = {(regime, arm, k): a_difference(regime, arm, k, named) for regime, arm, k, named in given}
    assert answer.by_regime(list(found.values()), ["low", "high"]) == [
        {
            "comparison": "extra \u2212 grpo",
            "cells": [
                {1: found["low", "extra", 1], 16: found["low", "extra", 16]},
                {1: found["high", "extra", 1]},
            ],
        },
        {"comparison": "novelty \u2212 grpo", "cells": [{}, {1: found["high", "novelty", 1]}]},
    ]


def test_curves_over_tokens_interpolate_each_seed() -> None:
    place = {"folder": "a", "arm": "a", "regime": ""}
    rows = pl.DataFrame(
        [
            {**place, "seed": seed, "total_sampled_tokens": tokens, "pass_rate": rate}
            for seed, tokens, rate in [(0, 0, 0.0), (0, 100, 1.0), (1, 0, 0.5), (1, 50, 0.5)]
        ]
    )
    curve = curves.over_tokens(rows, "pass_rate", points=3)
    # at 50 tokens seed 0 is at 0.5 and seed 1 at 0.5; at 100 only seed 0 is left
    assert curve.select("tokens", "mean", "seeds").rows() == [(0.0, 0.25, 2), (50.0, 0.5, 2), (100.0, 1.0, 1)]
    assert curve["low"].to_list() == pytest.approx([0.25 - 0.125**0.5, 0.5, None])
    assert curve["high"].to_list() == pytest.approx([0.25 + 0.125**0.5, 0.5, None])


def test_regeneration_and_composition_count_groups(results: Path) -> None:
    rows = pl.DataFrame(
        [
            {
                "folder": "a",
                "arm": "a",
                "regime": "",
                "seed": 0,
                "iteration": iteration,
                "groups": 10,
                "all_incorrect": 6,
                "mixed": 3,
                "all_correct": 1,
                "sampled_tokens": 2000,
                "regenerated_groups": regenerated,
                "rescued_groups": rescued,
            }
            for iteration, regenerated, rescued in [(0, 0, 0), (1, 5, 1)]
        ]
    )
    rates = curves.regeneration(rows)
    assert rates.filter(what="triggered").select("iteration", "mean").rows() == [(0, 0.0), (1, 0.5)]
    assert rates.filter(what="rescued").select("iteration", "mean").rows() == [(1, 0.2)]
    shares = curves.composition(rows).filter(iteration=1)
    assert dict(shares.select("kind", "share").rows()) == {"all incorrect": 0.6, "mixed": 0.3, "all correct": 0.1}


def test_the_budget_has_overshoot_and_tokens_per_second(results: Path) -> None:
    found = sources.find(results)
    for seed, seconds in (("0", 3.0), ("1", 5.0)):
        known = {"compute_seconds": seconds, "wall_seconds": 2 * seconds + 2, "device_seconds": 0.0}
        found.summary["arms"]["grpo"]["per_seed"][seed] |= known
    sections = {"grpo": {"select": {"token_budget": 1600}}}
    row = tables.spending(found, spent.by_seed(found, collect.iterations(found)), sections)[0]
    assert (row["tokens"], row["budget"], row["steps"]) == (2000.0, 1600, 2.0)
    assert row["overshoot"] == pytest.approx(0.25)
    assert row["compute"] == pytest.approx(0.0)
    assert (row["seconds"], row["wall"], row["tokens_per_second"]) == (4.0, 10.0, 500.0)
    assert row["ratios"] == {"tokens": 1.0, "seconds": 1.0}  # of the base itself; it computed nothing
    assert row["rates"] == {"tokens": 0.0, "seconds": 0.0, "rescued": 0.0}
    assert [one["seconds"] for one in row["by_seed"]] == [3.0, 5.0]


def test_a_key_that_differs_is_listed_once_with_the_arms_of_each_value() -> None:
    def resolved(weight: float, temperature: float) -> dict[str, Any]:
        return {
            "advantage": {"weight": weight, "scale": "none"},
            "generate": {"sampling": {"temperature": temperature}},
            "update": {"sampling": {"temperature": temperature}},
        }

    found = provenance.differing({"": {}, "a": resolved(0.0, 1.0), "b": resolved(0.1, 1.0), "c": resolved(0.1, 0.7)})
    assert found == [
        {"key": "advantage.weight", "values": [("0.0", ["a"]), ("0.1", ["b", "c"])]},
        {"key": "sampling.temperature", "values": [("1.0", ["a", "b"]), ("0.7", ["c"])]},
    ]


def test_the_digest_of_the_configuration_follows_every_section() -> None:
    one = provenance.sections({"a": [footer("select", {"prompts": 6})]})
    other = provenance.sections({"a": [footer("select", {"prompts": 7})]})
    assert one == {"a": {"select": {"prompts": 6}}}
    assert provenance.config_digest(one) != provenance.config_digest(other)
