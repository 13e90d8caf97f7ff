"""Pictures from folders and from iterables of tensors: every mode, broken files, labels, bad input."""

import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from featureviz.errors import InvalidInput
from featureviz.image.picture import read_picture
from featureviz.lab.statistics.pictures import Batch, Pictures, batches


def write(path: Path, colour: tuple[int, int, int] = (255, 0, 0), size: tuple[int, int] = (20, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_order_classes_and_names_of_a_folder(tmp_path: Path) -> None:
    for name in ("zebra/b.png", "ant/deep/c.JPG", "zebra/a.bmp", "ant/.hidden.png", ".cache/x.png", "ant/notes.txt"):
        write(tmp_path / name, (0, 255, 0)) if "txt" not in name else (tmp_path / name).write_text("x")
    pictures = Pictures(tmp_path, 8, batch=2)
    assert (len(pictures), pictures.classes) == (3, ("ant", "zebra"))
    first, second = pictures
    assert first.names == ("ant/deep/c.JPG", "zebra/a.bmp")
    assert first.labels is not None
    assert first.labels.tolist() == [0, 1]
    assert second.images.shape == (1, 3, 8, 8)
    assert torch.equal(first.images[1, :, 0, 0], torch.tensor([0.0, 1.0, 0.0]))
    write(tmp_path / "loose.png")
    assert Pictures(tmp_path, 8).classes == ()
    assert next(iter(Pictures(tmp_path, 8))).labels is None


def test_a_list_keeps_its_order(tmp_path: Path) -> None:
    paths = [write(tmp_path / "b.png", (0, 0, 255)), str(write(tmp_path / "a.png"))]
    (batch,) = Pictures(paths, (4, 6))
    assert batch.images.shape == (2, 3, 4, 6)
    assert batch.images[:, :, 0, 0].tolist() == [[0, 0, 1], [1, 0, 0]]


GREY = 128 / 255
MODES: dict[str, tuple[Callable[[], Image.Image], str, list[float]]] = {
    "L": (lambda: Image.new("L", (9, 9), 128), "png", [GREY] * 3),
    "1": (lambda: Image.new("1", (9, 9), 1), "png", [1.0] * 3),
    "LA": (lambda: Image.new("LA", (9, 9), (0, 0)), "png", [1.0] * 3),
    "RGBA": (lambda: Image.new("RGBA", (9, 9), (255, 0, 0, 128)), "png", [1.0, 127 / 255, 127 / 255]),
    "P": (lambda: Image.new("RGB", (9, 9), (0, 255, 0)).quantize(4), "gif", [0.0, 1.0, 0.0]),
    "CMYK": (lambda: Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "tif", [1.0, 0.0, 0.0]),
    "I;16": (lambda: Image.fromarray(np.full((9, 9), 40000, np.uint16)), "png", [40000 / 65535] * 3),
    "webp": (lambda: Image.new("RGB", (9, 9), (0, 0, 255)), "webp", [0.0, 0.0, 1.0]),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    make, ending, expected = MODES[mode]
    path = tmp_path / f"x.{ending}"
    make().save(path)
    image = read_picture(path, 5)
    assert image.shape == (3, 5, 5)
    assert torch.allclose(image[:, 2, 2], torch.tensor(expected), atol=0.02 if ending in ("webp", "gif") else 0.003)


def test_transparent_palettes_and_huge_pictures_do_not_warn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    palette = Image.new("P", (9, 9), 0)
    palette.putpalette([200, 10, 10, 0, 0, 0])
    palette.save(tmp_path / "p.png", transparency=bytes([0, 255]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # 81 pixels: PIL warns; twice as many are an error
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(tmp_path / "p.png", 4).min() == 1


def test_exif_turns_the_picture(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255  # white above
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was held on its side: turn 90 degrees clockwise
    picture.save(tmp_path / "x.png", exif=exif)
    image = read_picture(tmp_path / "x.png", 16)
    assert image[:, :, 12:].min() == 1
    assert image[:, :, :4].max() == 0


def test_resize_is_antialiased_covers_and_crops_the_centre(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    assert (read_picture(tmp_path / "board.png", 8) - 0.5).abs().max() < 0.05  # a plain subsampling is 0 or 1
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_picture(tmp_path / "wide.png", 20).min() == 1
    assert read_picture(tmp_path / "wide.png", (20, 60))[0, 0].tolist() == [0.0] * 20 + [1.0] * 20 + [0.0] * 20


def test_broken_files_are_skipped_with_their_reasons(tmp_path: Path) -> None:
    good = write(tmp_path / "b.png", size=(300, 300))
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "c.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:4000])
    (tmp_path / "d.gif").write_bytes(b"")
    (tmp_path / "e.bmp").write_bytes(b"BM" + struct.pack("<I", 10) + bytes(8))
    (tmp_path / "f.png").mkdir()  # a folder with a picture's name
    Image.fromarray(np.zeros((9, 9), np.float32)).save(tmp_path / "g.tif")
    (tmp_path / "h.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    pictures = Pictures(tmp_path, 8)
    for _ in range(2):  # counts anew each time
        assert [batch.names for batch in pictures] == [("b.png",)]
        assert [Path(path).name for path, _ in pictures.skipped] == [
            "a.jpg",
            "c.png",
            "d.gif",
            "e.bmp",
            "g.tif",
            "h.png",
        ]
    assert "it is none, or a broken one" in pictures.skipped[0].reason
    assert "mode F" in pictures.skipped[4].reason
    good.unlink()
    with pytest.raises(InvalidInput, match=r"none of 6 files could be read as a picture; the first: .*a\.jpg"):
        list(Pictures(tmp_path, 8))


def test_a_wrong_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no folder"):
        Pictures(tmp_path / "none", 8)
    with pytest.raises(InvalidInput, match=r"no pictures under .*; expected files that end in bmp"):
        Pictures(tmp_path, 8)
    file = write(tmp_path / "a.png")
    with pytest.raises(InvalidInput, match="is a file; give its folder"):
        Pictures(file, 8)
    with pytest.raises(InvalidInput, match="an empty list"):
        Pictures([], 8)
    with pytest.raises(InvalidInput, match="expected a folder or a list of paths"):
        Pictures([3], 8)  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="at least 1 pixel"):
        Pictures(tmp_path, 0)
    with pytest.raises(InvalidInput, match="batch=0"):
        Pictures(tmp_path, 8, batch=0)


def test_batches_take_every_source_and_split_it(tmp_path: Path) -> None:
    images, labels = torch.rand(7, 3, 4, 4), torch.arange(7)
    write(tmp_path / "x.png")
    assert [tuple(b.images.shape) for b in batches(tmp_path, 6)] == [(1, 3, 6, 6)]
    assert [len(b.images) for b in batches(images, 4, batch=3)] == [3, 3, 1]
    for source in (
        DataLoader(TensorDataset(images, labels), batch_size=5),
        [(images, labels)],
        ((images[i : i + 1], [i]) for i in range(7)),
        [Batch(images, labels, tuple("abcdefg"))],
    ):
        found = list(batches(source, 4, batch=3))
        assert torch.equal(torch.cat([b.images for b in found]), images)
        assert [n for b in found if b.labels is not None for n in b.labels.tolist()] == list(range(7))
    assert found[2].names == ("g",)
    assert len(list(batches(DataLoader(TensorDataset(images), batch_size=7), 4))) == 1


GOOD = torch.rand(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ([GOOD, (GOOD * 255).byte()], r"batch 1 is torch\.uint8.*/ 255"),
        ([GOOD * 255], r"values from .*; expected \[0,1\]"),
        ([GOOD * 2 - 1], "leave out Normalize"),
        ([GOOD * torch.nan], "from nan to nan"),
        ([GOOD[0]], r"the shape \[3, 4, 4\]; expected \[B,C,H,W\]; add the batch dimension"),
        ([(GOOD, torch.zeros(3).long())], r"2 images and labels \[3\] of torch\.int64; expected one class number"),
        ([(GOOD, torch.zeros(2))], r"labels \[2\] of torch\.float32"),
        ([(GOOD, [-1, 2])], "labels negative numbers"),
        ([(GOOD, [0, 1]), GOOD], "batch 1 has no labels, unlike those before it"),
        ([{"image": GOOD}], "batch 0 is a dict; expected a tensor or"),
        (["a.png"], r"give Pictures\(paths, size\)"),
        ((GOOD, torch.tensor([0, 1])), r"batch 1 has the shape \[2\]"),
        (3, "a int was given for the pictures"),
    ],
)
def test_batches_refuse_what_does_not_fit(source: object, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        list(batches(source, 4))  # type: ignore[arg-type]


def test_any_size_is_covered(tmp_path: Path) -> None:
    for size in ((1, 1), (7, 3), (333, 101), (97, 640)):
        path = write(tmp_path / "x.png", size=size)
        for wanted in (1, 96, (33, 57)):
            assert read_picture(path, wanted)[0].min() == 1, (size, wanted)
