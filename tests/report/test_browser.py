"""The report's rollout explorer in a real headless browser: it works, loads nothing, and shows hostile text as text."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.report.explorer import collect
from extra_rl.report.page import EXPLORER_LIMIT, build
from extra_rl.tables import contracts
from extra_rl.tables.files import read_provenance, write_table
from tests.conftest import Run, copy_of
from tests.report.test_explorer import rows_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')")

pytestmark = pytest.mark.browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HOSTILE = (
    "<script>window.hacked=1</script> </script><!-- <img src=x onerror=window.hacked=1> "
    "<img src=http://example.com/a.png> \u2028 \u2029 \x1b[31m \u202e x &lt;b&gt; \\u003cb {{7*7}} ]]>"
)
SHOWN = (
    HOSTILE.replace("\u2028", "\\u{2028}")
    .replace("\u2029", "\\u{2029}")
    .replace("\x1b", "\\u{1b}")
    .replace("\u202e", "\\u{202e}")
)
PIECE = "<script>window.hacked=1</script><!--<img/src=x/onerror=window.hacked=1>"
"""A word that takes the place of an ordinary token's text."""


@dataclass
class Report:
    """A page on disk, what it was made from, and the rollout that was made hostile."""

    url: str
    rows: dict[str, dict[str, Any]]
    hostile: str


