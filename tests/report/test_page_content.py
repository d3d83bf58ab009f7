"""What the page says of a run: what was run, how far it is, its training, and the words that it explains."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from markupsafe import Markup
from safetensors.torch import load_file

from extra_cli.main import main
from extra_rl.report import collect, glossary, provenance, setup, sources, training_figures
from extra_rl.report.charts import side_by_side
from extra_rl.report.figure import looks
from extra_rl.report.text import short_number
from extra_rl.run.context import Horizon, RunContext
from extra_rl.tables import contracts
from tests.conftest import Run
from tests.report.results_folder import footer, put
from tests.report.test_page import FOLDERS, built, grid
from tests.stages.rows import frame


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Results of two arms in two regimes, and their page without rollouts."""
    results = grid(tmp_path_factory.mktemp("two") / "grid")
    return results, built(results, results.parent / "out.html", "--rollouts", "0")


def test_the_page_begins_with_what_was_run(two_seeds: tuple[Path, str]) -> None:
    _, text = two_seeds
    head = text[text.index("<header>") : text.index('class="answer"')]
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", re.sub(r"</?span[^>]*>", "", head)))
    assert facts["arms"] == "grpo, extra; 2 seeds each; regimes low, high"
    assert facts["iterations"] == "2"
    assert facts["held-out problems"] == "8 (A, B), 4 samples each"


@pytest.mark.slow
def test_what_was_run_in_a_real_run(mini_run: Run) -> None:
    found = sources.find(mini_run.results)
    footers = provenance.footers(found)
    facts = dict(setup.what_was_run(found, provenance.sections(footers)))
    assert dict(provenance.facts(found, footers))["code"].startswith("extra-rl 0.1.0")
    weights = sum(
        tensor.numel()
        for tensor in load_file(mini_run.results / "warm_start" / "policy" / "model.safetensors").values()
    )
    assert setup.parameters(found) == weights
    assert facts == {
        "task": "signed_sum",
        "model": f"policy, {short_number(weights)} weights, no warm start",
        "arms": "grpo, extra; 1 seed each",
        "learning rate": "0.0003",
        "group size G": "4",
        "problems per iteration": "6",
        "temperature": "1",
        "response limit": "64 tokens",
        "iterations": facts["iterations"],
        "token budget": "1,400 sampled tokens",
        "training problems": "120",
        "held-out problems": "12 (L1, L2, L3, L4, L5, L6), 4 samples each",
    }


def test_values_that_differ_between_arms_name_their_arms(two_seeds: tuple[Path, str]) -> None:
    sections = {
        "": {"compare": {}},
        "grpo": {"update": {"learning_rate": 1e-4}, "select": {"prompts": 6, "token_budget": None}},
        "extra": {"update": {"learning_rate": 3e-6}, "select": {"prompts": 6, "token_budget": None}},
    }
    sections["grpo"]["verify"] = {"task": {"name": "sum", "judge": "mine:score"}, "weights": {}}
    weights = {"correct": 1.0, "length": -0.01}
    sections["extra"]["verify"] = {"task": {"name": "sum", "judge": "mine:score"}, "weights": weights}
    facts = dict(setup.what_was_run(sources.find(two_seeds[0]), sections))
    assert facts["task"] == "sum"
    assert facts["reward"] == "mine:score (grpo); mine:score, 1 correct - 0.01 length (extra)"
    assert facts["learning rate"] == "0.0001 (grpo); 3e-06 (extra)"
    assert facts["problems per iteration"] == "6"
    assert "token budget" not in facts


def unfinished(results: Path, iterations: int, cells: Sequence[str]) -> str:
    RunContext(horizon=Horizon(iterations), cells=tuple(cells)).write(results)
    return built(results, results.parent / "out.html", "--rollouts", "0")


def test_an_unfinished_run_is_marked_at_the_top(two_seeds: tuple[Path, str], tmp_path: Path) -> None:
    results = Path(shutil.copytree(two_seeds[0], tmp_path / "grid"))
    cells = [f"{folder}/s{seed}" for folder in FOLDERS for seed in (0, 1)]
    assert "Unfinished" not in unfinished(results, 2, cells)
    text = unfinished(results, 40, [*cells, "low-other/s0"])
    head = text[text.index("<header>") : text.index('class="answer"')]
    assert "Unfinished: 16 of 360 iterations (9 arms and seeds of 40)." in head
    # it was compared after two iterations: that comparison is of another, shorter run
    assert "is of an earlier, shorter run and left out" in text
    assert "No finished iteration of low-other." in text
    assert "Comparisons named before the run" not in text


