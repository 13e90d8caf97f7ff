"""Plans: which tiles there are, what their hashes depend on, and the manifest."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import featureviz as fv
from featureviz.errors import InvalidInput, ModelError, SpecError, UnknownName
from featureviz.gallery.planning.plan import Plan, plan


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


def test_batches_never_mix_layers(tiny: fv.TappedModel) -> None:
    made = plan(tiny, layers=["conv"], gates=["se"], units=range(3), batch=4)
    sizes = [(len(b), {t.layer for t in b}) for b in made.batches()]
    assert sizes == [(4, {"se"}), (2, {"se"}), (4, {"conv"}), (2, {"conv"})]


@pytest.mark.parametrize(
    "other",
    [
        {"steps": 9}, {"size": 48}, {"seed": 1}, {"views": 2}, {"recipe": "fast"}, {"image": fv.PixelImage},
        {"transforms": []}, {"optimizer": fv.Adam(0.01)}, {"runtime": fv.Runtime(redirect=0)},
        {"objective": "{goal} + 2*conv:1"},
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
    for old, new in (('"unit": 1', '"unit": -1'), ('"sign": 1', '"sign": 3'), ('"kind": "channel"', '"kind": "x"')):
        text = path.read_text()
        path.write_text(text.replace(old, new))
        with pytest.raises(InvalidInput, match="is no plan of a gallery"):
            Plan.read(path)
        path.write_text(text)


def test_all_stands_for_the_main_path() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()))
    made = plan(fv.wrap(net, size=16), layers="all")
    assert [group.layer for group in made.groups] == ["0", "3.0"]
