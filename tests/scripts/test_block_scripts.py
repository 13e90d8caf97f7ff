"""The scripts that draw one photograph: activation grids, blocks, saliency."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

from featureviz.files import make_file_name
from featureviz.lab import save_picture
from tests.lab.small_nets import SITE, pictures


def test_scripts_write_their_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    photo = save_picture(torch.rand(3, 30, 40), tmp_path / "photo.png")
    runs = {
        "se_block": ["embedded", "features.1.block.2", "--channels", "2"],
        "activation_grid": ["embedded", "features.0", "features.9", "--channels", "4"],
    }
    for name, arguments in runs.items():
        main = importlib.import_module(name).main
        monkeypatch.setattr(sys, "argv", [name, *arguments, "--image", str(photo), "--out", str(tmp_path / name)])
        assert main() == 0
        monkeypatch.setattr(sys, "argv", [name, "embedded", "nowhere", "--image", str(photo), "--out", str(tmp_path)])
        assert main() == 2
        assert capsys.readouterr().err.startswith(f"{name}: no ")
    assert {p.name for p in (tmp_path / "se_block").iterdir()} == {"maps.png", "weights.png", "jacobian.png"}
    names = {make_file_name("features.0"), make_file_name("features.9"), "all.png"}
    assert {p.name for p in (tmp_path / "activation_grid").iterdir()} == names


def test_saliency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    monkeypatch.delitem(sys.modules, "saliency", raising=False)
    main = importlib.import_module("saliency").main
    save_picture(pictures(1, 120)[0], tmp_path / "a.png")
    common = ["--image", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["saliency", "embedded", SITE, "-logit:285", "--steps", "4", *common])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[7].startswith(SITE)
    height, width, _ = iio.imread(tmp_path / "out" / make_file_name("-logit:285")).shape
    assert width > 4 * 224
    assert height > 2 * 224
    monkeypatch.setattr(sys, "argv", ["saliency", "embedded", "features.8.block", "logit:285", *common])
    assert main() == 2
    assert "nearest: 'features.8.block.2'" in capsys.readouterr().err
