"""Plans: which tiles there are, what their hashes depend on, and the manifest."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import featureviz as fv
from benchmarks.studies.killed_gallery import paint
from featureviz.errors import InvalidInput, ModelError, SpecError, UnknownName
from featureviz.gallery import Gallery, Plan, plan, render_plan


def keys(made: Plan) -> set[str]:
    return {tile.key for tile in made.tiles}


def test_a_plan_lists_units_signs_and_variants_by_layer(tiny: fv.TappedModel) -> None:
    made = plan(tiny, layers=["conv"], gates="all", units=[1, 3], variants=2)
    assert [(g.kind, g.layer) for g in made.groups] == [("gate", "se"), ("channel", "conv")]  # as they run
    assert [(t.unit, t.sign, t.variant, t.spec) for t in made.tiles[8:12]] == [
        (1, 1, 0, "conv:1"), (1, 1, 1, "conv:1"), (1, -1, 0, "-conv:1"), (1, -1, 1, "-conv:1"),
    ]  # fmt: skip
    assert len(made) == 16
    assert len({tile.file for tile in made.tiles}) == 16


def test_units_may_differ_from_layer_to_layer(tiny: fv.TappedModel) -> None:
    made = plan(tiny, layers=["se", "conv"], gates=["se"], units={"se": [1], "gate:se": [2, 3]}, signs=(1,))
    assert [tile.spec for tile in made.tiles[:3]] == ["se:1", "gate:se:2", "gate:se:3"]
    assert [tile.unit for tile in made.tiles[3:]] == list(range(8))
    with pytest.raises(UnknownName, match="'gate:se'"):
        plan(tiny, gates=["se"], units={"gate:sea": [1]})
    with pytest.raises(InvalidInput, match="0 to 7"):
        plan(tiny, gates=["se"], units={"gate:se": [1, 8]})


def test_batches_never_mix_layers(tiny: fv.TappedModel) -> None:
    made = plan(tiny, layers=["conv"], gates=["se"], units=range(3), batch=4)
    sizes = [(len(b), {t.layer for t in b}) for b in made.batches()]
    assert sizes == [(4, {"se"}), (2, {"se"}), (4, {"conv"}), (2, {"conv"})]


@pytest.mark.parametrize(
    "other",
    [
        {"steps": 9}, {"size": 48}, {"seed": 1}, {"views": 2}, {"recipe": "fast"}, {"image": fv.PixelImage},
        {"transforms": []}, {"optimizer": fv.Adam(0.01)}, {"runtime": fv.Runtime(redirect=0)},
        {"objective": "{goal} + 2*conv:1"}, {"recipe": "maco", "steps": 8},
    ],
)  # fmt: skip
def test_a_key_holds_all_that_decides_pixels(other: dict[str, Any], tiny: fv.TappedModel) -> None:
    first = plan(tiny, layers="conv", units=[1], steps=8)
    assert keys(first).isdisjoint(keys(plan(tiny, **({"layers": "conv", "units": [1], "steps": 8} | other))))
    assert keys(first) == keys(plan(tiny, layers="conv", units=[1], steps=8))


def test_a_key_depends_on_every_weight_and_on_the_normalisation() -> None:
    def make(change: float = 0.0, **options: Any) -> set[str]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3, **options.pop("conv", {})), nn.BatchNorm2d(4))
        with torch.no_grad():
            net[1].running_mean[2] += change
        return keys(plan(fv.wrap(net, **({"size": 16} | options)), layers="0"))

    made = [make(), make(1e-3), make(mean=0.5), make(size=24), make(conv={"stride": 2})]
    assert make() == made[0]
    assert all(a.isdisjoint(b) for i, a in enumerate(made) for b in made[:i])


class Scaled(nn.Module):
    """What its text does not tell: numbers, tensors and texts that are mere attributes."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.scale, self.shift, self.mode, self.sizes = 1.0, torch.zeros(4), "same", [1, 2]
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * self.scale + self.shift[:, None, None]


def test_a_key_depends_on_attributes_of_modules_and_on_what_the_model_was_given() -> None:
    def make(settings: dict[str, Any] | None = None, **options: Any) -> set[str]:
        torch.manual_seed(0)
        return keys(plan(fv.wrap(Scaled(**(settings or {})), **({"size": 16} | options)), layers="conv"))

    changes: list[dict[str, Any]] = [
        {"scale": 2.0}, {"shift": torch.ones(4)}, {"mode": "other"}, {"sizes": [1, 3]}, {"scale": None},
    ]  # fmt: skip
    changed = [make(change) for change in changes[:-1]]
    changed += [make(labels=["a", "b"]), make(axes={"conv": "n c h w"}), make(size=None), make(mean=0.5)]
    assert make() == make()
    assert make({"_private": 1, "training": True}) == make()
    assert all(a.isdisjoint(b) for i, a in enumerate([make(), *changed]) for b in [make(), *changed][:i])


