"""Galleries with pages: one that is plain, one whose names are hostile, and a reader of HTML."""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.studies.made_gallery import fill_gallery, make_plan
from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.site.build import build_site

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'-alert(1)-'", "</title><svg onload=alert(1)>",
    "..", "../../escape", "a/b\\c", "C:\\con", "x" * 300, "x" * 299 + "y", "two\nlines", "nul\0", "", " ",
    "\N{ROCKET}\N{WOMAN}\u200d\N{ROCKET}", os.fsdecode(b"\xff\xfe broken"), "a-b", "a_b", "a b", "A-b", "__proto__",
    "{{ 7 * 7 }}", "javascript:alert(1)", "\u202eright to left", "%2e%2e%2f", "&lt;b&gt;", "]]>", "*/ </style>",
    "#find=x&a=y", "\u2028",
]  # fmt: skip
GROUPS = [
    Group("channel", "features.0", "Conv2d", 70, (70, 14, 14)), Group("gate", "features.0.se", "SE", 12, ()),
    Group("channel", "features.1", "Conv2d", 8, (8, 7, 7)),
]  # fmt: skip


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.tags, self.text, self._open = path, list[tuple[str, dict[str, str]]](), "", ""
        self.scripts = ""
        self.feed(path.read_text())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style"):
            self.scripts += data
        self.text += data

    def find(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def pages_of(folder: Path) -> list[Page]:
    return [Page(path) for path in sorted(folder.rglob("*.html"))]


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished gallery with photographs and a gate card."""
    folder = tmp_path_factory.mktemp("plain") / "gallery"
    photographs = [f"holiday/{i}.jpg" for i in range(8)]
    fill_gallery(folder, make_plan(GROUPS, 70, variants=2), photographs=photographs)
    build_site(folder)
    return folder


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of which the model, the layers, the photographs and the folder have hostile names."""
    groups = [Group(kind, name, name, 3, (3, 2, 2)) for name in HOSTILE for kind in ("channel", "gate")]
    folder = tmp_path_factory.mktemp("hostile") / "<img src=x onerror=alert(1)>"
    fill_gallery(folder, make_plan(groups, 2, model=HOSTILE[0]), photographs=HOSTILE)
    build_site(folder)
    return folder