@dataclass
class Seen:
    """What a page has asked for and complained about."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def rewrite(path: Path, contract: Any, change: dict[str, pl.Expr]) -> None:
    write_table(pl.read_parquet(path).with_columns(**change), path, contract, read_provenance(path))


@pytest.fixture(scope="module")
def report(mini_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a real run, one rollout of which is hostile wherever a model or a data set could have written."""
    if BROWSER is None:
        pytest.skip("no browser: install chromium or google-chrome")
    run = copy_of(mini_run, tmp_path_factory.mktemp("browser") / "run")
    results = run.results
    folder = results / "extra" / "s0" / "iteration_0001"
    row = pl.read_parquet(folder / "generate.parquet").filter(pl.col("origin") == "fresh").row(0, named=True)
    hit = pl.col("rollout_id") == row["rollout_id"]
    response = {"response": pl.when(hit).then(pl.lit(HOSTILE)).otherwise("response")}
    rewrite(folder / "generate.parquet", contracts.Rollouts, response)
    answer = {"extracted": pl.when(hit).then(pl.lit(HOSTILE)).otherwise("extracted")}
    rewrite(folder / "verify_generate.parquet", contracts.Verdicts, answer)
    prompt = pl.when(pl.col("problem_id") == row["problem_id"]).then(pl.lit(HOSTILE)).otherwise("prompt")
    rewrite(results / "prepare" / "train.parquet", contracts.Problems, {"prompt": prompt})
    file = results / "warm_start" / "policy" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    words = tokenizer["model"]["vocab"]
    words[PIECE] = words.pop(next(word for word, place in words.items() if place == row["response_tokens"][0]))
    file.write_text(json.dumps(tokenizer))
    page = tmp_path_factory.mktemp("page") / "report.html"
    build(results, page)
    return Report(page.as_uri(), rows_of(collect(results, EXPLORER_LIMIT)), row["rollout_id"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield found
        found.close()


@dataclass
class Opener:
    """Opens the report; `seen` is filled by all pages that it opened."""

    browser: Any
    report: Report
    seen: Seen = field(default_factory=Seen)

    def __call__(self, rollout: str = "", *, scheme: str = "light", width: int = 1200) -> Any:
        context = self.browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        context.route("**/*", self._route)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: self.seen.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.seen.errors.append(str(error)))
        page.goto(self.report.url + (f"#rollout={rollout}" if rollout else ""))
        page.wait_for_selector("#ex-heading")
        return page

    def _route(self, route: Any) -> None:
        if route.request.url.partition("#")[0] == self.report.url:
            route.continue_()
        else:
            self.seen.requests.append(route.request.url)
            route.abort()


@pytest.fixture
def opened(report: Report, browser: Any) -> Iterator[Opener]:
    """Opens pages; at the end none of them has complained, loaded anything, or run what a rollout said."""
    opener = Opener(browser, report)
    yield opener
    for context in browser.contexts:
        for page in context.pages:
            assert page.evaluate("window.hacked") is None
            assert page.locator("#explorer img, #explorer script").count() == 0
        context.close()
    assert [url for url in opener.seen.requests if not url.startswith("data:")] == []
    assert opener.seen.errors == []


def count_of(page: Any) -> int:
    found = re.match(r"([\d,]+) of ", page.text_content("#ex-count"))
    assert found
    return int(found[1].replace(",", ""))


def value_of(row: dict[str, Any], key: str) -> Any:
    return next(given["type"] for given in row["advantages"] if not given["carried"]) if key == "type" else row[key]


def test_a_filter_shows_the_matching_rollouts(opened: Opener, report: Report) -> None:
    page = opened()
    assert count_of(page) == len(report.rows)
    for key in ("arm", "seed", "iteration", "verdict", "origin", "kind", "type"):
        for value in {value_of(row, key) for row in report.rows.values()}:
            page.select_option(f"#ex-filter-{key}", json.dumps(value))
            wanted = [name for name, row in report.rows.items() if value_of(row, key) == value]
            assert count_of(page) == len(wanted)
            listed = page.eval_on_selector_all("#ex-rows button", "nodes => nodes.map(node => node.dataset.id)")
            assert listed == wanted[: len(listed)]
        page.click("#ex-clear")
        page.wait_for_function(f"document.getElementById('ex-count').textContent.startsWith('{len(report.rows):,} of')")


def test_filters_and_search_work_together(opened: Opener, report: Report) -> None:
    page = opened()
    page.select_option("#ex-filter-arm", json.dumps("extra"))
    page.select_option("#ex-filter-origin", json.dumps("regenerated"))
    wanted = [n for n, row in report.rows.items() if row["arm"] == "extra" and row["origin"] == "regenerated"]
    assert count_of(page) == len(wanted) > 0
    page.fill("#ex-search", wanted[0].upper())
    assert count_of(page) == sum(name.startswith(wanted[0]) for name in wanted)
    page.fill("#ex-search", "no rollout says this")
    assert count_of(page) == 0
    assert page.locator("#ex-rows li").count() == 0
    assert page.text_content("#ex-page") == "Page 1 of 1"


def test_the_pages_list_all_rollouts(opened: Opener, report: Report) -> None:
    page = opened()
    seen: list[str] = []
    for _ in report.rows:  # more than there are pages
        seen += page.eval_on_selector_all("#ex-rows button", "nodes => nodes.map(node => node.dataset.id)")
        if page.is_disabled("#ex-after"):
            break
        page.click("#ex-after")
    assert seen == list(report.rows)
    page.click("#ex-before")
    assert page.is_enabled("#ex-after")


def test_hostile_text_is_shown_as_text(opened: Opener, report: Report) -> None:
    page = opened(report.hostile)
    assert page.text_content("#ex-heading") == report.hostile
    for place in ("#ex-prompt", "#ex-extracted", "#ex-stored"):
        assert page.text_content(place) == SHOWN
    assert PIECE in page.text_content("#ex-response")
    page.fill("#ex-search", "<img src=x")
    assert count_of(page) > 0
    page.click("#ex-rows button")


def test_the_parent_is_linked(opened: Opener, report: Report) -> None:
    child = next(row for row in report.rows.values() if row["parent"])
    page = opened(child["id"])
    assert page.locator("#ex-response .ex-given").count() == child["prefix_length"]
    before_cut = page.evaluate("document.getElementById('ex-cut').previousSibling.title")
    assert before_cut.startswith(f"token {child['prefix_length']}: ")
    page.click(f'#ex-detail button[data-id="{child["parent"]}"]')
    page.wait_for_function(f"document.getElementById('ex-heading').textContent === '{child['parent']}'")
    assert page.evaluate("location.hash") == f"#rollout={child['parent']}"
    page.click(f'#ex-detail button[data-id="{child["id"]}"]')  # sampled on from here
    page.wait_for_function(f"document.getElementById('ex-heading').textContent === '{child['id']}'")
    page.go_back()
    page.wait_for_function(f"document.getElementById('ex-heading').textContent === '{child['parent']}'")


def test_nearest_rollout_and_siblings_are_linked(opened: Opener, report: Report) -> None:
    row = next(row for row in report.rows.values() if row["nearest"] in report.rows)
    page = opened(row["id"])
    group = [name for name, other in report.rows.items() if other["group"] == row["group"] and name != row["id"]]
    assert page.text_content("#ex-detail h4:last-of-type") == f"Siblings ({len(group)})"
    listed = page.eval_on_selector_all(
        "#ex-detail h4:last-of-type + ul button", "nodes => nodes.map(node => node.dataset.id)"
    )
    assert listed == group
    page.click(f'#ex-detail dd button[data-id="{row["nearest"]}"]')
    page.wait_for_function(f"document.getElementById('ex-heading').textContent === '{row['nearest']}'")


def test_a_link_to_a_rollout_outside_the_sample_shows_an_alert(opened: Opener, report: Report) -> None:
    page = opened()
    page.evaluate("location.hash = '#rollout=extra/s9/i9/9/%3Cimg%3E'")
    page.wait_for_selector("#ex-detail [role=alert]")
    assert "extra/s9/i9/9/<img> is not in this sample" in page.text_content("#ex-detail")
    page.evaluate("location.hash = '#rollout=%E0%A4%A'")
    page.wait_for_function("document.getElementById('ex-detail').textContent.includes('%E0%A4%A is not')")


def test_the_explorer_works_by_keyboard(opened: Opener, report: Report) -> None:
    page = opened()
    page.focus("#ex-rows li:nth-child(3) button")
    page.keyboard.press("Enter")
    wanted = list(report.rows)[2]
    page.wait_for_function(f"document.getElementById('ex-heading').textContent === '{wanted}'")
    assert page.evaluate("document.activeElement.id") == "ex-heading"
    unlabelled = """() => [...document.querySelectorAll('#explorer select, #explorer input, #explorer button')]
      .filter(node => !node.labels?.length && !node.textContent.trim()).map(node => node.outerHTML)"""
    assert page.evaluate(unlabelled) == []


def test_numbers_are_shown_and_the_arithmetic_adds_up(opened: Opener, report: Report) -> None:
    rows = [row for row in report.rows.values() if any(given["bonus"] for given in row["advantages"])][:3]
    rows += [row for row in report.rows.values() if len(row["advantages"]) > 1][:2]
    assert len(rows) == 5
    page = opened(rows[0]["id"])
    for row in rows:
        page.evaluate(f"location.hash = '#rollout={row['id']}'")
        page.wait_for_function(f"document.getElementById('ex-heading').textContent === '{row['id']}'")
        lines = page.eval_on_selector_all(
            ".ex-sum", "nodes => nodes.map(node => [...node.querySelectorAll('b')].map(b => b.textContent))"
        )
        assert len(lines) == len(row["advantages"])
        for line, given in zip(lines, row["advantages"], strict=True):
            _, normalised, bonus, total, *final = (round(float(text.replace("\u2212", "-")) * 1e6) for text in line)
            assert normalised + bonus == total
            assert (final or [total])[-1] == round(given["final"] * 1e6)
        shown = page.eval_on_selector_all("#ex-response .ex-t", "nodes => nodes.map(node => node.dataset.nats)")
        assert shown == [f"{hundredths / 100:.2f}" for hundredths in row["entropies"]]
    after = "getComputedStyle(document.querySelector('#ex-response .ex-t'), '::after').content"
    assert page.evaluate(after) == "none"
    page.click("#ex-numbers")
    assert page.evaluate(after) == f'"{rows[-1]["entropies"][0] / 100:.2f}"'


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_the_standard() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_is_legible(scheme: str, opened: Opener, report: Report) -> None:
    page = opened(report.hostile, scheme=scheme)
    style = """nodes => nodes.map(node => {
      const own = getComputedStyle(node);
      let back = own.backgroundColor;
      for (let up = node; back === 'rgba(0, 0, 0, 0)' && up; up = up.parentElement) {
        back = getComputedStyle(up).backgroundColor;
      }
      return [own.color, back];
    })"""
    levels = page.eval_on_selector_all(".ex-legend .ex-t", style)
    assert len(levels) == 6
    assert all(contrast(text, back) >= 4.5 for text, back in levels)
    strength = [luminance(back) for _, back in levels]
    assert strength == sorted(strength, reverse=scheme == "light")  # one is told from the next by lightness too
    assert min(contrast(a[1], b[1]) for a, b in pairwise(levels)) > 1.05
    text = page.eval_on_selector_all("#explorer :is(p, dt, dd, small, b, button, label, .ex-verdict, .ex-cut)", style)
    faint = [(colour, back) for colour, back in text if contrast(colour, back) < 4.5]
    assert [pair for pair in faint if "rgba" not in pair[0]] == []


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_window(width: int, opened: Opener, report: Report) -> None:
    child = next(row for row in report.rows.values() if row["parent"])
    page = opened(width=width)
    for rollout in (report.hostile, child["id"]):
        page.evaluate(f"location.hash = '#rollout={rollout}'")
        page.wait_for_function(f"document.getElementById('ex-heading').textContent === '{rollout}'")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
