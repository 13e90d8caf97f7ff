"""The command line under hostile conditions: streams that are closed or full, wrong numbers, missing packages."""

import argparse
import errno
import importlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import featureviz as fv
from featureviz import options
from featureviz.cli import main
from featureviz.errors import InvalidInput
from featureviz.options import positive_int, run_command

SCRIPTS = Path(__file__).parents[1] / "scripts"


# ------------------------------------------------------------------------------------------------------------- streams
def broken_pipe() -> int:
    """A pipe that nobody reads any more, as after ``| head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


STREAMS: dict[str, tuple[Callable[[], int], int]] = {"closed": (broken_pipe, 0), "full": (full, 2)}
WORKS: dict[str, Callable[[], object]] = {
    "a line": lambda: print("line"),
    "much": lambda: print("line\n" * 100_000),
    "many lines": lambda: [print("line", flush=True) for _ in range(100)],
    "no line end": lambda: print("line", end=""),
    "not ASCII": lambda: print("\N{GREEK SMALL LETTER ALPHA} \udcff"),
    "help": lambda: argparse.ArgumentParser(prog="x").parse_args(["--help"]),
}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("work", WORKS)
def test_standard_output_may_be_closed_or_full(
    stream: str, work: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make, code = STREAMS[stream]
    with os.fdopen(make(), "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert run_command("program", WORKS[work]) == code
        output.flush()  # what Python does at its end is quiet too
    shown = capfd.readouterr().err
    assert shown == ("" if code == 0 else "program: No space left on device; give another place to write to\n")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("work", WORKS)
def test_streams_may_be_missing(name: str, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)
    assert run_command("program", WORKS[work]) == 0
    getattr(sys, name).close()


def test_stderr_may_be_full_too(monkeypatch: pytest.MonkeyPatch) -> None:
    output = os.fdopen(full(), "w")
    monkeypatch.setattr(sys, "stderr", output)
    assert main(["layers", "nothing"]) == 2
    with suppress(OSError):
        output.close()


def test_any_text_can_be_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert run_command("program", lambda: print("\N{GREEK SMALL LETTER ALPHA} \udcff")) == 0
    assert (tmp_path / "out").read_text() == "\\u03b1 \\udcff\n"


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InvalidInput("wrong"), 2, "program: wrong\n"),
        (KeyboardInterrupt(), 130, "program: interrupted\n"),
        (KeyboardInterrupt("page.html shows 3"), 130, "program: interrupted; page.html shows 3\n"),
        (OSError(errno.EROFS, "Read-only file system", "x.png"), 2, "Read-only file system (x.png)"),
        (SystemExit(2), 2, ""),
        (SystemExit(None), 0, ""),
        (SystemExit("why"), 2, "program: why\n"),
    ],
)
def test_exit_codes(error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("program", lambda: fail(error)) == code
    assert text in capsys.readouterr().err


def test_a_fault_of_the_package_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command("program", lambda: 1 / 0)


# ------------------------------------------------------------------------------------------------------------- numbers
@pytest.mark.parametrize(
    "text", ["", " ", "abc", "1e9", "-1", "0", "1.5", "nan", "inf", "0x10", "9" * 5000, "1 2", "\udcff"]
)
@pytest.mark.parametrize("option", ["--steps", "--size", "--views", "--best-of", "--batch", "--input"])
def test_what_is_no_number_is_a_usage_error(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "embedded", "features.3:1", option, text]) == 2
    assert f"argument {option}: {text.strip()[:20]!r} was given; expected a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1", " 7", "+3", "0012"])
def test_whole_numbers(text: str) -> None:
    assert positive_int(text) == int(text)


@pytest.mark.parametrize(
    "arguments",
    [[], ["nothing"], ["render"], ["render", "embedded"], ["layers", "embedded", "more"], ["demo", "--gates"],
     ["render", "embedded", "a:1", "--lr", "x"], ["render", "embedded", "a:1", "--seed", "1e3"],
     ["gates", "embedded", "--units", "x"], ["render", "embedded", "a:1", "--precision", "int8"], ["--nothing"]],
)  # fmt: skip
def test_a_wrong_usage_is_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage: featureviz" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["render", "--help"], ["gates", "-h"]])
def test_help_is_code_0(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "featureviz" in capsys.readouterr().out


@pytest.mark.parametrize("count", ["99999", "1000000000"])
def test_more_gates_than_there_are(count: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--gates", count, "--out", str(tmp_path)]) == 2
    assert "expected 1 to 1504 gates, which there are" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------- listings, --image
@pytest.mark.parametrize("command", ["layers", "gates"])
@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "timm:test_efficientnet"])
def test_listings_download_nothing(
    command: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    def load(model: str, **kwargs: object) -> fv.TappedModel:
        asked.append(kwargs["weights"])
        return fv.load(model, weights=None, size=64)

    monkeypatch.setattr(options, "load", load)
    assert main([command, name]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2
    assert asked == [None]
    main(["render", name, "nothing:1"])  # a render needs its weights
    assert asked == [None, "default"]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK", "P"])
def test_a_render_starts_from_a_picture(mode: str, tmp_path: Path) -> None:
    ramp = np.linspace(40, 200, 30 * 40 * 3).reshape(30, 40, 3).astype(np.uint8)
    file = tmp_path / ("start.tif" if mode == "CMYK" else "start.png")
    Image.fromarray(ramp).convert(mode).save(file)
    options = ["--size", "24", "--steps", "1", "--lr", "1e-9", "--out", str(tmp_path / "out")]
    assert main(["render", "embedded", "features.3:1", "--image", str(file), *options]) == 0
    (unit,) = json.loads((tmp_path / "out/report.json").read_text())["units"]
    tile = fv.lab.read_picture(tmp_path / "out" / unit["file"])
    assert tile.shape == (3, 24, 24)
    assert (tile - fv.lab.read_picture(file, 24)).abs().max() < 0.03
    assert "start" in fv.read_recipe(tmp_path / "out" / unit["file"])
    page = (tmp_path / "out/index.html").read_text()
    assert "rendered from a picture by 1 steps" in page
    assert "noise" not in page


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "text", "device", "loop"])
def test_a_start_that_is_no_picture(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = tmp_path / "start.png"
    make: dict[str, Callable[[], object]] = {
        "missing": lambda: None, "folder": start.mkdir, "pipe": lambda: os.mkfifo(start),
        "text": lambda: start.write_text("x"), "device": lambda: start.symlink_to("/dev/zero"),
        "loop": lambda: start.symlink_to(start),
    }  # fmt: skip
    make[kind]()
    out = tmp_path / "out"
    assert main(["render", "embedded", "features.3:1", "--image", str(start), "--out", str(out)]) == 2
    assert "featureviz: cannot read" in capsys.readouterr().err
    assert not out.exists()


def test_a_render_with_transparency(tmp_path: Path) -> None:
    start = ["--size", "24", "--steps", "1", "--input", "32", "--out", str(tmp_path)]
    assert main(["render", "embedded", "penalize_alpha(features.3:1)", "--alpha", *start]) == 0
    (unit,) = json.loads((tmp_path / "report.json").read_text())["units"]
    with Image.open(tmp_path / unit["file"]) as tile:
        assert (tile.mode, tile.size) == ("RGBA", (24, 24))
    assert main(["render", "embedded", "penalize_alpha(features.3:1)", *start]) == 2


def test_latents_of_a_dictionary_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, state = str(tmp_path / "d.pt"), {"W_enc": torch.randn(40, 5), "b_enc": torch.randn(5)}
    torch.save(state, file)
    start = ["--size", "24", "--steps", "1", "--input", "32", "--out", str(tmp_path / "out"), "--dictionary"]
    assert main(["render", "embedded", "sae:d:[0, 4]", *start, f"d=features.6:{file}"]) == 0
    (tile, _) = json.loads((tmp_path / "out/report.json").read_text())["units"]
    written = fv.read_recipe(tmp_path / "out" / tile["file"])["dictionaries"]["sae:d"]
    assert written == repr(fv.Dictionary(state["W_enc"].T, state["b_enc"]))
    for text, message in (
        ("d=features.6", "expected NAME=LAYER:FILE"), (f"=features.6:{file}", "expected NAME=LAYER:FILE"),
        (f"d=features.6:{file}", "'d' has 5 latents: 0 to 4"), (f"d=features.3:{file}", "reads 40 channels; layer"),
    ):  # fmt: skip
        assert main(["render", "embedded", "sae:d:5", *start, text]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["out\udcff", "\N{GREEK SMALL LETTER ALPHA}", "a b", "-out", "%s{0}"])
def test_any_name_of_a_folder(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["render", "embedded", "features.3:1", "--steps", "1", "--size", "16", f"--out={text}"]) == 0
    assert (tmp_path / text / "index.html").is_file()


# ------------------------------------------------------------------------------------------------------------- scripts
PARSERS = ["render_gallery", "se_block", "modes", "saliency", "realisable", "held_open", "activation_grid"]
PARSERS += ["gate_statistics", "attention_demo", "natural_crops", "gates_atlas"]


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(("argument", "code"), [("--nothing", 2), ("--help", 0)])
def test_scripts_end_like_the_command(
    name: str, argument: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", [name, argument])
    assert importlib.import_module(name).main() == code
    shown = capsys.readouterr()
    assert "usage:" in shown.err + shown.out


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("se_block", ["embedded", "features.3.block.2", "--image", "none.png"], "cannot read none.png"),
        ("activation_grid", ["embedded", "features.3", "--image", "/dev/zero"], "it is a device"),
        ("saliency", ["embedded", "features.3.block.2", "logit:1", "--image", "."], "it is a folder"),
        ("attention_demo", ["--out", "x.jpg"], "images are written as PNG"),
        ("attention_demo", ["--out", "/dev/null/x.png"], "cannot write"),
        ("render_gallery", ["embedded", "features.3", "--out", "/dev/null"], "cannot write"),
        ("gates_atlas", ["embedded", "--out", "/dev/null"], "cannot write"),
        ("gates_atlas", ["embedded", "--blocks", "features.9", "--out", "x"], "features.9.block.2"),
        ("gate_statistics", ["embedded", "--images", "none"], "there is no folder"),
        (
            "held_open",
            ["embedded", "features.3:1", "features.3.block.2", "--statistics", "none.pt"],
            "cannot read none.pt",
        ),
    ],
)
def test_mistakes_in_scripts_are_one_line(
    name: str, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    assert importlib.import_module(name).main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}: ")
    assert message in line


def test_a_block_without_two_layers_still_has_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module("se_block")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2, 1), fv.nn.CBAM(8, reduction=2))
    monkeypatch.setattr(script, "load_model", lambda args: fv.wrap(net, size=24))
    fv.lab.save_picture(torch.rand(3, 24, 24), tmp_path / "a.png")
    site = next(name for name, s in fv.gates(fv.wrap(net, size=24)).items() if not s.spatial)
    monkeypatch.setattr(sys, "argv", ["se_block", "x", site, "--image", "a.png"])
    assert script.main() == 2
    shown = capsys.readouterr()
    assert "maps.png" in shown.out
    assert "se_block: weights.png was not made" in shown.err
