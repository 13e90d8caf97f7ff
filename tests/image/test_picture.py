"""Pictures of every kind as tensors: paths, PIL images, arrays and tensors; hostile files; what is refused, and why."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.image.picture import as_tensor, read_picture
from featureviz.image.start import start_images

RAMP = (np.arange(6 * 8 * 3).reshape(6, 8, 3)).astype(np.uint8)  # [H,W,C]
FLOATS = RAMP / np.float32(255)
WANTED = torch.from_numpy(FLOATS).movedim(-1, 0)

KINDS: dict[str, Callable[[Path], object]] = {
    "a path": lambda path: path,
    "a path as text": str,
    "a PIL image": lambda path: Image.fromarray(RAMP),
    "a PIL image that is not loaded yet": Image.open,
    "bytes [H,W,C]": lambda path: RAMP,
    "bytes [C,H,W]": lambda path: RAMP.transpose(2, 0, 1),
    "floats [H,W,C]": lambda path: FLOATS,
    "doubles [H,W,C] of another byte order": lambda path: FLOATS.astype(">f8"),
    "an array that runs backwards": lambda path: FLOATS[::-1].copy()[::-1],
    "a tensor": lambda path: WANTED,
    "a tensor of bytes": lambda path: torch.from_numpy(RAMP).movedim(-1, 0),
    "a tensor of doubles with a gradient": lambda path: WANTED.double().requires_grad_(),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Image.fromarray(RAMP).save(tmp_path / "ramp.png")
    return tmp_path / "ramp.png"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_the_same_picture(kind: str, saved: Path, tiny: fv.TappedModel) -> None:
    given = KINDS[kind](saved)
    picture = as_tensor(given)  # type: ignore[arg-type]
    assert picture.dtype == torch.float32
    assert torch.allclose(picture, WANTED, atol=1e-6)
    made = fv.render(tiny, "conv:1", image=given, steps=0, progress=False)  # type: ignore[arg-type]
    assert torch.allclose(made.images[0], WANTED.clamp(2e-3, 1), atol=4e-3)
    assert "[3, 6, 8], sha256 " in made.recipe["start"]


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_several_pictures_in_one_array(kind: str) -> None:
    several = np.stack([RAMP, RAMP[::-1]]) if kind == "bytes" else np.stack([FLOATS, FLOATS[::-1]])
    both = torch.stack([WANTED, WANTED.flip(1)])
    assert torch.allclose(as_tensor(several), both)
    assert torch.allclose(as_tensor(several.transpose(0, 3, 1, 2)), both)


def test_grey_and_other_numbers_of_channels() -> None:
    grey = RAMP[..., 0]
    assert torch.equal(as_tensor(grey), torch.from_numpy(grey / np.float32(255)).expand(3, 6, 8))
    assert as_tensor(grey, 1).shape == as_tensor(Image.fromarray(grey), 1).shape == (1, 6, 8)
    six = np.random.default_rng(0).random((5, 7, 6))
    assert torch.allclose(as_tensor(six, 6), torch.from_numpy(six).movedim(-1, 0).float())
    with pytest.raises(InvalidInput, match=r"network of 6 channels; expected a tensor or an array \[6,H,W\]"):
        as_tensor(Image.fromarray(RAMP), 6)


REFUSED = {
    "axes that may be either": (np.zeros((3, 9, 3)), "may come first or last"),
    "no axis of three": (np.zeros((9, 9, 4)), r"\[9, 9, 4\].*expected \[3,H,W\], \[H,W,3\]"),
    "one axis": (np.zeros(3), r"of shape \[3\]"),
    "integers": (np.zeros((9, 9, 3), int), "int64.*expected bytes"),
    "16 bits": (np.zeros((9, 9, 3), np.uint16), "divide by 65535"),
    "truth values": (np.zeros((9, 9, 3), bool), "of bool"),
    "complex": (np.zeros((9, 9, 3), complex), "of complex128"),
    "objects": (np.full((9, 9, 3), None), "of object"),
    "bytes as floats": (np.full((9, 9, 3), 255.0), "divide bytes by 255"),
    "more than float32 holds": (np.full((9, 9, 3), 1e300), r"\[inf, inf\]"),
    "NaN": (torch.full((3, 9, 9), torch.nan), "expected finite values"),
    "nothing": (np.zeros((0, 9, 3)), "at least one pixel"),
    "channels last": (torch.zeros(9, 9, 3), r"image\.movedim\(-1, -3\)"),
    "no axes": (torch.tensor(0.5), r"of shape \[\]"),
    "integers of torch": (torch.zeros(3, 9, 9, dtype=torch.int64), "torch.int64"),
    "complex of torch": (torch.zeros(3, 9, 9, dtype=torch.complex64), "no plain real numbers"),
    "sparse": (torch.zeros(3, 9, 9).to_sparse(), "no plain real numbers"),
    "on meta": (torch.zeros(3, 9, 9, device="meta"), "no plain real numbers"),
    "floats of PIL": (Image.new("F", (9, 9)), "mode F has values of unknown range"),
    "no pixels of PIL": (Image.new("RGB", (0, 9)), "0 x 9 pixels"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_picture_says_what_was_given_and_expected(what: str) -> None:
    given, message = REFUSED[what]
    for take in (as_tensor, lambda image: start_images(image, 1, 16), lambda image: fv.FourierImage(image=image)):
        with pytest.raises(InvalidInput, match=message):
            take(given)


@pytest.mark.parametrize(
    "given",
    [
        3,
        2.5,
        True,
        [1],
        {},
        object(),
        range(3),
        nn.Linear(2, 2),
        int,
        dict,
        lambda n: None,
        lambda *a, **k: None,
        fv.Rng,
    ],
)
def test_what_is_neither_picture_nor_parameterization(given: object) -> None:
    with pytest.raises(
        InvalidInput, match=r"image.*(expected|cannot be called as image\(n, size, seed=, image_ids=\))"
    ):
        start_images(given, 1, 16)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ hostile files
def png(width: int, height: int) -> bytes:
    """A PNG whose header promises this size, and which holds no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(RAMP).resize((64, 64)).save(file, "JPEG")
    return file.getvalue()


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket must be short
        server.bind(path.name)
        os.chdir(here)


