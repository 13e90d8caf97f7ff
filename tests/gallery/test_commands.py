"""The commands for galleries: one command renders, builds the pages, and goes on."""

import re
from pathlib import Path

import pytest
import torch

import featureviz as fv
from featureviz.cli import main

SMALL = ["gallery", "embedded", "--layers", "features.3", "--gates", "features.1.block.2", "--units", "0:2"]
QUICK = ["--steps", "2", "--size", "32"]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(6):
        fv.lab.save_picture(torch.rand(3, 40, 48), folder / f"{i}.png")
    return folder


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_one_command_makes_a_gallery_and_the_same_goes_on(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [*SMALL, *QUICK, "--images", photographs, "--out", out]
    assert run(*command) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    gallery = fv.gallery.Gallery.open(out)
    assert [(t.tile.spec, t.figures["steps"]) for t in gallery.tiles()] == [
        (f"{sign}{name}:{unit}", 2)
        for name in ("gate:features.1.block.2", "features.3")
        for unit in (0, 1)
        for sign in ("", "-")
    ]
    group = gallery.plan.groups[0]
    assert set(gallery.natural(group)) == {0, 1}
    assert {e.sign for e in gallery.examples(group)[0]} == {1, -1}
    before = {path: path.stat().st_mtime_ns for path in out.glob("tiles/*/*.png")}
    assert run(*command) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("tiles/*/*.png")} == before
    for path in before:
        path.unlink()
        break
    assert run(*command) == 0
    assert len(list(out.glob("tiles/*/*.png"))) == 8
    assert run("site", out) == 0


def test_a_dry_run_tells_the_time_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL, *QUICK, "--dry-run", "--out", tmp_path / "out") == 0
    assert re.fullmatch(r"8 tiles, about \d+ (s|min) and \d+ MB\n", capsys.readouterr().out)
    assert not (tmp_path / "out").exists()


def test_two_galleries_side_by_side(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        assert run(*SMALL, *QUICK, "--signs", "excited", "--seed", seed, "--out", tmp_path / name) == 0
    assert run("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "both") == 0
    assert (tmp_path / "both" / "index.html").is_file()


def test_a_timelapse_is_written(tmp_path: Path) -> None:
    assert run("timelapse", "embedded", "features.3:1", "--steps", 4, "--size", 32, "--out", tmp_path / "a.gif") == 0
    assert (tmp_path / "a.gif").stat().st_size > 100


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layers", "features.33"], "nearest: 'features.3'"),
        (["--gates", "features.1.block"], "nearest: 'features.1.block.2'"),
        (["--units", "999", "--layers", "features.3"], "0 to 23"),
        (["--workers", "2"], "add --engine ray"),
        (["--objective", "features.3:1"], "{goal}"),
    ],
)
def test_mistakes_are_told_in_one_line(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("gallery", "embedded", *more, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("control_c")
@pytest.mark.parametrize("begun", [False, True])
def test_ctrl_c_builds_pages_of_what_is_there(
    begun: bool, tiny: fv.TappedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    made = fv.gallery.plan(tiny, layers="conv", units=[1], steps=1, size=16)
    monkeypatch.setattr(fv.gallery.Plan, "check" if not begun else "batches", stop)
    with pytest.raises(KeyboardInterrupt, match="goes on" if begun else "^$"):
        fv.gallery.render_gallery(made, tiny, tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "index.html").is_file() == begun


def test_photographs_of_another_network_are_not_measured(tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = fv.gallery.plan(fv.wrap(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), size=24), layers="0")
    with pytest.raises(fv.InvalidInput, match="another network"):
        fv.gallery.measure_photographs(made, tiny, torch.rand(4, 3, 24, 24), tmp_path / "out")
    assert not (tmp_path / "out").exists()
