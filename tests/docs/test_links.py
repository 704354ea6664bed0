"""Links between pages lead to files and titles that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "docs/decisions/*.md",
        "benchmarks/*.md",
        "changelog.d/*.md",
    )
    for path in sorted(ROOT.glob(pattern))
]
LINK: Final = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
CODE: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors_of(page: str) -> set[str]:
    """The anchors that code hosts make of a page's titles."""
    titles = re.findall(r"^#+ (.+)$", CODE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


def broken_links(page: str, path: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    broken = []
    for target, anchor in LINK.findall(CODE.sub("", page)):
        linked = path.parent / target if target else path
        if not linked.exists():
            broken.append(target)
        elif anchor and anchor not in anchors_of(linked.read_text(encoding="utf-8")):
            broken.append(f"{target}#{anchor}")
    return broken


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_lead_somewhere(path: Path) -> None:
    """Each link to a file, a folder, a picture or a title has its target."""
    assert [] == broken_links(path.read_text(encoding="utf-8"), path)


def test_broken_links_are_found(tmp_path: Path) -> None:
    """A missing file and a missing title are found; addresses and code are not looked at."""
    page = tmp_path / "page.md"
    page.write_text(
        "# One `word`\n[a](missing.md) [b](page.md#one-word) [c](#no) [d](https://example.org)\n"
        "```text\n[e](other.md)\n```\n",
        encoding="utf-8",
    )
    assert ["missing.md", "#no"] == broken_links(page.read_text(encoding="utf-8"), page)