def test_a_key_is_the_same_in_every_process(tiny: fv.TappedModel) -> None:
    """Or nothing could ever be resumed: no text in it may hold an address or depend on the seed of hashes."""
    code = """
import torch, featureviz as fv
from tests.conftest import TinySE
torch.manual_seed(0)
model = fv.wrap(TinySE().train(), mean=0.5, std=0.25, size=24, labels=["ant", "bee", "cat", "dog", "eel"])
for recipe in ("clear", "fast", "plain", "maco"):
    made = fv.gallery.plan(model, layers=["conv"], gates="all", units=[1], recipe=recipe)
    print(*(tile.key for tile in made.tiles))
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for recipe, line in zip(("clear", "fast", "plain", "maco"), run.stdout.splitlines(), strict=True):
        made = plan(tiny, layers=["conv"], gates="all", units=[1], recipe=recipe)
        assert line.split() == [tile.key for tile in made.tiles]


def test_numbers_of_other_libraries_are_taken(tiny: fv.TappedModel, tmp_path: Path) -> None:
    usual = plan(tiny, layers="conv", units=[1, 2], steps=8, size=16, seed=3)
    other = plan(
        tiny, layers=np.array(["conv"]).tolist(), units=np.array([1, 2]), signs=torch.tensor([1, -1]),
        variants=np.int64(1), batch=np.int16(16), steps=np.int64(8), size=torch.tensor(16), seed=np.uint8(3),
    )  # fmt: skip
    assert usual.tiles == other.tiles
    other.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json").tiles == usual.tiles


HOSTILE = [
    "<script>alert(1)<", 'a"b', "a'b", "../..", "a/b", "a\\b", "a\nb", "a\0b", "\ud800", "🦜", "x" * 300,
    "x" * 299 + "y", "a b", "a_b", "A b", "a-b", "{goal}", "CON", " ", "gate:x", "é", "e\u0301", "\u202eabc", "%s{}",
    "-1", "--out",
]  # fmt: skip


class Named(nn.Module):
    """Layers with names of any kind, each a block of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.names = [name for name in HOSTILE if "." not in name]
        for name in self.names:
            self.add_module(name, nn.Conv2d(3, 3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "../..", "a\nb\0c", "\ud800", "🦜", "x" * 300, " "])
def test_names_may_be_any_text(name: str, tmp_path: Path) -> None:
    """Each tile has a file of its own, inside the folder, and everything is read back as it was."""
    model = fv.wrap(Named(), size=16, name=name)
    made = plan(model, layers="all", units=[0, 1], steps=1, size=16, objective="{goal} - 0.1*l1(input)")
    assert [group.layer for group in made.groups] == [n for n in HOSTILE if "." not in n]
    files = {tile.file.casefold() for tile in made.tiles}
    assert len(files) == len(made) == 4 * len(made.groups)
    assert len({str(Path(file).parent) for file in files}) == len(made.groups)
    for file in files:
        assert file.isascii()
        assert all(part not in ("", ".", "..") and len(part) < 120 for part in file.split("/"))
    gallery = render_plan(made, model, tmp_path, engine=paint, progress=True)
    assert Plan.read(tmp_path / "plan.json") == made == gallery.plan
    assert (tmp_path / "plan.json").read_bytes().isascii()
    assert [stored.tile for stored in Gallery.open(tmp_path).tiles()] == list(made.tiles)
    assert gallery.plan.model == name
    for group in made.groups:
        assert [stored.tile.layer for stored in gallery.tiles(group)] == [group.layer] * 4
    assert sum(path.is_file() for path in (tmp_path / "tiles").rglob("*")) == len(made)
    assert sorted(os.listdir(tmp_path)) == [".lock.sqlite", "index.sqlite", "plan.json", "tiles"]


def test_hostile_names_are_rendered(tmp_path: Path) -> None:
    model, names = fv.wrap(Named(), size=8), ["<script>alert(1)<", "a/b", "a\nb", "\ud800", "x" * 300, "{goal}"]
    made = plan(model, layers=names, units=[0], signs=(-1,), steps=1, size=8)
    for stored in render_plan(made, model, tmp_path, progress=False).tiles():
        assert fv.read_recipe(tmp_path / stored.tile.file)["spec"] == stored.tile.spec


def test_a_key_depends_on_interventions(tiny: fv.TappedModel) -> None:
    first = plan(tiny, layers="conv", units=[1])
    with fv.clamp(tiny, "se", 1.0):
        assert keys(first).isdisjoint(keys(plan(tiny, layers="conv", units=[1])))


