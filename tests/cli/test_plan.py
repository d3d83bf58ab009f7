"""`extra plan`: merged files, flags, tables, JSON, errors; the project's own configurations."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from extra_cli.main import main
from tests.conftest import ROOT
from tests.planning.test_rate import iteration

PAPER = ROOT / "config" / "qwen3-1.7b.yaml"
SINGLE = ROOT / "config" / "qwen3-1.7b-1gpu.yaml"
TINY = ROOT / "config" / "tiny.yaml"


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_published_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    """The counts of docs/method.md 5, and the bytes of a 1.7B model."""
    plan = planned(capsys, str(PAPER))
    extra = plan["arms"]["extra"]
    assert (extra["iteration"]["fresh"], extra["iteration"]["regenerated"]) == (512 * 6, 16 * 6)
    assert (extra["fresh"], extra["regenerated"]) == (300 * 3072, 270 * 96)  # after a warm-up of 30
    assert plan["arms"]["published"]["regenerated"] == 269 * 96  # sampled with the next iteration's batch
    assert extra["sampled_tokens"] == (300 * 3072 + 270 * 96) * 4096
    assert plan["problems"]["held_out"] == {
        "aime24": 30,
        "aime25": 30,
        "amc23": 40,
        "math500": 500,
        "minerva": 272,
        "olympiadbench": 675,
    }
    assert plan["evaluation"]["samples"] == 1547 * 16
    assert plan["run"]["evaluations"] == 1 + 3 * 6
    assert plan["run"]["jobs"] == 6 + 3 * (300 * 12 + 6)
    kept = extra["bytes"]
    assert kept["weights"] == 7 * 4 * 1_720_574_976  # 50, 100, ... 300, and the one before the last
    assert kept["optimizer"] == 2 * 8 * 1_720_574_976
    assert plan["notes"] == []
    assert plan["time"] is None
    assert plan["total"]["bytes"] == pytest.approx(
        sum(sum(arm["bytes"].values()) for arm in plan["arms"].values())
        + 19 * plan["evaluation"]["bytes"]
        + 4 * 1_720_574_976  # the initial policy
    )


@pytest.mark.parametrize("path", [PAPER, SINGLE], ids=lambda path: path.stem)
def test_the_floors_of_the_configurations_fit_into_80_gb(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, str(path), "--memory", "80")
    assert {"generate", "regenerate", "score_entropy", "update", "evaluate"} == set(plan["memory"])
    assert plan["too_much"] == {}


def test_a_device_too_small_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    """30 GB hold no weights, gradient and optimizer of 1.7B; 4 GB of a share no weights and one row of vLLM's."""
    small = ["--config", "sampling={engine: {gpu_memory_utilization: 0.05}}"]
    plan = planned(capsys, str(PAPER), *small, "--memory", "30")
    assert set(plan["too_much"]) == {"generate", "regenerate", "evaluate", "update"}
    assert plan["too_much"]["generate"] == pytest.approx(1.5e9)
    assert main(["plan", str(PAPER), *small, "--memory", "30"]) == 0
    assert "EXCEEDS 1.5 GB" in capsys.readouterr().out


def test_the_single_accelerator_configuration_marks_its_differences() -> None:
    """And its comments mark exactly those lines."""

    def leaves(value: Any, place: str = "") -> dict[str, Any]:
        if not isinstance(value, dict) or not value:
            return {place: value}
        return {k: v for key, item in value.items() for k, v in leaves(item, f"{place}.{key}".lstrip(".")).items()}

    paper, single = (leaves(yaml.safe_load(path.read_text())) for path in (PAPER, SINGLE))
    different = {key for key in paper | single if paper.get(key, "") != single.get(key, "")}
    assert different == {
        *("name", "iterations", "evaluate_every", "retention.weights_every", "select.prompts"),
        *("score_entropy.tokens_per_batch", "update.tokens_per_batch", "arms.extra.choose_prefixes.groups"),
        "arms.published.preset",
    }
    marked = [line for line in SINGLE.read_text().splitlines() if "# [1]" in line]
    assert len(marked) == len(different) - 1  # a missing arm has no line


