"""The atlas of gates: a gallery that goes on, and its poster."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from featureviz.gallery import Gallery, poster
from featureviz.image.picture import read_picture
from featureviz.lab import save_picture


def test_an_atlas_is_a_gallery_with_a_poster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    script, out = importlib.import_module("gates_atlas"), tmp_path / "atlas"
    for i, picture in enumerate(torch.rand(4, 3, 32, 32)):
        save_picture(picture, tmp_path / f"photographs/{i}.png")
    options = ["--blocks", "features.9.block.2", "--units", "0:2", "--steps", "1", "--size", "16", "--input", "64"]
    options += ["--images", str(tmp_path / "photographs"), "--note", "Photographs: noise.", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["gates_atlas", "embedded", *options])
    for _ in range(2):  # the second time nothing is left to do
        assert script.main() == 0
        assert capsys.readouterr().out == f"{out / 'index.html'}\n{out / 'poster.jpg'}\n"
    tiles = Gallery.open(out).tiles()
    assert [stored.tile.spec for stored in tiles] == [
        f"{sign}gate:features.9.block.2:{i}" for i in (0, 1) for sign in ("", "-")
    ]
    with_photographs, without = (
        read_picture(path).shape[1] for path in (out / "poster.jpg", poster(out, tmp_path / "without.jpg"))
    )
    assert with_photographs - without >= 2 * (16 + 3)  # two more rows of pictures of 16 pixels
