"""A gallery in a notebook: escaped, self-contained, and small."""

import re
from pathlib import Path

import pytest

from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.store.inline import PICTURES
from tests.gallery.filled import fill, make_plan


def test_a_gallery_shows_itself(tmp_path: Path) -> None:
    shown = fill(tmp_path, make_plan())._repr_html_()
    assert shown.count("data:image/jpeg;base64,") == 12
    assert shown.count("<figure") == 6
    assert "12 of 12 pictures are finished" in shown
    assert "0.88 / 0.12" in shown
    assert 'alt="-gate:se:5"' in shown
    assert "select" not in shown  # nothing is left out
    assert not re.search(r'(?:src|href)="(?!data:)', shown)


def test_a_large_gallery_shows_a_few_units_of_each_layer_and_says_so(tmp_path: Path) -> None:
    gallery = fill(tmp_path, make_plan(units=range(40)))
    (tmp_path / "index.html").write_text("")
    shown = gallery._repr_html_()
    assert shown.count("<img") == PICTURES
    assert "18 of 80 units are shown" in shown
    assert str(tmp_path / "index.html") in shown
    assert gallery.select("conv", units=range(18))._repr_html_().count("<img") == PICTURES


def test_more_layers_than_pictures(tmp_path: Path) -> None:
    groups = [Group("channel", f"layer{i}", "Conv2d", 8, ()) for i in range(50)]
    assert fill(tmp_path, make_plan(groups, units=[1], signs=[1]))._repr_html_().count("<img") == PICTURES


def test_a_gallery_without_a_tile_shows_itself(tmp_path: Path) -> None:
    assert "0 of 12 pictures are finished" in fill(tmp_path, make_plan(), 0)._repr_html_()


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '" onerror="x', "\udcff", "\N{CAT FACE}\n&"])
def test_names_are_text(name: str, tmp_path: Path) -> None:
    shown = fill(tmp_path, make_plan([Group("channel", name, name, 8, ())], model=name))._repr_html_()
    shown.encode()
    assert "<script" not in shown
    assert 'onerror="x' not in shown