def make_sparse(path: Path) -> None:
    path.write_bytes(b"RIFF\xff\xff\xff\xffWEBPVP8 ")
    os.truncate(path, 2**36)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "empty": (lambda path: path.write_bytes(b""), "as a picture"),
    "text": (lambda path: path.write_text("hello"), "it is none, or a broken one; expected PNG, JPEG"),
    "a bomb": (lambda path: path.write_bytes(png(60_000, 60_000)), "pixels"),
    "a smaller bomb": (lambda path: path.write_bytes(png(13_000, 13_000)), "at most 134,217,728"),
    "no pixels": (lambda path: path.write_bytes(png(9, 9)), "truncated"),
    "half a JPEG": (lambda path: path.write_bytes(jpeg()[:400]), "as a picture"),
    "a program": (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "as a picture"),
    "64 GB": (make_sparse, "68,719,476,736 bytes; expected at most"),
    "a folder": (lambda path: path.mkdir(), "it is a folder"),
    "a pipe": (os.mkfifo, "it is a pipe"),
    "a socket": (make_socket, "it is a socket"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path), "symbolic links"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_named(what: str, tmp_path: Path, tiny: fv.TappedModel) -> None:
    make, message = HOSTILE[what]
    path = tmp_path / "picture.png"
    make(path)
    for read in (as_tensor, lambda p: read_picture(p, 8), lambda p: fv.lab.channel_maps(tiny, "conv", p)):
        with pytest.raises(InvalidInput, match=rf"picture\.png.*{message}"):
            read(path)
    image = Image.new("RGB", (9, 9))
    image.save(tmp_path / "a.png")
    if not path.is_dir() and os.path.lexists(path):  # a folder of pictures goes on without it
        folder = fv.lab.Pictures(tmp_path, 8)
        assert [batch.names for batch in folder] == [("a.png",)]
        assert "picture.png" in folder.skipped[0].reason


@pytest.mark.parametrize("name", ["", "a\0b", "a" * 300, "file/inside", b"bytes.png", 3, None])
def test_names_that_no_file_has(name: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput):
        read_picture(name)  # type: ignore[arg-type]


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.png")
    Image.fromarray(RAMP).save(path)
    assert torch.allclose(as_tensor(path), WANTED)
    path.write_text("no picture")
    with pytest.raises(InvalidInput, match=r"\\udcff\\udcfe\.png") as caught:
        as_tensor(path)
    str(caught.value).encode()  # can be printed


def test_a_pil_image_is_turned_and_shown_on_white_like_a_file(tmp_path: Path) -> None:
    pixels = np.zeros((16, 12, 4), np.uint8)
    pixels[:8] = (0, 255, 0, 255)  # green above, transparent below
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: turn 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as opened:
        picture = as_tensor(opened)
    assert picture.shape == (3, 12, 16)
    assert torch.equal(picture, as_tensor(tmp_path / "x.png"))
    assert picture[:, :, 8:].amax((1, 2)).tolist() == [0, 1, 0]
    assert picture[:, :, :8].min() == 1
