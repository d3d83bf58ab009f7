"""`extra plan`: merged files, flags, tables, JSON, errors; the project's own configurations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from extra_cli.main import main
from tests.conftest import ROOT

PAPER = ROOT / "config" / "qwen3-1.7b.yaml"
SINGLE = ROOT / "config" / "qwen3-1.7b-1gpu.yaml"


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_published_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    """The counts of docs/method.md 5, and the bytes of a 1.7B model."""
    plan = planned(capsys, str(PAPER))
    extra = plan["at_most"]["arms"]["extra"]
    assert (extra["iteration"]["fresh"], extra["iteration"]["regenerated"]) == (512 * 6, 16 * 6)
    assert (extra["fresh"], extra["regenerated"]) == (300 * 3072, 270 * 96)  # after a warm-up of 30
    assert plan["at_most"]["arms"]["published"]["regenerated"] == 269 * 96  # sampled with the next iteration's batch
    assert extra["sampled_tokens"] == (300 * 3072 + 270 * 96) * 4096
    assert plan["expected"]["arms"]["grpo"]["sampled_tokens"] == 300 * 3072 * 2048
    assert plan["problems"]["held_out"] == {
        "aime24": 30,
        "aime25": 30,
        "amc23": 40,
        "math500": 500,
        "minerva": 272,
        "olympiadbench": 675,
    }
    assert plan["expected"]["evaluation"]["samples"] == 1547 * 16
    assert plan["run"]["evaluations"] == 1 + 3 * 6
    assert plan["run"]["jobs"] == 6 + 3 * (300 * 12 + 6)
    kept = extra["bytes"]
    assert kept["weights"] == 7 * 4 * 1_720_574_976  # 50, 100, ... 300, and the one before the last
    assert kept["optimizer"] == 2 * 8 * 1_720_574_976
    assert plan["notes"] == []
    arms = plan["expected"]["arms"].values()
    assert plan["expected"]["total"]["bytes"] == pytest.approx(
        sum(sum(arm["bytes"].values()) for arm in arms)
        + 19 * plan["expected"]["evaluation"]["bytes"]
        + 4 * 1_720_574_976  # the initial policy
    )
    assert plan["expected"]["total"]["hours"] == pytest.approx(
        sum(arm["hours"] for arm in arms) + 19 * plan["expected"]["evaluation"]["hours"]
    )


@pytest.mark.parametrize("path", [PAPER, SINGLE], ids=lambda path: path.stem)
def test_the_configurations_fit_into_80_gb(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, str(path), "--device", "a100")
    assert {"generate", "regenerate", "score_entropy", "update", "evaluate"} == set(plan["memory"])
    for stage, parts in plan["memory"].items():
        assert sum(parts.values()) < 0.9 * 80e9, stage


def test_the_single_accelerator_differs_where_it_says() -> None:
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
    assert plan["expected"]["arms"]["grpo"]["iteration"]["fresh"] == 8 * 4
    assert plan["expected"]["arms"]["published"]["iteration"]["regenerated"] == 0


def test_the_table_names_its_units_and_assumptions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(PAPER), "--device", "rtx4090", "--mean-length", "1000"]) == 0
    said = capsys.readouterr().out
    assert "3 arm(s) x 1 seed(s) x 300 iterations" in said
    assert "1.72G parameters" in said
    assert "TOO MUCH" in said  # 24 GB
    assert "responses of 1,000 tokens (--mean-length) of at most 4,096" in said
    assert max(map(len, said.splitlines())) < 140


TRANSFORMERS = "sampling={backend: transformers, batch_rows: 48}"


def test_the_backend_decides_what_sampling_is_taken_to_cost(capsys: pytest.CaptureFixture[str]) -> None:
    """Hours as the configuration's own comments and docs/math.md state them."""
    engine = planned(capsys, str(PAPER))
    loop = planned(capsys, str(PAPER), "--config", TRANSFORMERS)
    assert engine["assumptions"]["decoders"] == {"vllm": {"step_seconds": 0.01, "utilisation": 0.5}}
    assert loop["assumptions"]["decoders"] == {"transformers": {"step_seconds": 0.03, "utilisation": 0.4}}
    assert 4 < loop["expected"]["total"]["hours"] / engine["expected"]["total"]["hours"] < 5
    slower = planned(capsys, str(PAPER), "--step-ms", "100", "--decoding-utilisation", "0.2")
    assert slower["assumptions"]["decoders"] == {"vllm": {"step_seconds": 0.1, "utilisation": 0.2}}
    assert slower["expected"]["total"]["hours"] > engine["expected"]["total"]["hours"]
    assert slower["expected"]["arms"]["grpo"]["iteration"]["hours"]["update"] == pytest.approx(
        engine["expected"]["arms"]["grpo"]["iteration"]["hours"]["update"]
    )


