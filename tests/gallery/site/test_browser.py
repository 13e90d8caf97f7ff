"""The pages in a real browser: headless Chromium, from disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install 'featureviz[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
QUIET = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A tab in which any error, any dialog and any request for something that is not on the disk fails the test."""
    with browser.new_context(viewport=DESK) as context:
        yield watch(context)


def is_on_disk(address: str) -> bool:
    return address.startswith(("file:", "data:"))


def is_error(request: Any) -> bool:
    """Whether a request failed otherwise than by leaving the page."""
    return request.failure != "net::ERR_ABORTED"


def watch(context: Any) -> Any:
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("requestfailed", lambda request: wrong.append(request.url) if is_error(request) else None)
    page.on("request", lambda request: None if is_on_disk(request.url) else wrong.append(request.url))
    page.wrong = wrong
    return page


@pytest.fixture(autouse=True)
def _nothing_went_wrong(request: pytest.FixtureRequest) -> Iterator[None]:
    page = request.getfixturevalue("tab") if "tab" in request.fixturenames else None
    yield
    assert page is None or page.wrong == []


def open_page(page: Any, folder: Path, pattern: str = "index.html", state: str = "") -> None:
    (path,) = folder.glob(pattern)
    page.goto(path.as_uri() + state)


def wait_until(page: Any, expression: str, arg: Any = None) -> None:
    """Ask the page until it is so; ``page.wait_for_function`` needs eval, which the policy forbids."""
    for _ in range(200):
        with suppress(sync_api.Error):  # while another page is opened
            if page.evaluate(expression, arg):
                return
        page.wait_for_timeout(50)
    raise AssertionError(f"never so: {expression}")


READY = "title => document.readyState === 'complete' && document.querySelector('h1').innerText === title"
UNIT, LAYER, GATE = "units/channel-features.0-7-*.html", "layers/channel-features.0-*.html", "units/gate-*-3-*.html"


def shown_units(page: Any) -> list[str]:
    return page.locator(".unit b").all_text_contents()


def test_from_the_network_to_a_unit_and_back(tab: Any, plain: Path) -> None:
    open_page(tab, plain)
    tab.click(".network h2 >> text=features.1")
    assert tab.inner_text("h1") == "features.1"
    tab.click(".unit >> nth=2")
    assert tab.inner_text("h1") == "features.1:2"
    for key, title in [("n", "features.1:3"), ("p", "features.1:2"), ("u", "features.1"), ("p", "features.0.se")]:
        tab.keyboard.press(key)
        wait_until(tab, READY, title)
    tab.keyboard.press("u")
    tab.wait_for_selector(".network")
    assert all(tab.evaluate("[...document.images].slice(0, 8).map(image => image.complete && image.naturalWidth > 0)"))


def test_search_finds_units_and_layers_and_is_in_the_address(tab: Any, plain: Path) -> None:
    open_page(tab, plain)
    assert not tab.evaluate("'galleryNames' in window")  # the list is loaded when it is needed
    tab.keyboard.press("/")
    tab.keyboard.type("features.0 7")
    tab.wait_for_selector("#found a")
    found = tab.locator("#found a").all_inner_texts()
    assert set(found[:2]) == {"features.0:7", "gate:features.0.se:7"}  # the unit 7 comes before 17 and 70
    assert tab.url.endswith("#find=features.0+7")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    wait_until(tab, "document.querySelector('h1').innerText.endsWith(':7')")
    assert tab.inner_text("h1") == found[1]
    open_page(tab, plain, UNIT, "#find=features.1")
    tab.wait_for_selector("#found a")
    assert tab.locator("#found a").first.inner_text() == "features.1"
    tab.keyboard.press("Escape")
    wait_until(tab, "location.hash === ''")
    assert not tab.is_visible("#find")


def test_a_sheet_is_sorted_and_filtered_and_the_address_keeps_it(tab: Any, plain: Path) -> None:
    open_page(tab, plain, LAYER)
    assert shown_units(tab) == [str(i) for i in range(70)]
    tab.select_option("[name=sort]", "excites")
    values = tab.eval_on_selector_all(".unit", "cards => cards.map(card => Number(card.dataset.excites))")
    assert values == sorted(values, reverse=True)
    assert len(values) == 70
    tab.fill("[name=only]", "10-14")
    assert sorted(map(int, shown_units(tab))) == [10, 11, 12, 13, 14]
    assert tab.inner_text("output") == "5 of 70"
    assert tab.url.endswith("#sort=excites&only=10-14")
    order = shown_units(tab)
    tab.reload()
    assert shown_units(tab) == order
    tab.fill("[name=only]", "features.0:6")
    assert set(shown_units(tab)) == {"6", *(str(i) for i in range(60, 70))}
    for sort in ("suppresses", "spread", "name", "unit"):
        tab.select_option("[name=sort]", sort)
    tab.fill("[name=only]", "")
    assert shown_units(tab) == [str(i) for i in range(70)]
    assert "#" not in tab.url
    open_page(tab, plain, LAYER, "#sort=constructor&only=")
    assert tab.input_value("[name=sort]") == "unit"


