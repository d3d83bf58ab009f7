"""The index page over several runs: links, figures, unfinished and damaged runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from extra_cli.main import main
from extra_rl.run.context import Horizon, RunContext
from tests.report.results_folder import write_results
from tests.report.test_page import Read

HOSTILE = "<img src=x onerror=1>"


def right(name: str, seed: int, problem: int) -> int:
    return 0 if seed < 0 else 1 + seed + (name == "extra")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: finished with a report, unfinished without one, and damaged; and a folder that is no run."""
    root = tmp_path_factory.mktemp("results") / "results"
    write_results(root / "done", ["grpo", "extra"], [0, 1], right)
    (root / "done" / "report.html").write_text("<p>")
    write_results(root / f"part {HOSTILE}", ["grpo"], [0], lambda name, seed, problem: 1, compared=False)
    RunContext(horizon=Horizon(10), cells=("grpo/s0", "grpo/s1")).write(root / f"part {HOSTILE}")
    damaged = shutil.copytree(root / "done", root / "wrong")
    (damaged / "grpo" / "s0" / "iteration_0001" / "summarize.parquet").write_bytes(b"PAR1")
    (root / "evaluations").mkdir()
    return root


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    assert main(["report", "--index", str(folder)]) == 0
    return (folder / "index.html").read_text()


def row(page: str, name: str) -> str:
    (found,) = (part for part in re.findall(r"<tr><th.*?</tr>", page, re.DOTALL) if f">{name}" in part)
    return found


def test_a_run_has_its_figures_and_a_link_to_its_report(page: str) -> None:
    found = row(page, "done")
    assert '<a href="done/report.html">done</a>' in found
    scores = re.findall(r"<span>(warm start|grpo|extra)</span><span>.*?pass@1 <b>([\d.]+)</b>", found)
    # of four samples 1 and 2 are correct in the two seeds of grpo, 2 and 3 of extra
    assert scores == [("warm start", "0.0"), ("grpo", "37.5"), ("extra", "62.5")]
    assert "unfinished" not in found


def test_an_unfinished_run_is_marked_and_a_name_is_escaped(page: str) -> None:
    assert HOSTILE not in page
    found = row(page, "part &lt;img")
    assert "unfinished: 2 of 20 iterations" in found
    assert "<a " not in found


def test_a_damaged_run_is_listed_with_the_reason(page: str) -> None:
    assert "iteration_0001/summarize.parquet: not a readable Parquet file" in row(page, "wrong")


def test_the_page_loads_nothing_and_has_the_same_bytes_again(page: str, folder: Path) -> None:
    assert Read(page).loaded == ["data:,"]
    assert main(["report", "--index", str(folder)]) == 0
    assert (folder / "index.html").read_text() == page


def test_a_folder_without_runs_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--index", str(tmp_path)]) == 2
    assert "no run below it" in capsys.readouterr().err
    assert main(["report", "--index", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
