"""The zoo's registry: marked, collected, read from files and packages, called by specs; every mistake is explained."""

import functools
import importlib
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import featureviz as fv
from featureviz.cli import main
from featureviz.errors import InvalidInput, SpecError, UnknownName
from featureviz.objectives.text import registry

OWN = '''"""Objectives of a user."""
import torch
import featureviz as fv


@fv.zoo.entry("contrast(features.3, 2)")
@fv.objective
def contrast(a, unit: int, weight: float = 1.0):
    """A unit above the mean of its layer.

    More is said here.
    """
    return a[:, unit].mean((1, 2)) - weight * a.mean((1, 2, 3))


@fv.zoo.entry("both_units(features.3, 1, 2)")
class BothUnits(fv.Objective):
    """Two units at once."""

    def __init__(self, layer: str, first: int, second: int = 0) -> None:
        super().__init__([layer])
        self.units = [first, second]

    def forward(self, activations):
        return activations.channels_first(self.layers[0])[:, self.units].flatten(1).mean(1)


def not_marked(layer):
    """Not an entry."""
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my_objectives.py"
    path.write_text(OWN)
    return path


def test_a_file_adds_its_entries_to_those_of_the_packages(own: Path) -> None:
    entries = fv.zoo.read_file(own)
    assert set(entries) == {"contrast", "both_units", *fv.zoo.installed()}
    contrast = entries["contrast"]
    assert contrast.summary == "A unit above the mean of its layer."
    assert contrast.signature == "contrast(layer: str, unit: int, weight: float = 1.0)"
    assert entries["both_units"].signature == "both_units(layer: str, first: int, second: int = 0)"
    functions = {name: entry.make for name, entry in entries.items()}
    for text in ("contrast(conv, 2, 1.0)", "2*both_units(conv, 1, 0) - contrast(conv, 3, 0.5)"):
        goal = fv.parse(text, functions)
        assert repr(goal) == text
        assert repr(fv.parse(repr(goal), functions)) == text
    assert "contrast" not in fv.zoo.installed()  # a file is for whoever gives it, and for nobody else
    with pytest.raises(UnknownName):
        fv.parse("contrast(conv, 2)")


def test_the_zoo_is_loaded_when_a_spec_calls_it() -> None:
    code = "import sys, featureviz; assert 'objectives_zoo' not in sys.modules; print(featureviz.parse('l1(input)'))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "l1(input, 0.5)\n"


def test_wrong_calls_are_explained() -> None:
    for text, *messages in (
        ("diversty(conv)", "no objective function 'diversty'; nearest: 'diversity'", "featureviz zoo"),
        ("2*diversity()", "missing a required argument: 'layer'", "called as diversity(layer: str)", "position 2"),
        ("diversity(conv, 3)", "too many positional arguments", "called as diversity(layer: str)"),
        ("sparse_channel(conv, unit=1, penlty=2)", "penlty", "sparse_channel(layer: str, unit: int, penalty: float"),
        ('sparse_channel(conv, "3")', "sparse_channel: unit='3' was given; expected a whole number"),
        ("sparse_channel(conv, 3, True)", "sparse_channel: penalty=True was given; expected a finite number"),
        (
            "interpolation(conv:1, conv:2, 0)",
            "interpolation: n=0 was given",
            "called as interpolation(first: Objective",
        ),
        ("interpolation(conv:[1, 2], conv:2, 3)", "is for 2 images"),
        ("decay(conv:1, 2.5)", "steps=2.5 was given; expected a whole number"),
    ):
        with pytest.raises(SpecError) as caught:
            fv.parse(text)
        for message in messages:
            assert message in str(caught.value), text


def test_a_function_that_fails_tells_its_layer(tiny: fv.TappedModel) -> None:
    with pytest.raises(InvalidInput, match=r"sparse_channel\(conv, 99, 0.1\) failed on 'conv', \[1, 8, .*IndexError"):
        fv.render(tiny, "sparse_channel(conv, 99)", size=24, steps=1, progress=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1 +\n", "line 1: SyntaxError"),
        ("\n\nimport no_such_module\n", "line 3: ModuleNotFoundError"),
        ("x = 1\n", "has no entries"),
        ('import featureviz as fv\n@fv.zoo.entry("a(b)")\ndef a(layer): pass\n', "no docstring"),
        ('import featureviz as fv\n@fv.zoo.entry("a(b)")\ndef gate(layer):\n    "A."\n', "whose name a spec can call"),
        ('import featureviz as fv\n@fv.zoo.entry(3)\ndef a(layer):\n    "A."\n', "example=3"),
        ("from objectives_zoo import *\n", "has no entries"),
        (OWN.replace("contrast", "diversity"), "two entries of the zoo are called 'diversity'"),
        (OWN + OWN.replace("def contrast", "def other").replace("BothUnits", "Other"), "are called 'other'"),
        ("import featureviz as fv\nfv.parse('a:')", "expected a channel"),
    ],
)
def test_a_file_that_is_wrong_is_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        fv.zoo.read_file(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["none.py", "text.txt", "."])
def test_what_is_no_file_of_objectives_is_explained(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(InvalidInput, match=r"none.py|expected a Python file"):
        fv.zoo.read_file(tmp_path / name)


def test_two_packages_with_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch, own: Path, tmp_path: Path) -> None:
    (tmp_path / "twin_objectives.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint(n, n, registry.GROUP) for n in ("my_objectives", "twin_objectives")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.setattr(registry, "installed", functools.cache(registry.installed.__wrapped__))
    with pytest.raises(InvalidInput, match=r"two entries .* 'contrast', in my_objectives and in twin_objectives"):
        registry.installed()
    points[1] = EntryPoint("broken", "no_such_package", registry.GROUP)
    with pytest.raises(InvalidInput, match="'no_such_package' cannot be loaded: ModuleNotFoundError"):
        registry.installed()
    del points[1]
    assert list(registry.installed()) == ["both_units", "contrast"]
    for name in ("my_objectives", "twin_objectives"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


def test_marks_are_for_what_a_spec_can_call() -> None:
    def good(layer: str) -> Any:
        """Good."""

    for value in (3, lambda layer: layer, functools.partial(good)):
        with pytest.raises(InvalidInput, match="whose name a spec can call"):
            fv.zoo.entry("x(y)")(value)  # pyright: ignore[reportArgumentType]
    assert fv.zoo.entry("good(x)")(good) is good
    assert fv.zoo.collect([good, 3, None, good])["good"].example == "good(x)"


def test_the_shell_lists_and_renders(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "--objectives", str(own)]) == 0
    listed = capsys.readouterr().out
    for entry in fv.zoo.read_file(own).values():
        assert f"{entry.signature}\n    {entry.summary}\n" in listed
    options = ["--objectives", str(own), "--out", str(tmp_path / "out"), "--steps", "2", "--size", "48"]
    spec = "features.3:[1, 1] + 100*diversity(features.3) - contrast(features.3, 2)"
    assert main(["render", "embedded", spec, *options]) == 0
    saved = sorted((tmp_path / "out").rglob("0*.png"))
    specs = [fv.read_recipe(path)["spec"] for path in saved]
    functions = {name: entry.make for name, entry in fv.zoo.read_file(own).items()}
    assert [repr(fv.parse(text, functions)) for text in specs] == specs
    assert len(specs) == 2
    for wrong, message in (
        ("diversty(features.3)", "nearest: 'diversity'"),
        ("diversity(3, 4)", "called as diversity("),
    ):
        assert main(["render", "embedded", wrong, *options]) == 2
        assert message in capsys.readouterr().err
    own.write_text("import nothing_at_all")
    assert main(["render", "embedded", "features.3:1", *options]) == 2
    assert "line 1: ModuleNotFoundError" in capsys.readouterr().err


def test_annotated_arguments_are_checked() -> None:
    @fv.objective
    def mixed(a: Tensor, unit: int, name: str = "x", on: bool = True, rest: Any = None) -> Tensor:
        return a[:, unit].flatten(1).mean(1)

    for arguments in ((1.5,), ("1",), (1, 2), (1, "x", 1)):
        with pytest.raises(InvalidInput, match=r"mixed: (unit|name|on)="):
            mixed("conv", *arguments)
    acts = fv.Activations({"conv": torch.zeros(1, 3, 2, 2)}, fv.Rows.make(1))
    assert mixed("conv", 1, rest=object())(acts).shape == (1,)
