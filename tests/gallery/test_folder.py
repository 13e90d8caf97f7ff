"""The folder of a gallery: names that no two sites share, earlier galleries removed, files of others left alone."""

import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

import featureviz as fv
from featureviz.cli import main
from featureviz.errors import InvalidInput
from featureviz.files import make_file_name
from featureviz.gallery import gate_cards, render_specs

Q = {"steps": 1, "size": 16, "progress": False}
ALIKE = ["a-b", "a_b", "a b", "A-b", "ä-b", "x" * 130 + "1", "x" * 130 + "2"]  # as names of files


class Alike(nn.Module):
    """Gated blocks whose names differ in what a file's name leaves out."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.blocks = nn.ModuleDict({name: SqueezeExcitation(8, 4) for name in names})

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for block in self.blocks.values():
            x = block(x)
        return x.mean((2, 3))


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def shown_by(folder: Path) -> set[str]:
    """All that the pages show or link to."""
    links = [re.findall(r'(?:src|href)="((?!data:)[^"]+)"', page.read_text()) for page in folder.glob("*.html")]
    return {link for page in links for link in page}


@pytest.mark.parametrize("names", [[one, two] for one, two in itertools.pairwise(ALIKE)])
def test_two_sites_never_share_a_page_or_a_tile(names: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = fv.wrap(Alike(names), size=16)
    gate_cards(model, torch.rand(8, 3, 16, 16), tmp_path, units=[1], **Q)
    gates = json.loads((tmp_path / "report.json").read_text())["gates"]
    assert len(gates) == 2
    for gate in gates:
        assert fv.read_recipe(tmp_path / gate["renders"]["excited"]["file"])["spec"] == gate["spec"]
    pages = [gate["page"].casefold() for gate in gates]
    assert len(set(pages)) == 2
    tiles = [render["file"].casefold() for gate in gates for render in gate["renders"].values()]
    assert len(set(tiles)) == len(tiles)
    assert shown_by(tmp_path) <= files_of(tmp_path)


# --------------------------------------------------------------------------------------------------- earlier galleries
SECOND: dict[str, Callable[[fv.TappedModel, Path], Path]] = {
    "fewer pictures": lambda model, out: render_specs(model, ["conv:1"], out, **Q),
    "other pictures": lambda model, out: render_specs(model, ["se:1", "se:2", "se:3", "se:4"], out, **Q),
    "another order": lambda model, out: render_specs(model, ["conv:3", "conv:2", "conv:1"], out, **Q),
    "the same": lambda model, out: render_specs(model, ["conv:1", "conv:2", "conv:3"], out, **Q),
    "cards": lambda model, out: gate_cards(model, torch.rand(8, 3, 24, 24), out, units=[2], **Q),
}


@pytest.mark.parametrize("first", SECOND)
@pytest.mark.parametrize("second", SECOND)
def test_a_page_never_stands_beside_tiles_of_an_earlier_run(
    first: str, second: str, tiny: fv.TappedModel, tmp_path: Path
) -> None:
    mine = {"holiday.png", "notes.txt", "tiles/mine.png"}
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    SECOND[first](tiny, tmp_path)
    SECOND[second](tiny, tmp_path)
    found = files_of(tmp_path)
    assert found - {"index.html", "report.json", "sheet.png"} - mine == shown_by(tmp_path) - {"index.html"}
    assert mine <= found
    assert json.loads((tmp_path / "report.json").read_text())


def test_values_beside_tiles_of_other_channels_go_too(tmp_path: Path) -> None:
    model = fv.wrap(nn.Sequential(nn.Conv2d(2, 8, 3)), channels=2)
    for specs in (["0:1", "0:2", "0:3"], ["0:4"]):
        render_specs(model, specs, tmp_path, **Q)
    assert len(list(tmp_path.glob("*.npy"))) == 1


OURS = make_file_name("out of the way")


@pytest.mark.parametrize(
    "named", [f"../{OURS}", "notes.txt", f"other/{OURS}", "", ".", "..", "tiles", 3, None, ["notes.txt"], "report.json"]
)
def test_a_report_cannot_make_it_remove_files_of_others(named: object, tiny: fv.TappedModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for place in (tmp_path / OURS, out / "notes.txt", out / "other" / OURS, out / "tiles" / "x.txt"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("mine")
    (out / "report.json").write_text(json.dumps({"units": [{"file": named, "page": named}]}))
    render_specs(tiny, ["conv:1"], out, **Q)
    for place in (tmp_path / OURS, out / "notes.txt", out / "other" / OURS, out / "tiles" / "x.txt"):
        assert place.read_text() == "mine"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"mine": 1}', b'{"units": 3}', b'{"a":' * 50_000]
)
@pytest.mark.parametrize("command", ["render", "demo", "gates"])
def test_a_report_of_others_is_not_overwritten(
    data: bytes, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_bytes(data)
    more = {"render": ["embedded", "features.3:1"], "demo": [], "gates": ["embedded", "--cards", "--images", "x"]}
    assert main([command, *more[command], "--out", str(tmp_path)]) == 2
    assert "give another folder (--out)" in capsys.readouterr().err
    assert files_of(tmp_path) == {"report.json"}
    assert (tmp_path / "report.json").read_bytes() == data


@pytest.mark.parametrize("name", ["index.html", "report.json", "sheet.png"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_cannot_be_replaced_is_found_before_the_ascent(
    name: str, make: Callable[[Path], None], tiny: fv.TappedModel, tmp_path: Path
) -> None:
    make(tmp_path / name)
    if make is os.mkfifo and name != "report.json":
        render_specs(tiny, ["conv:1"], tmp_path, **Q)  # a pipe is replaced like any file
        assert (tmp_path / name).is_file()
        return
    with pytest.raises(InvalidInput, match=rf"{name}.*give another folder"):
        render_specs(tiny, ["conv:1"], tmp_path, **(Q | {"steps": 10**6}))


@pytest.mark.parametrize("out", ["file", "file/in", "/proc/x", "/dev/null", "a" * 300, "loop"])
def test_an_unwritable_folder_is_found_before_the_ascent(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    assert main(["render", "torchvision:resnet18", "conv1:1", "--steps", "1000000", "--out", out]) == 2
    assert "cannot write to" in capsys.readouterr().err  # and nothing was downloaded


def test_names_that_are_not_utf_8_are_shown(tiny: fv.TappedModel, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(8):
        fv.lab.save_picture(torch.rand(3, 24, 24), folder / f"{i}.png")
    (folder / os.fsdecode(b"\xff.png")).write_text("no picture")
    page = gate_cards(tiny, folder, tmp_path / os.fsdecode(b"out\xfe"), units=[2], **Q)
    assert r"\udcff.png" in page.read_text()
    assert json.loads((page.parent / "report.json").read_text())["skipped"][0]["file"] == "\udcff.png"
