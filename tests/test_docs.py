"""The documentation: targets of relative links and anchors exist; the site has every page and builds without a warning.

`make docs` builds the same site; the last test runs where mkdocs is installed.
"""

from __future__ import annotations

import itertools
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

HOOK = runpy.run_path(str(ROOT / "docs" / "_hooks" / "repository.py"))
PAGES = [ROOT / source for source in HOOK["PAGES"].values()]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]*)\)")
MENTION = re.compile(r"(?<![\w/.-])docs/[\w./-]+?\.md\b")


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """The text of a page without its code blocks."""
    return FENCE.sub("", path.read_text())


def links(text: str) -> Iterator[tuple[str, str]]:
    """(path, anchor) of every link within the repository; either may be empty."""
    for target in LINK.findall(CODE.sub("", text)):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as hosting services and mkdocs generate them."""
    titles = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title)) for title in plain}


def broken(page: Path, text: str) -> list[str]:
    found = []
    for path, anchor in links(text):
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or not target.is_relative_to(ROOT):
            found.append(f"{path}: no such file")
        elif anchor and anchor not in anchors(prose(target)):
            found.append(f"{path}#{anchor}: no such heading")
    return found


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_targets_of_links_exist(page: Path) -> None:
    assert broken(page, prose(page)) == []


def test_a_broken_link_is_found() -> None:
    page = ROOT / "docs" / "method.md"
    text = "[a](none.md) [b\nb](sampling.md#none) [c](#none) [d](/abs.md) `[e](none.md)` [f](https://none.md) [g](..)"
    assert len(broken(page, text)) == 5
    assert broken(page, "[a](sampling.md#stop-strings) [b](../config/tiny.yaml) [c](../README.md)") == []


def test_pages_that_code_and_configurations_name_exist() -> None:
    folders = ("config", "docs", "extra_cli", "extra_rl", "mathjudge", "extra_research", "stages", "tests", "workflow")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in SOURCES]
    assert len(files) > 300
    named = {name: file for file in files if file != Path(__file__) for name in MENTION.findall(file.read_text())}
    assert {name: label(file) for name, file in named.items() if not (ROOT / name).is_file()} == {}
    assert len(named) > 10


SOURCES = (".md", ".py", ".rst", ".smk", ".yaml")


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_lists_and_tables_begin_after_a_blank_line(page: Path) -> None:
    """Without it mkdocs renders them as a paragraph."""
    lines = prose(page).splitlines()
    starts = [
        line
        for before, line in itertools.pairwise(lines)
        if (re.match(r"(-|\d+\.) ", line) and re.match(r"[^\s#\d-]", before))
        or (line.startswith("|") and re.match(r"[^|#\s]", before))
    ]
    assert starts == []


def test_the_navigation_has_every_page() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    entries = [
        entry for group in site["nav"] for value in group.values() for entry in ([value], value)[type(value) is list]
    ]
    folders = tuple(entry for entry in entries if entry.endswith("/"))
    own = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert {page for page in own if not page.startswith(folders)} | set(HOOK["PAGES"]) == set(entries) - set(folders)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    home = (tmp_path / "site" / "index.html").read_text()
    assert 'href="results/index.html"' in home
    assert 'href="docs/' not in home
    assert (tmp_path / "site" / "files" / "workflow" / "profiles" / "slurm" / "config.yaml").is_file()