def test_assumptions_on_decoding_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert main(["plan", str(PAPER), *arguments]) == 0
        return " ".join(capsys.readouterr().out.split())

    plain = said()
    assert "decoding with vllm: at least 10 ms a step (--step-ms), 50% of the device" in plain
    assert "decoding with transformers" not in plain
    assert "by the clock" not in plain
    sharded = said("--config", "generation={shards: 4}")
    assert "hours by the clock in all" in sharded
    assert "shards: 4 sample at the same time" in sharded


def test_shards_shorten_the_clock_not_the_device_hours(capsys: pytest.CaptureFixture[str]) -> None:
    one, four = (
        planned(capsys, str(PAPER), "--config", f"generation={{shards: {n}}}")["expected"]["arms"]["grpo"]
        for n in (1, 4)
    )
    assert one["clock_hours"] == one["hours"]
    sample = four["iteration"]["clock_hours"]["sample"]
    assert 0.25 <= sample / one["iteration"]["clock_hours"]["sample"] < 0.35
    assert four["iteration"]["hours"]["sample"] == pytest.approx(4 * sample)
    assert one["hours"] <= four["hours"] < 1.25 * one["hours"]  # each shard waits for its longest


def test_a_device_too_small_for_vllm_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    small = "sampling={engine: {gpu_memory_utilization: 0.05}}"  # 4 GB: less than the weights and one row
    assert (
        "no room for the keys and values of one row of 6,144"
        in planned(capsys, str(PAPER), "--config", small)["notes"][0]
    )


def test_an_offline_configuration_has_a_plan_too(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, str(ROOT / "config" / "tiny.yaml"))
    assert plan["model"]["parameters"] == 167_296
    assert plan["expected"]["arms"]["grpo"]["iteration"]["fresh"] == 24 * 8
    assert plan["at_most"]["arms"]["extra"]["sampled_tokens"] == 180_000 + 384 * 64


def test_a_longer_response_is_not_cheaper(capsys: pytest.CaptureFixture[str]) -> None:
    short, long = (planned(capsys, str(SINGLE), "--mean-length", n)["expected"]["total"] for n in ("500", "3000"))
    assert all(short[key] <= long[key] for key in ("sampled_tokens", "operations", "hours", "bytes"))
    assert long["sampled_tokens"] == pytest.approx(6 * short["sampled_tokens"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.yaml"], "missing.yaml: no such configuration file"),
        ([str(PAPER), "--config", "iterations"], "--config iterations: expected KEY=VALUE"),
        ([str(PAPER), "--config", "select=[1"], "--config select=[1: not a YAML value"),
        ([str(PAPER), "--config", "itertions=3"], "unknown key(s) itertions"),
        (
            [str(PAPER), "--mean-length", "5000"],
            "--mean-length 5000 is above the configuration's limit of 4,096 tokens",
        ),
        ([str(PAPER), "--mean-prompt", "2049"], "--mean-prompt 2049 is above"),
        ([str(PAPER), "--config", "model={source: someone/else}"], "'someone/else' is no directory here"),
        ([str(PAPER), "--config", "model={context_tokens: 4096}"], "leaves no room for a prompt"),
    ],
    ids=lambda value: None if isinstance(value, list) else value[:30],
)
def test_mistakes_are_one_message(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag", [["--utilisation", "0"], ["--hard-share", "1.5"], ["--step-ms", "-1"], ["--decoding-utilisation", "2"]]
)
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