def test_a_damaged_table_is_one_clear_error(
    two_seeds: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Path(shutil.copytree(two_seeds[0], tmp_path / "grid"))
    damaged = results / "low-grpo" / "s0" / "iteration_0001" / "summarize.parquet"
    damaged.write_bytes(b"PAR1 cut off")
    assert main(["report", str(results)]) == 2
    assert f"{damaged}: not a readable Parquet file" in capsys.readouterr().err
    assert not (results / "report.html").exists()


def test_a_damaged_context_is_one_clear_error(
    two_seeds: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Path(shutil.copytree(two_seeds[0], tmp_path / "grid"))
    (results / "context.json").write_text("{")
    assert main(["report", str(results)]) == 2
    assert "context.json: not the context of a run" in capsys.readouterr().err


def test_the_training_panel_shows_means_of_summaries_and_steps(two_seeds: tuple[Path, str], tmp_path: Path) -> None:
    results = Path(shutil.copytree(two_seeds[0], tmp_path / "grid"))
    for seed, kl in ((0, 0.125), (1, 0.375)):
        steps = [
            dict.fromkeys(contracts.UpdateSteps.columns(), 0.0)
            | {"step": step, "approx_kl": kl, "clipped_low": 0.125, "clipped_high": 0.25 * step}
            for step in (0, 1)
        ]
        put(
            frame(contracts.UpdateSteps, steps),
            results / "low-grpo" / f"s{seed}" / "iteration_0001" / "update.parquet",
            contracts.UpdateSteps,
            footer("update", {}),
        )
    found = sources.find(results)
    rows = collect.updates(found).filter(folder="low-grpo").sort("seed")
    assert rows.select("seed", "iteration", "approx_kl").rows() == [(0, 1, 0.125), (1, 1, 0.375)]
    assert rows["clip_share"].to_list() == [0.25, 0.25]  # means of two steps: 0.125 from below, 0 and 0.25 from above
    iterations = collect.iterations(found)
    (panel,) = training_figures.update(found, iterations, collect.updates(found), looks(found.arms))
    kl = next(p for p in panel.panels if p.label.endswith("KL of the updates"))
    assert [row["mean"] for row in kl.spec["data"]["values"]] == [0.25]
    assert {p.label.partition(", ")[2] for p in panel.panels} >= {"loss", "gradient norm", "clip share", "cut off"}


def test_no_difference_is_written_with_a_sign_and_zero(two_seeds: tuple[Path, str]) -> None:
    assert not re.search(r"[+\u2212]0\.0(?!\d)", re.sub(r"<script.*?</script>", "", two_seeds[1], flags=re.DOTALL))


def test_words_are_explained_once_in_a_text_and_stay_escaped() -> None:
    text = str(glossary.explained("pass@1, pass@4 and pass@1 of <b>groups</b> & groups"))
    assert "&lt;b&gt;" in text
    assert re.findall(r'<span class="term" tabindex="0" data-tip="[^"<>]+">(.*?)</span>', text) == [
        *("pass@1", "pass@4", "groups"),
    ]
    inside = str(glossary.explained(Markup('<a title="group">an arm</a>&nbsp;% of charmed groups')))
    assert '<a title="group">' in inside
    assert inside.count('class="term"') == 2


def test_rewards_are_shown_where_they_are_not_the_pass_rate(two_seeds: tuple[Path, str]) -> None:
    results, text = two_seeds
    assert 'id="rewards"' not in text
    found = sources.find(results)
    rows = collect.iterations(found)
    arms = looks(found.arms)

    def panels(rows: pl.DataFrame) -> dict[str, list[float]]:
        (figure,) = training_figures.rewards(found, rows, arms)
        return {panel.label: [value["mean"] for value in panel.spec["data"]["values"]] for panel in figure.panels}

    assert panels(rows) == {}
    numbers = [{"name": "format", "value": 0.5}, {"name": "length", "value": 20.0}]
    weighted = rows.with_columns(
        mean_reward=pl.lit(0.75), mean_numbers=pl.Series([numbers] * len(rows), dtype=rows["mean_numbers"].dtype)
    )
    shown = panels(weighted)
    assert {title.rpartition(" ")[2] for title in shown} == {"reward", "format", "length"}
    for title, values in shown.items():
        assert set(values) == {{"reward": 0.75, "format": 0.5, "length": 20.0}[title.rpartition(" ")[2]]}


def test_the_arms_of_a_regime_are_drawn_side_by_side() -> None:
    rows = pl.DataFrame({"regime": ["low", "low", "high", "high"], "arm": ["grpo", "extra"] * 2})
    x = rows.select(side_by_side("regime", ["low", "high"], looks(["grpo", "extra"]))).to_series()
    assert x.to_list() == pytest.approx([-0.175, 0.175, 0.825, 1.175])  # 0.7 / 2 apart
