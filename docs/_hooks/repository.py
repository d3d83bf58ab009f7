"""Lets the site show what lies outside docs/, and keeps the relative links of the repository working in it.

Some Markdown files of the repository become pages (`PAGES`). Any other file that a page links to is copied to `files/`.
A link is rewritten only where its target is a file of the repository; mkdocs reports the others.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "index.md": "README.md",
    "configuration.md": "config/README.md",
    "mathjudge/README.md": "mathjudge/README.md",
    "mathjudge/RULES.md": "mathjudge/RULES.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Page of the site -> file of the repository."""
LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")


def on_config(config: MkDocsConfig) -> None:
    """Replace a folder in the navigation by its pages in the order of their names."""
    config.nav = [{title: pages_of(entry) for title, entry in group.items()} for group in config.nav or []]


def pages_of(entry: Any) -> Any:
    if not isinstance(entry, str) or not entry.endswith("/"):
        return entry
    pages = sorted((ROOT / "docs" / entry).glob("*.md"), key=lambda path: (path.name != "README.md", path.name))
    return [f"{entry}{path.name}" for path in pages]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's own pages, and the files that any page links to."""
    from mkdocs.structure.files import File

    for page, source in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for page in files.documentation_pages():
        for link in LINK.finditer(page.content_string):
            target = repository_path(page.src_uri, link["target"])
            uri = site_uri(target) if target else None
            if uri and uri not in files.src_uris:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / str(target))))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links between files of the repository into links between files of the site."""
    here = page.file.src_uri

    def rewritten(link: re.Match[str]) -> str:
        target = repository_path(here, link["target"])
        uri = posixpath.relpath(site_uri(target), posixpath.dirname(here) or ".") if target else link["target"]
        return uri + (link["anchor"] or "")

    return LINK.sub(rewritten, markdown)


def repository_path(page: str, target: str) -> str | None:
    """Return the path below the repository's root that a page's link names; None where no such file exists."""
    source = PAGES.get(page, f"docs/{page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return path if not path.startswith("..") and (ROOT / path).is_file() else None


def site_uri(path: str) -> str:
    """Return where a file of the repository lies in the site."""
    pages = {source: page for page, source in PAGES.items()}
    return pages.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}")
