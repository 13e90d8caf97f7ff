"""What a rendering writes and what is read from it, and what a notebook shows of it."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.gallery import render_specs
from featureviz.rendering.png import encode_png, make_contact_sheet, to_pixels
from tests.rendering.test_render import quick


def test_saved_pictures_carry_their_recipe(tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = quick(tiny, "[conv:1, -gate:se:2]")
    paths = made.save(tmp_path / "new" / "pair.png")
    assert [p.name for p in paths] == ["pair-0.png", "pair-1.png"]
    recipe = fv.read_recipe(paths[1])
    assert recipe["spec"] == "-gate:se:2"
    assert recipe["image_ids"] == [1]
    assert recipe["seed"] == 0
    assert recipe["versions"]["featureviz"] == fv.__version__
    shown = np.asarray(Image.open(paths[0])).astype(np.float32) / 255
    assert np.abs(shown.transpose(2, 0, 1) - made.images[0].numpy()).max() <= 0.5 / 255 + 1e-6
    assert [p.name for p in quick(tiny, "conv:1").save(str(tmp_path / "features.6"))] == ["features.6.png"]
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "bare.png")
    with pytest.raises(InvalidInput, match="holds no featureviz recipe"):
        fv.read_recipe(tmp_path / "bare.png")


def test_nothing_is_half_written(tiny: fv.TappedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = quick(tiny, "conv:1")
    with pytest.raises(InvalidInput, match="cannot write"):
        made.save(tmp_path / "file" / "x.png")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(InvalidInput, match="cannot write"):
        made.save(tmp_path / "taken.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.png"]


def test_it_shows_itself_in_a_notebook(tiny: fv.TappedModel) -> None:
    made = quick(tiny, "[conv:1, conv:2, logit:1]")
    sheet = Image.open(io.BytesIO(made._repr_png_()))
    assert sheet.size == (24 * 2 + 4, 24 * 2 + 4)
    assert json.loads(sheet.info["featureviz"])["model"] == "TinySE"
    page = made._repr_html_()
    assert page.count("<img") == 3
    assert "logit:1" in page
    assert make_contact_sheet(made.images, columns=3).shape == (3, 24, 80)


# ------------------------------------------------------------------------------------------- other numbers of channels
def render_channels(channels: int, n: int = 1) -> fv.Rendering:
    model = fv.wrap(nn.Sequential(nn.Conv2d(channels, 8, 3)), channels=channels)
    return fv.render(model, [f"0:{i}" for i in range(n)], size=(10, 14), steps=1, progress=False)


@pytest.mark.parametrize("channels", [2, 4, 5, 6, 13])
def test_no_channel_is_lost(channels: int, tmp_path: Path) -> None:
    made = render_channels(channels, n=2)
    paths = made.save(tmp_path / "both.png")
    assert [p.name for p in paths] == ["both-0.png", "both-1.png"]
    for i, path in enumerate(paths):
        values = np.load(path.with_suffix(".npy"))
        assert values.dtype == np.float32
        assert np.array_equal(values, made.images[i].numpy())
        sheet = np.asarray(Image.open(path))
        columns = round(channels**0.5 + 0.49)
        for c in range(channels):
            y, x = c // columns * 14, c % columns * 18
            cell = sheet[y : y + 10, x : x + 14].astype(np.float32) / 255
            assert np.abs(cell - values[c][..., None]).max() <= 0.5 / 255 + 1e-6
        assert fv.read_recipe(path)["spec"] == f"0:{i}"
    notebook = Image.open(io.BytesIO(made._repr_png_()))
    assert notebook.size == (2 * sheet.shape[1] + 4, sheet.shape[0])
    assert made._repr_html_().count("<img") == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_are_one_picture(channels: int, tmp_path: Path) -> None:
    made = render_channels(channels)
    (path,) = made.save(tmp_path / "one.png")
    assert np.asarray(Image.open(path)).shape == ((10, 14) if channels == 1 else (10, 14, 3))
    assert [p.name for p in tmp_path.iterdir()] == ["one.png"]


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_galleries_of_other_channels_lose_none_either(channels: int, tmp_path: Path) -> None:
    model = fv.wrap(nn.Sequential(nn.Conv2d(channels, 8, 3)), channels=channels)
    render_specs(model, ["0:1", "0:2"], tmp_path, size=10, steps=1, progress=False)
    for unit in json.loads((tmp_path / "report.json").read_text())["units"]:
        alone = fv.render(model, unit["spec"], image_ids=[0], size=10, steps=1, progress=False)
        values = tmp_path / Path(unit["file"]).with_suffix(".npy")
        if channels == 1:
            shown = iio.imread(tmp_path / unit["file"])
            assert np.abs(shown.astype(int) - to_pixels(alone.images[0]).astype(int)).max() <= 1
        else:
            assert np.allclose(np.load(values), alone.images[0], atol=1e-5)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 20


# ------------------------------------------------------------------------------------------------------ other formats
@pytest.mark.parametrize(
    "name",
    ["x.jpg", "x.JPEG", "x.webp", "x.tiff", "x.gif", "x.bmp", "x.npy", "x.svg", "x.pdf", "x.pt", "features.6.avif"],
)
def test_a_name_of_another_format_is_refused(name: str, tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = quick(tiny, "conv:1")
    with pytest.raises(InvalidInput, match=r"written as PNG.*expected .*\.png"):
        made.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "written"),
    [("features.6", "features.6.png"), ("layer4.1.conv2", "layer4.1.conv2.png"), ("a.PNG", "a.PNG"), ("a.b", "a.b.png"),
     ("no suffix", "no suffix.png"), ("v1.0.png", "v1.0.png"), (".hidden", ".hidden.png")],
)  # fmt: skip
def test_any_other_name_gets_the_suffix(name: str, written: str, tiny: fv.TappedModel, tmp_path: Path) -> None:
    assert [p.name for p in quick(tiny, "conv:1").save(tmp_path / name)] == [written]


@pytest.mark.parametrize("path", ["", ".", "..", "a\0b", 3, None, b"x.png", "a" * 300])
def test_paths_that_name_no_file(
    path: object, tiny: fv.TappedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput):
        quick(tiny, "conv:1").save(path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ recipes
def with_recipe(text: bytes) -> bytes:
    """A PNG whose recipe is this text."""
    body = b"iTXtfeatureviz\0\0\0\0\0" + text
    data = encode_png(torch.rand(3, 8, 8))
    return data[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return file.getvalue()


RECIPES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cannot be read as a picture"),
    "text": (b"no picture", "cannot be read as a picture"),
    "JSON": (b'{"spec": "conv:1"}', "cannot be read as a picture"),
    "a JPEG": (jpeg(), "cannot be read as a picture"),
    "no recipe": (encode_png(torch.rand(3, 8, 8)), "holds no featureviz recipe"),
    "half a picture": (with_recipe(b'{"a": 1}')[:-40], "cannot be read as a picture"),
    "a header alone": (with_recipe(b"{}")[:40], "cannot be read as a picture"),
    "half a recipe": (with_recipe(b'{"a": '), "no JSON that can be read"),
    "a list": (with_recipe(b"[1, 2]"), "a JSON list; expected an object"),
    "a number": (with_recipe(b"3"), "a JSON int"),
    "null": (with_recipe(b"null"), "a JSON NoneType"),
    "no UTF-8": (with_recipe(b"\xff\xfe{"), "holds no featureviz recipe|no JSON"),
    "deep": (with_recipe(b'{"a":' * 50_000), "no JSON that can be read"),
    "a bomb": (
        with_recipe(b"{}").replace(struct.pack(">II", 8, 8), struct.pack(">II", 60_000, 60_000)),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("what", RECIPES)
def test_a_recipe_that_cannot_be_read_names_the_file(what: str, tmp_path: Path) -> None:
    data, message = RECIPES[what]
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InvalidInput, match=rf"a\.png.*({message})"):
        fv.read_recipe(tmp_path / "a.png")


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink(p, p), str]
)
def test_a_recipe_of_no_file(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(InvalidInput, match=r"cannot read .*a\.png"):
        fv.read_recipe(tmp_path / "a.png")


def test_a_recipe_tells_the_picture_that_the_render_started_from(tiny: fv.TappedModel, tmp_path: Path) -> None:
    (path,) = quick(tiny, "conv:1").save(tmp_path / "first.png")
    assert "start" not in fv.read_recipe(path)
    (again,) = quick(tiny, "conv:1", image=path).save(tmp_path / "second.png")
    assert fv.read_recipe(again)["start"].startswith(f"{path} [3, 24, 24], sha256 ")