def test_a_manifest_is_read_back(tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = plan(tiny, layers=["conv"], gates=["se"], units=range(2), steps=8)
    made.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == made
    assert Plan.read(tmp_path / "plan.json").recipe.options["steps"] == 8
    lines = (tmp_path / "plan.json").read_text().splitlines()
    assert sum(t.key in line for t in made.tiles for line in lines) == len(made)  # one line a tile


def test_a_recipe_with_objects_is_described_and_not_guessed(tiny: fv.TappedModel, tmp_path: Path) -> None:
    made = plan(tiny, layers=["conv"], units=[1], transforms=[fv.transform.Jitter(2)])
    assert [repr(t) for t in made.recipe.options["transforms"]] == ["Jitter(2)"]
    made.write(tmp_path / "plan.json")
    there = Plan.read(tmp_path / "plan.json")
    assert there.tiles == made.tiles
    assert there.recipe.text["transforms"] == ["Jitter(2)"]
    with pytest.raises(InvalidInput, match="make the plan again"):
        _ = there.recipe.options


class Unsaid:
    """A factory whose text changes from run to run."""

    def __call__(self, n: int, size: int, *, seed: int = 0, image_ids: list[int] | None = None) -> fv.PixelImage:
        return fv.PixelImage(n, size, seed=seed, image_ids=image_ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": [99]}, "'conv' has 0 to"),
        ({"signs": (2,)}, r"expected \(1, -1\)"),
        ({"signs": ()}, r"expected \(1, -1\)"),
        ({"variants": 0}, "variants"),
        ({"recipe": "clera"}, "clear"),
        ({"step": 3}, "steps"),
        ({"objective": "conv:1"}, "{goal}"),
        ({"batch": 0}, "batch"),
        ({"image": fv.PixelImage(1, 16)}, "what makes one"),
        ({"image": Unsaid()}, "__repr__"),
        ({"image": lambda n, size, seed, image_ids: fv.PixelImage(n, size)}, "lambda"),
        ({"layers": 3}, "a list of names"),
        ({"layers": ["conv", 3]}, "expected a str"),
        ({"layers": [["conv"]]}, "expected a str"),
        ({"gates": b"se"}, "a list of names"),
        ({"units": 3}, "units"),
        ({"units": [-1]}, "units"),
        ({"units": [1.5]}, "units"),
        ({"signs": 1}, "signs"),
        ({"signs": ["1"]}, "signs"),
        ({"steps": "8"}, "steps"),
        ({"seed": 0.5}, "seed"),
        ({"views": 0}, "views"),
        ({"size": -1}, "size"),
        ({"runtime": "fast"}, "Runtime"),
        ({"variants": 2**20}, "expected at most 1,048,576"),
        ({"objective": 3}, "{goal}"),
        ({"objective": "{goal} + diversity(conv)"}, "looks at each image alone"),
        ({"objective": "[{goal}, conv:1]"}, "looks at each image alone"),
    ],
)
def test_wrong_arguments_are_told(options: dict[str, Any], message: str, tiny: fv.TappedModel) -> None:
    with pytest.raises(InvalidInput, match=message):
        plan(tiny, **({"layers": "conv"} | options))


def test_what_does_not_exist_is_told_with_the_nearest_names(tiny: fv.TappedModel) -> None:
    with pytest.raises(UnknownName, match="'conv'"):
        plan(tiny, layers="cnv")
    with pytest.raises(UnknownName, match="'se'"):
        plan(tiny, gates="see")
    with pytest.raises(SpecError):
        plan(tiny, layers="conv", objective="{goal} +")
    with pytest.raises(ModelError, match="no squeeze-and-excitation gates"):
        plan(fv.wrap(nn.Sequential(nn.Conv2d(3, 4, 3)), size=16))


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", '{"featureviz gallery": 2}', '{"featureviz gallery": 1}', '{"featureviz gallery": 1, "model": 3}'],
)
def test_a_file_that_is_no_manifest_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"plan\.json"):
        Plan.read(tmp_path / "plan.json")


def test_a_damaged_tile_of_a_manifest_is_told(tiny: fv.TappedModel, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan(tiny, layers="conv", units=[1]).write(path)
    changes = [
        ('"unit": 1', '"unit": -1'), ('"unit": 1', '"unit": 99'), ('"sign": 1', '"sign": 3'),
        ('"sign": 1', '"sign": true'), ('"featureviz gallery": 1', '"featureviz gallery": "1"'),
        ('"kind": "channel"', '"kind": "x"'), ('"kind": "channel"', '"kind": []'), ('"layer": "conv"', '"layer": 3'),
        ('"count": 8', '"count": 1'), ('"tiles": [', '"tiles": [3,'), ('"tiles": [', '"tiles": {}, "x": ['),
        ('"batch": 16', '"batch": 0'), ('"batch": 16', '"batch": NaN'), ('"preset": "clear"', '"preset": []'),
        ('"key": "', '"key": "0'), ('"spec": "', '"other": "'), ('"shape": [', '"shape": ["a",'),
    ]  # fmt: skip
    for old, new in changes:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(InvalidInput, match="is no plan of a gallery"):
            Plan.read(path)
        path.write_text(text)


def test_a_manifest_with_a_tile_twice_is_told(tiny: fv.TappedModel, tmp_path: Path) -> None:
    path, made = tmp_path / "plan.json", plan(tiny, layers="conv", units=[1])
    replace(made, tiles=(*made.tiles, made.tiles[0])).write(path)
    with pytest.raises(InvalidInput, match="two of its tiles have the same key"):
        Plan.read(path)


def test_all_stands_for_the_main_path() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()))
    made = plan(fv.wrap(net, size=16), layers="all")
    assert [group.layer for group in made.groups] == ["0", "3.0"]
