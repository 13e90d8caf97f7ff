"""The pages of a gallery: nothing executes, every link leads somewhere, everything shows, colours can be read."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from benchmarks.studies.made_gallery import fill_gallery, make_plan
from featureviz.errors import InvalidInput
from featureviz.files import make_file_name
from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.site.build import build_site
from featureviz.gallery.site.comparison import build_comparison
from featureviz.gallery.site.pages import HERE, POLICY, write_page
from featureviz.gallery.site.reading import name_unit
from featureviz.gallery.site.words import make_visible
from featureviz.gallery.store.reading import Gallery
from tests.gallery.site.conftest import GROUPS, HOSTILE, Page, pages_of


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unfinished gallery."""
    folder = fill_gallery(tmp_path_factory.mktemp("half"), make_plan(GROUPS, 10, variants=2), finished=0.3)
    build_site(folder)
    return folder


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory, plain: Path, half: Path) -> Path:
    """Two models side by side."""
    return build_comparison(half, plain, tmp_path_factory.mktemp("both")).parent


SITES = ["plain", "hostile", "half", "both"]


@pytest.fixture(scope="session", params=SITES)
def site(request: pytest.FixtureRequest) -> tuple[Path, list[Page]]:
    folder = request.getfixturevalue(request.param)
    return folder, pages_of(folder)


def words(page: Page) -> str:
    return " ".join(page.text.split())


# ------------------------------------------------------------------------------------------------------ on every page
def test_a_strict_policy_stands_before_everything_else(site: tuple[Path, list[Page]]) -> None:
    for page in site[1]:
        names = [tag for tag, _ in page.tags]
        assert names[:4] == ["html", "head", "meta", "meta"]
        first = page.find("meta")[1]
        assert (first["http-equiv"], first["content"]) == ("Content-Security-Policy", POLICY)


def test_no_page_holds_a_script_or_a_style(site: tuple[Path, list[Page]]) -> None:
    for page in site[1]:
        assert page.scripts.strip() == ""
        assert page.find("style") == []
        assert {Path(script["src"]).name for script in page.find("script")} <= {"gallery.js"}
        for tag, attributes in page.tags:
            assert not [name for name in attributes if name == "style" or name.startswith("on")], (page.path, tag)


def test_every_link_leads_to_a_file_of_the_folder(site: tuple[Path, list[Page]]) -> None:
    folder, pages = site
    for page in pages:
        for _, attributes in page.tags:
            for link in (attributes[name] for name in ("href", "src") if name in attributes):
                if link == "data:,":
                    continue
                parts = urlsplit(link)
                assert not parts.scheme
                assert not parts.netloc
                if parts.path:
                    target = (page.path.parent / unquote(parts.path)).resolve()
                    assert target.is_relative_to(folder.resolve())
                    assert target.is_file(), (page.path, link)


def test_what_is_seen_is_also_said(site: tuple[Path, list[Page]]) -> None:
    for page in site[1]:
        assert page.find("html")[0]["lang"] == "en"
        assert len(page.find("h1")) == len(page.find("title")) == len(page.find("main")) == 1
        for image in page.find("img"):
            assert image["alt"]
            assert int(image["width"]) > 0
            assert int(image["height"]) > 0
        for svg in page.find("svg"):
            assert svg.get("class") == "frame" or svg.get("aria-label") or svg.get("aria-hidden") == "true"
        for tag in ("iframe", "dialog", "progress"):
            for element in page.find(tag):
                assert element.get("aria-label") or element.get("title")
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(set(ids)) == len(ids)


# ------------------------------------------------------------------------------------------------------------- names
def test_hostile_names_show_and_share_no_page(hostile: Path) -> None:
    atlas = Gallery.open(hostile).plan
    layers = pages_of(hostile / "layers")
    units = pages_of(hostile / "units")
    assert len(layers) == 2 * len(HOSTILE)
    assert len(units) == 4 * len(HOSTILE)
    assert len({page.path.name.casefold() for page in units}) == len(units)
    shown = {name: sum(make_visible(name) in page.text for page in layers) for name in HOSTILE}
    assert min(shown.values()) >= 2
    texts = [page.text for page in units]
    for group in atlas.groups:
        assert any(make_visible(name_unit(group, 1)) in text for text in texts)
    overview = Page(hostile / "index.html")
    assert all(make_visible(name) in overview.text for name in HOSTILE)
    assert all(make_visible(name) in "".join(p.text for p in units) for name in HOSTILE)  # of photographs
    assert "49" not in overview.text.split()  # {{ 7 * 7 }}


def test_nothing_is_written_outside_the_folder(hostile: Path) -> None:
    assert [path.name for path in hostile.parent.iterdir()] == [hostile.name]
    top = {"index.html", "compare.html", "plan.json", "index.sqlite", ".lock.sqlite"}
    folders = {"assets", "layers", "photographs", "tiles", "units"}
    assert {path.name for path in hostile.iterdir()} == top | folders


def test_the_search_holds_only_data(hostile: Path) -> None:
    text = (hostile / "assets/search.js").read_text()
    assert text.isascii()
    assert re.fullmatch(r"window\.galleryNames = \{.*\};\n", text)


