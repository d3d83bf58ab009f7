"""The report and the index in a real headless browser: explained words, narrow windows, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from extra_rl.report.glossary import GLOSSARY
from extra_rl.report.index import build_index
from extra_rl.report.page import build
from tests.report.results_folder import write_results
from tests.report.test_browser import BROWSER, FLAGS, contrast

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')")

pytestmark = pytest.mark.browser

CUT = """() => [...document.querySelectorAll('header *, main *')].filter((node) => {
  const box = node.getBoundingClientRect();
  return box.width && !node.closest('svg') && !node.closest('thead') && box.right > innerWidth + 1;
}).map((node) => node.outerHTML.slice(0, 80))"""
"""Elements that reach beyond the window, also within a box that scrolls."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of a report and of an index."""
    if BROWSER is None:
        pytest.skip("no browser: install chromium or google-chrome")
    root = tmp_path_factory.mktemp("results") / "results"
    results = write_results(
        root / "run", ["grpo", "a-rather-long-name-of-an-arm"], [0, 1], lambda name, seed, problem: 1 + seed
    )
    build(results, results / "report.html", 0)
    index, _ = build_index(root)
    return {"report": (results / "report.html").as_uri(), "index": index.as_uri()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no browser: install chromium or google-chrome")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield found
        found.close()


def opened(browser: Any, url: str, width: int, **options: Any) -> Any:
    page = browser.new_context(viewport={"width": width, "height": 800}, **options).new_page()
    page.set_default_timeout(20_000)
    page.goto(url)
    page.wait_for_selector("#tip", state="attached")
    return page


def inside(page: Any, width: int) -> bool:
    box = page.locator("#tip").bounding_box()
    return bool(
        box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] >= 0 and box["y"] + box["height"] <= 800
    )


@pytest.mark.parametrize("width", [420, 1280])
def test_a_word_is_explained_to_keyboard_mouse_and_touch(browser: Any, pages: dict[str, str], width: int) -> None:
    page = opened(browser, pages["report"], width, has_touch=True)
    tip, words = page.locator("#tip"), page.locator(".term").filter(visible=True)
    assert words.count() > 10
    assert tip.is_hidden()
    for place in range(words.count()):
        words.nth(place).focus()
        assert tip.text_content() in GLOSSARY.values()
        assert words.nth(place).get_attribute("aria-describedby") == "tip"
        assert inside(page, width)
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    assert page.locator("[aria-describedby]").count() == 0
    words.first.hover()
    assert tip.is_visible()
    page.mouse.move(1, 1)
    page.locator("h1").click()
    assert tip.is_hidden()
    words.first.tap()
    assert tip.is_visible()
    page.locator("h1").tap()
    assert tip.is_hidden()
    page.context.close()


@pytest.mark.parametrize("name", ["report", "index"])
def test_nothing_is_cut_in_a_narrow_window(browser: Any, pages: dict[str, str], name: str) -> None:
    page = opened(browser, pages[name], 420)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert page.evaluate(CUT) == []
    titles = page.eval_on_selector_all("td[data-title]", "nodes => nodes.map(node => node.dataset.title)")
    assert "seeds" in titles
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_explanation_is_legible(browser: Any, pages: dict[str, str], scheme: str) -> None:
    page = opened(browser, pages["index"], 900, color_scheme=scheme)
    page.locator(".term").first.focus()
    text, back = page.evaluate("""() => {
      const style = getComputedStyle(document.getElementById('tip'));
      return [style.color, style.backgroundColor];
    }""")
    assert contrast(text, back) >= 4.5
    page.context.close()