def test_two_units_stand_side_by_side(tab: Any, plain: Path) -> None:
    (one,), (two,) = plain.glob(UNIT), plain.glob(GATE)
    open_page(tab, plain, "compare.html", f"#a=units/{one.name}&b=units/{two.name}")
    first, second = tab.frame_locator("[name=a]"), tab.frame_locator("[name=b]")
    assert first.locator("h1").inner_text() == "features.0:7"
    assert second.locator("h1").inner_text() == "gate:features.0.se:3"
    assert not second.locator(".bar").is_visible()
    tab.click("[data-side=b]")
    tab.keyboard.type("features.1:4")
    wait_until(tab, "document.querySelectorAll('#found a').length === 1")
    tab.keyboard.press("Enter")
    second.locator("h1", has_text="features.1:4").wait_for()
    assert "b=units/channel-features.1-4-" in tab.url
    first.locator(".shelf a >> nth=0").click()  # a unit that is near; the address follows
    wait_until(tab, "name => !location.hash.includes(name)", one.name)
    assert "a=units/channel-features.0-" in tab.url


@pytest.mark.parametrize(
    "address",
    ["https://example.org/", "javascript:alert(1)", "//example.org/units/a.html", "../units/a.html", "index.html",
     "units/../../a.html", "data:text/html,<script>alert(1)</script>", "units/a.html?x"],
)  # fmt: skip
def test_only_pages_of_units_are_compared(address: str, tab: Any, plain: Path) -> None:
    open_page(tab, plain, "compare.html", f"#a={address}")
    assert not tab.is_visible("iframe")
    assert len(tab.frames) == 3
    assert all(frame.url in ("about:blank", "") for frame in tab.frames[1:])


def test_everything_is_reached_by_keyboard(tab: Any, plain: Path) -> None:
    open_page(tab, plain, LAYER)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.tagName") == "MAIN"
    assert "#" not in tab.url
    for key, unit in [("j", 0), ("j", 1), ("k", 0), ("ArrowDown", 4), ("ArrowRight", 5), ("ArrowUp", 1)]:
        tab.keyboard.press(key)
        assert tab.evaluate("document.activeElement.dataset.unit") == str(unit)
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
    tab.keyboard.press("?")
    assert tab.is_visible("#help")
    tab.keyboard.press("Escape")
    assert not tab.is_visible("#help")
    tab.focus("[name=only]")
    tab.keyboard.type("n/?")  # letters in a field are letters
    assert tab.input_value("[name=only]") == "n/?"
    tab.fill("[name=only]", "")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    wait_until(tab, "document.querySelector('h1').innerText === 'features.0:0'")


@pytest.mark.parametrize("pattern", ["index.html", LAYER, UNIT, GATE, "compare.html"])
def test_a_phone_shows_all_of_it_in_either_scheme(pattern: str, browser: Any, plain: Path) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        with browser.new_context(viewport=PHONE, color_scheme=scheme, reduced_motion="reduce") as context:
            page = watch(context)
            open_page(page, plain, pattern)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert page.wrong == []
    assert len(grounds) == 2


def test_long_names_do_not_widen_a_phone(browser: Any, hostile: Path) -> None:
    with browser.new_context(viewport=PHONE) as context:
        page = watch(context)
        for pattern in ("index.html", "layers/*xxx*.html", "units/*xxx*.html"):
            for path in list(hostile.glob(pattern))[:2]:
                page.goto(path.as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path.name
        assert page.wrong == []


def test_pages_are_whole_without_the_script(browser: Any, plain: Path) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = watch(context)
        open_page(page, plain, LAYER)
        assert page.locator(".unit").count() == 70
        assert not page.is_visible(".tools")
        assert not page.is_visible("[data-opens]")
        page.click(".unit >> nth=3")
        assert page.inner_text("h1") == "features.0:3"
        assert page.wrong == []


def test_hostile_names_execute_nothing(tab: Any, hostile: Path) -> None:
    open_page(tab, hostile, state="#find=alert")
    tab.wait_for_selector("#found a")
    assert tab.locator("#found a").count() > 3
    assert tab.locator("#found script, #found svg").count() == 0
    shown = [tab.inner_text("h1")]
    for pattern in ("layers/*script*.html", "units/*script*-1-*.html", "units/*onerror*-1-*.html"):
        for path in hostile.glob(pattern):
            tab.goto(path.as_uri())
            shown.append(tab.inner_text("h1"))
    assert len(shown) > 6
    assert all("alert" in title for title in shown)


def test_two_models_are_sorted_too(tab: Any, plain: Path, tmp_path: Path) -> None:
    from featureviz.gallery.site.comparison import build_comparison

    build_comparison(plain, plain, tmp_path)
    open_page(tab, tmp_path)
    tab.click(".strip a >> nth=3")
    assert len(shown_units(tab)) == 1
    tab.fill("[name=only]", "")
    tab.select_option("[name=sort]", "first")
    values = tab.eval_on_selector_all(".unit", "cards => cards.map(card => Number(card.dataset.first))")
    assert values == sorted(values, reverse=True)
    tab.keyboard.press("?")
    assert tab.input_value("[name=sort]") == "first"