# -------------------------------------------------------------------------------------------------------- the content
def test_an_unfinished_gallery_says_so(half: Path) -> None:
    plan = Gallery.open(half).plan
    done = len(Gallery.open(half).tiles())
    overview = Page(half / "index.html")
    assert f"Unfinished: {done} of {len(plan)} pictures are there." in words(overview)
    assert overview.find("progress")[0]["value"] == str(done)
    empty = [page for page in pages_of(half / "units") if "not yet" in page.text]
    firsts = {(t.layer, t.unit, t.sign) for t in plan.tiles}
    made = {(s.tile.layer, s.tile.unit, s.tile.sign) for s in Gallery.open(half).tiles() if s.tile.variant == 0}
    assert len(empty) == len({(layer, unit) for layer, unit, _ in firsts - made})
    assert all("not rendered yet" in words(page) for page in empty)


def test_a_tile_whose_file_is_gone_counts_as_missing(tmp_path: Path) -> None:
    fill_gallery(tmp_path, make_plan(GROUPS[2:], 3))
    (tmp_path / Gallery.open(tmp_path).plan.tiles[0].file).unlink()
    assert "Unfinished: 5 of 6 pictures" in words(Page(build_site(tmp_path)))


def test_a_unit_shows_its_figures_photographs_and_neighbours(plain: Path) -> None:
    stored = [t for t in Gallery.open(plain).tiles() if (t.tile.layer, t.tile.unit) == ("features.0.se", 3)]
    (page,) = (p for p in pages_of(plain / "units") if p.find("title") and "gate:features.0.se:3 " in p.text)
    text = words(page)
    for tile in stored:
        assert f"{'excites' if tile.tile.sign > 0 else 'suppresses'} {tile.figures['gate']:.2f}" in text
    for title in ("Photographs that open it most", "Photographs that shut it most", "Nearest by weights"):
        assert title in text
    assert len(page.find("image")) == 12
    assert len(page.find("polyline")) == 2


def test_a_page_links_to_the_card_of_its_gate(tmp_path: Path) -> None:
    fill_gallery(tmp_path, make_plan(GROUPS[1:2], 2))
    write_page(tmp_path / "cards" / make_file_name("gate:features.0.se:1", ".html"), "base.html", footer="")
    build_site(tmp_path)
    cards = [[a["href"] for a in page.find("a") if "cards/" in a["href"]] for page in pages_of(tmp_path / "units")]
    assert sorted(map(len, cards)) == [0, 1]


def test_pages_of_an_earlier_plan_go_and_files_of_others_stay(tmp_path: Path) -> None:
    fill_gallery(tmp_path, make_plan(GROUPS, 4))
    build_site(tmp_path)
    (tmp_path / "units/mine.html").write_text("mine")
    before = set((tmp_path / "units").iterdir())
    (tmp_path / "plan.json").unlink()
    fill_gallery(tmp_path, make_plan(GROUPS, 2))
    build_site(tmp_path)
    after = set((tmp_path / "units").iterdir())
    assert after < before
    assert len(after) == 3 * 2 + 1
    assert (tmp_path / "units/mine.html").read_text() == "mine"


# -------------------------------------------------------------------------------------------------------- two models
def test_two_models_show_the_units_of_both(both: Path, half: Path) -> None:
    tiles = [t.tile for t in Gallery.open(half).tiles() if t.tile.variant == 0]
    first = {path.name for path in (both / "first").rglob("*.png")}
    assert first == {Path(tile.file).name for tile in tiles}
    assert "TinyNet" in Page(both / "index.html").text
    assert {len(page.find("figure")) for page in pages_of(both / "layers")} == {8, 10}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda plain, other, out: build_comparison(plain, other, out), "no unit in common"),
        (lambda plain, other, out: build_comparison(plain, plain, other), "holds a gallery; give another folder"),
        (lambda plain, other, out: build_comparison(plain, out, out), "plan.json"),
        (lambda plain, other, out: build_site(out), "plan.json"),
    ],
)
def test_what_is_no_gallery_is_an_error(
    make: Callable[[Path, Path, Path], object], message: str, plain: Path, tmp_path: Path
) -> None:
    other = fill_gallery(tmp_path / "other", make_plan([Group("channel", "elsewhere", "Conv2d", 3, (3,))], 3))
    with pytest.raises(InvalidInput, match=message):
        make(plain, other, tmp_path / "out")


# ------------------------------------------------------------------------------------------------------------ colours
def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(scheme: str) -> None:
    roots = re.findall(r":root\{([^}]*)\}", (HERE / "assets/style.css").read_text())
    assert len(roots) == 2
    colours = dict(re.findall(r"--(\w+):(#\w+)", roots[["light", "dark"].index(scheme)]))
    for text, ground in itertools.product(("ink", "soft", "open", "shut"), ("paper", "card")):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["ink"], colours["line"]) >= 4.5  # what is chosen in the search
    for mark, ground in itertools.product(("band", "edge", "focus", "open", "shut"), ("paper", "card")):
        assert contrast(colours[mark], colours[ground]) >= 3, (mark, ground)
