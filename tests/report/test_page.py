"""The page of a real small run and of tables written by hand: whole, the same every time, and loading nothing."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from extra_cli.main import main
from extra_rl.report import page
from tests.conftest import Run
from tests.report.results_folder import samples, write_evaluation, write_results

REGIMES = {"low": 50.0, "high": 90.0}
FOLDERS = ["low-grpo", "low-extra", "high-grpo", "high-extra"]
MIXED = {"low-grpo": 3, "low-extra": 5, "high-grpo": 1, "high-extra": 4}


class Read(HTMLParser):
    """Elements, references, ids, texts of headings, and what script elements hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.scripts: dict[str, str] = {}
        self.headings: list[str] = []
        self._open = ""
        self._script = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        if tag == "a":
            self.anchors.append(given.get("href", ""))
        else:
            self.loaded += [given[name] for name in ("src", "href", "srcset", "data", "action") if name in given]
        self._open = tag
        if tag == "script":
            self._script = given.get("id", "")
            self.scripts.setdefault(self._script, "")
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[self._script] += data
        if re.fullmatch(r"h[1-6]", self._open):
            self.headings[-1] += data


def grid(folder: Path, seeds: int = 2) -> Path:
    def right(name: str, seed: int, problem: int) -> int:
        return (2 if name.endswith("extra") else 1) + (seed + problem) % 2

    def groups(name: str, seed: int, iteration: int) -> dict[str, int]:
        counts = {"mixed": MIXED[name], "all_incorrect": 9 - MIXED[name], "all_correct": 1}
        return counts | {"useful_groups": MIXED[name], "compute": 2e12 if name.endswith("extra") else 1e12}

    return write_results(
        folder,
        FOLDERS,
        range(seeds),
        right,
        regimes=REGIMES,
        warm_starts=[0, 1],
        comparisons=["extra - grpo"],
        figures_of=groups,
        cpu_of=lambda name, seed: (3.0 if name.endswith("extra") else 2.0) * (1 + seed),
    )


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Results of two arms in two regimes, and their page without rollouts."""
    results = grid(tmp_path_factory.mktemp("two") / "grid")
    return results, built(results, results.parent / "out.html", "--rollouts", "0")


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grid(tmp_path_factory.mktemp("one") / "grid", seeds=1)


def built(results: Path, out: Path, *arguments: str) -> str:
    assert main(["report", str(results), "--out", str(out), *arguments]) == 0
    return out.read_text()


def assert_loads_nothing(text: str) -> None:
    read = Read(text)
    assert read.loaded == ["data:,"]
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "@import" not in styles
    assert "url(" not in styles
    assert all(anchor.removeprefix("#") in read.ids for anchor in read.anchors if anchor.startswith("#"))
    assert all(anchor.startswith("#") for anchor in read.anchors)
    assert len(read.ids) == len(set(read.ids))


@pytest.mark.slow
def test_the_page_of_a_real_run(mini_run: Run, tmp_path: Path) -> None:
    text = built(mini_run.results, tmp_path / "report.html")
    assert_loads_nothing(text)
    assert len(text) < 6e6
    headings = Read(text).headings
    for expected in (
        "What each arm reaches",
        "Pass rate of training groups against sampled tokens",
        "pass@k of the final policies, k = 1 to all samples",
        "Fresh groups: all incorrect, mixed, all correct",
        "Distinct correct solutions per problem",
        "What each arm spent",
        "What differs between the arms",
        "Where the numbers come from",
        "Rollouts",
    ):
        assert expected in headings
    assert "One seed cannot tell whether the arms differ" in text
    assert json.loads(Read(text).scripts["explorer-data"])["rows"]


def test_figures_by_regime_come_first(two_seeds: tuple[Path, str]) -> None:
    _, text = two_seeds
    assert_loads_nothing(text)
    read = Read(text)
    titles = read.headings
    assert titles[1:3] == ["What each arm reaches", "Comparisons named before the run"]
    (by_regime,) = re.findall(r'aria-label="Named comparisons by regime">(.*?)</table>', text, re.DOTALL)
    assert re.findall(r'<th scope="col">(.*?)</th>', by_regime) == ["comparison", "low", "high"]
    assert re.findall(r"<span>(.*?)</span>", by_regime) == ["+25.0", "0.0"] * 2  # pass@1 and pass@4, none significant
    assert titles[3:7] == [
        "Gain over grpo against the useful groups that grpo finds",
        "What each arm spent, relative to grpo",
        "Useful groups per unit of cost, and rescued groups",
        "The same gains over grpo, with its useful groups to scale",
    ]
    gain = json.loads(read.scripts["gain-1"])
    # extra has one right sample of four more than grpo in every problem: 25 points of pass@1 at either regime
    shown = [(row["arm"], row["where"], row["value"], row["mean"]) for row in gain["data"]["values"]]
    assert shown == [("extra", "low", 50.0, 25.0), ("extra", "high", 90.0, 25.0)]
    # grpo finds fewer useful groups in `high`, which is therefore on the left; one arm besides the base, so no offset
    assert [row["x"] for row in gain["data"]["values"]] == [1.0, 0.0]
    # the point states what it cost: as many tokens, twice the FLOP, 3 CPU-seconds for 2
    assert [[row[name] for name in ("tokens", "compute", "seconds")] for row in gain["data"]["values"]] == [
        [1, 2, 1.5]
    ] * 2
    assert r'[["1", "high", "(90)"], ["3", "low", "(50)"]][datum.value]' in read.scripts["gain-1"].replace("\\", "")
    fed = json.loads(read.scripts["starvation-1"])
    # x is what grpo finds in the same regime in its iterations of 1,000 tokens, not what extra finds
    placed = [(row["arm"], row["useful"], row["mean"]) for row in fed["data"]["values"]]
    assert placed == [("extra", 3.0, 25.0), ("extra", 1.0, 25.0)]
    assert "explorer-data" not in read.scripts


def test_what_the_gain_cost_and_what_was_found_for_it(two_seeds: tuple[Path, str]) -> None:
    """An iteration has 1,000 tokens; 1 TFLOP (grpo) or 2; with seed 0 2 CPU-seconds or 3, with seed 1 twice as many."""
    scripts = Read(two_seeds[1]).scripts

    def means(name: str) -> dict[tuple[str, str], float]:
        return {(row["arm"], row["where"]): row["mean"] for row in json.loads(scripts[name])["data"]["values"]}

    for number, ratio in enumerate((1.0, 2.0, 1.5), start=1):
        assert means(f"cost-{number}") == {("extra", "low"): ratio, ("extra", "high"): ratio}
    names = re.findall(r'data-spec="cost-\d" aria-label="([^"]+)"', two_seeds[1])
    assert [name.partition(": ")[2] for name in names] == ["sampled tokens", "TFLOP", "CPU-seconds"]
    assert means("useful-1") == {(name.split("-")[1], name.split("-")[0]): count for name, count in MIXED.items()}
    assert means("useful-2")["extra", "low"] == 2.5  # 5 groups for 2 TFLOP
    # 5 groups in 3 and in 6 seconds
    assert means("useful-3")["extra", "low"] == pytest.approx((5 / 3 + 5 / 6) / 2, rel=1e-4)
    assert set(means("useful-4").values()) == {0.0}
    places = {(row["arm"], row["where"]): row["x"] for row in json.loads(scripts["useful-1"])["data"]["values"]}
    # 0.7 of the distance between two regimes is shared by two arms
    assert places == {
        (arm, regime): pytest.approx(place + shift)
        for arm, shift in (("grpo", -0.175), ("extra", 0.175))
        for regime, place in (("high", 0), ("low", 1))
    }
    assert "useful-5" not in scripts


def test_the_budget_names_three_currencies_for_every_arm_and_seed(two_seeds: tuple[Path, str]) -> None:
    text = two_seeds[1]
    budget, seeds = text[text.index('aria-label="Budget"') :].split("What each seed spent")
    rows = re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', budget)
    grpo, extra = (re.sub(r" ?(<[^>]+>)+", "|", cells).strip("|") for _, cells in rows[:2])
    # means of two seeds over two iterations: 2,000 tokens, 2 TFLOP, 2 x 2 and 2 x 4 CPU-seconds
    assert grpo == "2,000|no budget|2|6|12|2.0|333|3|3|1.12|0"
    assert extra == "2,000|&times;1|no budget|4|&times;2|9|&times;1.5|18|2.0|222|5|2.5|1.25|0"
    first = re.findall(r"<td>(.*?)</td>", seeds)[:8]
    assert first == ["0", "2,000", "2", "4", "6", "3", "3", "1.5"]
    assert ">CPU-seconds</span>" in budget


def test_gains_over_a_second_base_have_their_own_panels(tmp_path: Path) -> None:
    """`dynamic` is the base of three named comparisons, the warm start of as many; the first arm is always one."""
    results = write_results(
        tmp_path / "grid",
        [f"{regime}-{arm}" for regime in REGIMES for arm in ("grpo", "dynamic", "extra", "other")],
        [0, 1],
        lambda name, seed, problem: 1 + seed + name.endswith("extra"),
        regimes=REGIMES,
        comparisons=[
            *("extra - dynamic", "other - dynamic", "warm_start - dynamic", "other - extra"),
            *(f"{arm} - warm_start" for arm in ("extra", "other", "dynamic")),
        ],
    )
    text = built(results, tmp_path / "out.html", "--rollouts", "0")
    labels = re.findall(r'data-spec="gain-\d" aria-label="[^"]+: ([^"]+)"', text)
    assert labels == [f"over {base}, pass@{k}" for base in ("grpo", "dynamic") for k in (1, 4)]
    shown = json.loads(Read(text).scripts["gain-3"])["data"]["values"]
    assert {(row["arm"], row["where"]): row["mean"] for row in shown} == {
        (arm, regime): points for arm, points in (("extra", 25.0), ("other", 0.0)) for regime in REGIMES
    }
    # without records nothing is known of seconds, so nothing is shown of them
    assert not re.search(r'data-spec="cost-3"', text)
    assert "seconds" not in json.loads(Read(text).scripts["gain-1"])["data"]["values"][0]


def test_with_one_seed_no_difference_is_tested_and_nothing_is_shown_for_unknown_numbers(
    one_seed: Path, tmp_path: Path
) -> None:
    text = built(one_seed, tmp_path / "out.html", "--rollouts", "0")
    assert "One seed cannot tell whether the arms differ." in text
    (named,) = re.findall(r'aria-label="Named comparisons">(.*?)</table>', text, re.DOTALL)
    assert re.findall(r"<td>(yes|no|not tested)</td>", named) == ["not tested"] * 4  # two regimes, pass@1 and pass@4
    assert named.count("<td></td>") == 4 * 4  # t, bootstrap, p and Holm p
    assert not re.search(r"\b(None|nan)\b", named)


def test_every_chart_has_its_data_and_a_name(two_seeds: tuple[Path, str]) -> None:
    _, text = two_seeds
    specs = re.findall(r'class="chart" role="group" data-spec="([^"]+)" aria-label="[^"]+"', text)
    scripts = Read(text).scripts
    assert len(specs) > 10
    for name in specs:
        assert json.loads(scripts[name])["data"]["values"]


def test_the_same_results_give_the_same_bytes(two_seeds: tuple[Path, str], tmp_path: Path) -> None:
    results, text = two_seeds
    assert built(results, tmp_path / "again.html", "--rollouts", "0") == text


def test_an_unfinished_run_has_a_page_that_lists_what_is_missing(two_seeds: tuple[Path, str], tmp_path: Path) -> None:
    results = Path(shutil.copytree(two_seeds[0], tmp_path / "grid"))
    for name in ("compare.parquet", "compare_differences.parquet", "summary.json"):
        (results / name).unlink()
    (results / "high-extra" / "s1" / "iteration_0001" / "evaluate_figures.parquet").unlink()
    (results / "high-extra" / "s1" / "iteration_0001" / "summarize.parquet").unlink()
    text = built(results, tmp_path / "out.html", "--rollouts", "0")
    assert "The run is not finished" in text
    assert "high-extra/s1 has 1 of 2 iterations." in text
    assert "Gain over" not in text


def test_results_without_iterations_are_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "no finished iteration below it" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


HOSTILE = "</script><script>window.hacked=1</script><!--<img src=x onerror=1>&\u2028\u2029"


def test_hostile_text_cannot_leave_its_script_element() -> None:
    text = str(page.embedded({"response": HOSTILE}))
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == {"response": HOSTILE}


def test_a_hostile_name_is_shown_as_text(one_seed: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(one_seed, tmp_path / "grid"))
    last = results / "low-grpo" / "s0" / "iteration_0001"
    hostile = samples(lambda problem: 1).with_columns(benchmark=pl.lit(HOSTILE))
    write_evaluation(last, hostile)
    text = built(results, tmp_path / "out.html", "--rollouts", "0")
    assert "<script>window.hacked" not in text
    assert "<img src=x" not in text
    assert "&lt;/script&gt;&lt;script&gt;window.hacked=1" in text
    assert_loads_nothing(text)


def test_an_arm_that_samples_nothing_has_no_rates_per_token(tmp_path: Path) -> None:
    """`generate.source: demonstrations` trains on worked solutions: no tokens, nothing mixed or rescued."""
    nothing = dict.fromkeys(
        ("groups", "all_incorrect", "mixed", "all_correct", "sampled_tokens", "total_sampled_tokens"), 0
    ) | dict.fromkeys(("pass_rate", "mean_entropy", "mean_length"))
    results = write_results(
        tmp_path / "grid",
        ["low-grpo", "low-supervised", "high-grpo", "high-supervised"],
        [0],
        lambda folder, seed, problem: 1,
        regimes=REGIMES,
        figures_of=lambda folder, seed, iteration: nothing if folder.endswith("supervised") else {},
    )
    text = built(results, tmp_path / "out.html", "--rollouts", "0")
    budget = text[text.index('aria-label="Budget"') : text.index("What each seed spent")]
    rows = re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', budget)
    last_four = [(arm, re.findall(r"<td>([^<]*)</td>", cells)[-4:]) for arm, cells in rows]
    assert last_four == [("grpo", ["0", "", "", "0"]), ("supervised", ["", "", "", ""])] * 2
