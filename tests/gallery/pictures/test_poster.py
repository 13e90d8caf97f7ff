"""Posters: every tile is where it belongs, captions say what it is, and any name can be drawn."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from featureviz.errors import FeaturevizError, InvalidInput, UnknownName
from featureviz.gallery import Gallery, poster
from featureviz.gallery.pictures.words import fit_text, wrap_text
from featureviz.gallery.planning.choosing import Group
from featureviz.image.picture import read_picture
from featureviz.lab.draw.canvas import Canvas, measure_text
from tests.gallery.filled import SIZE, add_photographs, color_of, fill, make_plan


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All text that is drawn."""
    texts, draw = list[str](), Canvas.text

    def note(self: Canvas, x: float, y: float, text: str, *args: Any, **options: Any) -> None:
        texts.append(text)
        assert 0 <= x < self.width
        assert 0 <= y <= self.height
        draw(self, x, y, text, *args, **options)

    monkeypatch.setattr(Canvas, "text", note)
    return texts


def has_tile(sheet: Tensor, y: int, x: int, color: Tensor) -> bool:
    height, width = SIZE
    part = sheet[:, y : y + height, x : x + width]
    return part.shape[1:] == SIZE and float((part - color).abs().max()) <= 5 / 255  # 33 levels


def test_a_contact_sheet_has_every_tile_in_its_place(tmp_path: Path) -> None:
    gallery = fill(tmp_path, make_plan(units=(1, 3, 5, 7)))
    sheet = read_picture(poster(gallery, tmp_path / "sheet.png", captions=False, columns=2))
    (height, width), near, gap, between = SIZE, 2, 6, 26
    assert sheet.shape[2] == 2 * width + gap
    y = 0
    for group in gallery.plan.groups:
        tiles = [tile for tile in gallery.plan.tiles if tile.layer == group.layer]
        for i, tile in enumerate(tiles):
            unit, below = divmod(i, 2)
            row = 2 * (unit // 2) + below
            top = y + row * (height + near) + (unit // 2) * (gap - near)
            assert has_tile(sheet, top, (unit % 2) * (width + gap), color_of(tile)), tile.spec
        y += 4 * (height + near) + 2 * (gap - near) - gap + between
    assert abs(sheet.shape[1] - (y - between)) <= gap


def test_a_poster_says_what_it_shows(tmp_path: Path, said: list[str]) -> None:
    gallery = fill(tmp_path, make_plan())
    sheet = read_picture(poster(tmp_path, tmp_path / "poster", note="Weights: of a toy."))
    assert sheet.shape[2] == 760
    assert said[0] == "What excites and suppresses the units of tiny"
    assert {"Weights: of a toy.", "conv", "Conv2d, 3 of 8 channels", "se", "SE, 3 of 8 gates"} <= set(said)
    assert [text for text in said if text in ("opens", "closes", "excites", "suppresses")] == [
        "excites", "suppresses", "opens", "closes",
    ]  # fmt: skip
    assert [said.count(unit) for unit in "135"] == [2, 2, 2]
    assert said[-1] == "recipe fast: 8 steps, 16 x 20 px"
    colors = {tuple(color_of(tile).flatten().tolist()) for tile in gallery.plan.tiles}
    assert all(((sheet - torch.tensor(c)[:, None, None]).abs().amax(0) < 5 / 255).sum() >= 320 for c in colors)


def test_gate_values_are_drawn_where_there_is_room(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = fill(tmp_path, make_plan())
    poster(gallery, tmp_path / "a.png", layers="gate:se")
    assert "0.88" not in said  # a tile of 20 pixels is too narrow
    monkeypatch.setattr("featureviz.gallery.pictures.poster.measure_text", lambda *_: 2.0)
    poster(gallery, tmp_path / "a.png", layers="gate:se")
    assert (said.count("0.88"), said.count("0.12")) == (3, 3)


def test_photographs_stand_around_the_tiles(tmp_path: Path, said: list[str]) -> None:
    gallery = add_photographs(fill(tmp_path, make_plan()))
    one = gallery.select("conv", units=[3])
    sheet = read_picture(poster(one, tmp_path / "a.png", photographs=True, captions=False))
    excites, suppresses = one.plan.tiles
    column = [torch.ones(3, 1, 1), color_of(excites), color_of(suppresses), torch.zeros(3, 1, 1)]
    assert [has_tile(sheet, 18 * row, 0, color) for row, color in enumerate(column)] == [True] * 4
    poster(gallery, tmp_path / "a.png", photographs=True, signs=[-1])
    assert [text for text in said if text in ("photograph", "opens", "closes", "excites", "suppresses")] == [
        "suppresses", "photograph", "closes", "photograph",
    ]  # fmt: skip
    assert any("of 2 photographs" in text for text in said)


def test_an_unfinished_gallery_shows_what_there_is(tmp_path: Path, said: list[str]) -> None:
    gallery = fill(tmp_path, make_plan(), 3)  # one unit and what excites the next
    poster(gallery, tmp_path / "a.png")
    assert "3 of 12 pictures are finished." in said
    assert "se" not in said
    sheet = read_picture(poster(gallery, tmp_path / "a.png", captions=False))
    assert has_tile(sheet, SIZE[0] + 2, SIZE[1] + 6, torch.tensor([238, 240, 243])[:, None, None] / 255)


def test_every_variant_has_a_row(tmp_path: Path) -> None:
    plan = make_plan(units=[1], variants=2)
    sheet = read_picture(poster(fill(tmp_path, plan), tmp_path / "a.png", layers="conv", captions=False))
    assert [has_tile(sheet, 18 * row, 0, color_of(tile)) for row, tile in enumerate(plan.tiles[:4])] == [True] * 4


def test_large_tiles_are_made_smaller_and_small_ones_stay(tmp_path: Path) -> None:
    gallery = fill(tmp_path, make_plan(units=range(300)))
    assert read_picture(poster(gallery, tmp_path / "a.png", columns=100, captions=False)).shape[2] <= 2000
    assert read_picture(poster(gallery, tmp_path / "a.png", captions=False)).shape[2] < 32 * (20 + 6)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a"])
def test_the_suffix_chooses_the_format(name: str, tmp_path: Path) -> None:
    path = poster(fill(tmp_path, make_plan()), tmp_path / name)
    jpeg = name.lower().endswith(("jpg", "jpeg"))
    assert path.read_bytes()[:4] == (b"\xff\xd8\xff\xe0" if jpeg else b"\x89PNG")
    assert path.name == (name if "." in name else "a.png")


HOSTILE = [
    "<script>alert(1)</script>", "\"'&", "../../x", "a" * 300, "\N{CAT FACE}\u202e\u0000", "two\nlines", "\udcff", " ",
]  # fmt: skip


def test_any_name_can_be_drawn(tmp_path: Path, said: list[str]) -> None:
    groups = [Group("channel", name, name, 8, ()) for name in HOSTILE]
    gallery = fill(tmp_path, make_plan(groups, model="\n".join(HOSTILE)))
    width = read_picture(poster(gallery, tmp_path / "a.png", note=" ".join(HOSTILE))).shape[2]
    assert "<script>alert(1)</script>" in said
    assert "\\udcff" in said
    assert all(text.isprintable() for text in said)
    assert all(measure_text(text, 13) <= width for text in said)
    assert len(list((tmp_path / "tiles").iterdir())) == len(HOSTILE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "cnv"}, "nearest: 'conv'"),
        ({"signs": [2]}, "signs"),
        ({"columns": 0}, "columns"),
        ({"columns": 300}, "have room"),
        ({"photographs": True}, "--images"),
        ({"photographs": 1}, "True or False"),
        ({"note": 3}, "a text"),
        ({"path": "a.gif"}, r"a\.png"),
    ],
)
def test_wrong_arguments_are_told(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    gallery = fill(tmp_path, make_plan(units=range(400)), 400)
    path = options.pop("path", "a.png")
    with pytest.raises(FeaturevizError, match=message):
        poster(gallery, tmp_path / path, **options)
    assert not (tmp_path / path).exists()


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"plan\.json"):
        poster(tmp_path / "nothing", tmp_path / "a.png")
    gallery = fill(tmp_path / "empty", make_plan(), 0)
    with pytest.raises(InvalidInput, match="no finished tile"):
        poster(gallery, tmp_path / "a.png")
    gallery = fill(tmp_path / "full", make_plan())
    shutil.rmtree(gallery.folder / "tiles")
    with pytest.raises(InvalidInput, match="run the gallery again"):
        poster(gallery, tmp_path / "a.png")