def test_files_and_keys_are_merged_as_snakemake_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("select: {prompts: 8}\narms: {published: null}\n")
    plan = planned(capsys, str(PAPER), str(overlay), "--config", "iterations=10", "generate={group_size: 4}")
    assert plan["run"]["iterations"] == 10
    assert plan["arms"]["grpo"]["iteration"]["fresh"] == 8 * 4
    assert plan["arms"]["published"]["iteration"]["regenerated"] == 0


def test_without_a_measurement_a_line_says_how_to_get_hours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", str(PAPER)]) == 0
    printed = capsys.readouterr().out
    assert "3 arm(s) x 1 seed(s) x 300 iterations" in printed
    assert "1.72G parameters" in printed
    assert " hours" not in printed
    assert "--from results/NAME" in printed
    assert max(map(len, printed.splitlines())) < 140


def test_finished_iterations_give_hours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    iteration(tmp_path / "grpo/s0/iteration_0000", {"generate": 3.0, "score_entropy_generate": 1.0, "verify": 4.0}, 40)
    plan = planned(capsys, str(TINY), "--from", str(tmp_path))
    assert plan["time"]["seconds_per_token"] == pytest.approx(8 / 40)
    assert 0 < plan["time"]["hours"]["expected"] <= plan["time"]["hours"]["at_most"]
    assert main(["plan", str(TINY), "--from", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"time: \S+ hours expected, \S+ at most", printed)
    assert f"measured in {tmp_path}: 1 iteration(s), 5 response tokens per second, 20 tokens per response" in printed


def test_an_offline_configuration_has_a_plan_too(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, str(TINY), "--config", "select={compute_budget: null, token_budget: 180000}")
    assert plan["model"]["parameters"] == 167_296
    assert plan["arms"]["grpo"]["iteration"]["fresh"] == 24 * 8
    assert plan["arms"]["extra"]["sampled_tokens"] == 180_000 + 3 * 24 * 8 * 64  # fresh, continued and replayed groups


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("select={token_budget: 1000}", "select.token_budget"),
        ("select={compute_budget: 1.0e+12, token_budget: null}", "select.compute_budget"),
        ("score_entropy={rows: signal}", "score_entropy.rows: signal"),
        ("generate={source: demonstrations}", "generate.source: demonstrations"),
        ("generate={rounds: 2}", "generate.rounds"),
    ],
)
def test_what_the_bound_leaves_out_is_noted(change: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, str(TINY), "--config", "arms={extra: null}", change)
    assert any(note.startswith(key) for note in plan["notes"])


def test_budgets_bound_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, str(TINY), "--config", "select={compute_budget: 1.0e+12, token_budget: null}")
    for arm in plan["arms"].values():
        assert arm["flop"] == min(1e12 + arm["iteration"]["flop"], plan["run"]["iterations"] * arm["iteration"]["flop"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.yaml"], "missing.yaml: no such configuration file"),
        ([str(PAPER), "--config", "iterations"], "--config iterations: expected KEY=VALUE"),
        ([str(PAPER), "--config", "select=[1"], "--config select=[1: not a YAML value"),
        ([str(PAPER), "--config", "itertions=3"], "itertions: unknown key; did you mean `iterations`?"),
        ([str(PAPER), "--from", "nowhere"], "nowhere: no finished iteration"),
        ([str(PAPER), "--config", "model={source: someone/else}"], "'someone/else' is no local directory"),
        ([str(PAPER), "--config", "model={context_tokens: 4096}"], "leaves no tokens for a prompt"),
    ],
    ids=lambda value: None if isinstance(value, list) else value[:30],
)
def test_a_mistake_is_one_message(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("flag", [["--memory", "0"], ["--memory", "inf"], ["--memory", "-1"]])
def test_flags_out_of_range_are_refused(flag: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["plan", str(PAPER), *flag])
    assert error.value.code == 2
    assert flag[0] in capsys.readouterr().err


def test_a_plan_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from extra_cli.main import main; main(['plan', sys.argv[1], '--json']); "
        "assert not {'torch', 'transformers', 'datasets', 'huggingface_hub'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(PAPER)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