def test_a_poster_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = fill(tmp_path, make_plan())
    monkeypatch.setattr("featureviz.gallery.pictures.poster.PIXELS", 4 * 760 * 100)
    with pytest.raises(InvalidInput, match="more columns"):
        poster(gallery, tmp_path / "a.png")


def test_a_part_is_selected(tmp_path: Path) -> None:
    gallery = fill(tmp_path, make_plan())
    part = gallery.select(["gate:se"], units=[3, 99], signs=[-1])
    assert [tile.spec for tile in part.plan.tiles] == ["-gate:se:3"]
    assert [group.layer for group in part.plan.groups] == ["se"]
    assert [stored.tile.spec for stored in part.tiles()] == ["-gate:se:3"]
    assert gallery.select().plan == gallery.plan
    assert isinstance(part, Gallery)
    with pytest.raises(UnknownName, match="'se'"):
        gallery.select("see")
    with pytest.raises(UnknownName, match="layer in the plan"):
        gallery.select("gate:conv")
    with pytest.raises(InvalidInput, match=r"units=\[2\]"):
        gallery.select(units=[2])


def test_text_is_made_to_fit() -> None:
    assert fit_text("short", 13, 1000) == "short"
    assert measure_text(fit_text("x" * 10_000, 13, 80), 13) <= 80
    assert fit_text("a\x00b\u202ec", 13, 1000) == "a\\u0000b\\u202ec"
    lines = wrap_text("one two three four " * 5, 15, 120)
    assert " ".join(lines) == ("one two three four " * 5).strip()
    assert all(measure_text(line, 15) <= 120 for line in lines)
