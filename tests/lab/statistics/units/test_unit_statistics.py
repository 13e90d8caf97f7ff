"""Statistics of units: compared with objectives and plain torch on every image, for every kind of layer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer

import featureviz as fv
from featureviz.errors import ModelError
from featureviz.lab import GateStatistics, UnitStatistics
from featureviz.lab.statistics.gate_statistics import LEVELS
from featureviz.lab.statistics.pictures import Batch, Pictures
from featureviz.lab.statistics.units.map_reader import MapReader
from featureviz.lab.statistics.units.totals import RunningUnits, make_parts
from tests.conftest import TinySE
from tests.lab.small_nets import ChannelsLast, pictures
from tests.lab.statistics.test_statistics import marked

WHOLE = (0.0, 0.0, 1.0, 1.0)


class Mixing(nn.Module):
    """Subtracts the mean of the batch, so it gets its images one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (x - 0.5 * x.mean((0, 2, 3), keepdim=True)).mean((2, 3))


def wrapped(make: Callable[[], nn.Module], size: int = 24) -> Callable[[], fv.TappedModel]:
    return lambda: fv.wrap(make(), mean=0.5, std=0.25, size=size)


def swin() -> nn.Module:
    return SwinTransformer([4, 4], 8, [1, 1], [1, 2], [4, 4], num_classes=5)


def timm_swin() -> nn.Module:
    return timm.models.SwinTransformer(32, 4, embed_dim=8, depths=(1,), num_heads=(1,), window_size=4, num_classes=5)


class Case(NamedTuple):
    """A network, a layer of it, the objective that gives its scores, and the grid of its positions, if there is one."""

    make: Callable[[], fv.TappedModel]
    layer: str
    score: Callable[[str, int], fv.Objective] = fv.Channel
    grid: tuple[int, int] | None = None
    size: int = 24


CASES = {
    "a map": Case(wrapped(TinySE), "conv", grid=(12, 12)),
    "a rectified map": Case(wrapped(TinySE), "stem", grid=(12, 12)),
    "the picture": Case(wrapped(TinySE), "input", grid=(24, 24)),
    "classes": Case(wrapped(TinySE), "output", lambda _, unit: fv.Logit(unit)),
    "a vector": Case(wrapped(TinySE), "head"),
    "gates": Case(wrapped(TinySE), "gate:se", lambda _, unit: fv.Gate("se", unit)),
    "channels before gates": Case(wrapped(TinySE), "pregate:se", lambda _, unit: fv.PreGate("se", unit), (12, 12)),
    "bottleneck": Case(wrapped(TinySE), "bottleneck:se", lambda _, unit: fv.Bottleneck("se", unit)),
    "channels last": Case(wrapped(ChannelsLast), "head", grid=(12, 12)),
    "tokens": Case(
        wrapped(lambda: VisionTransformer(24, 4, 1, 2, 16, 32, num_classes=5)), "encoder.layers.encoder_layer_0",
        grid=(6, 6),
    ),
    "a grid of tokens": Case(wrapped(swin, 32), "features.1.0", grid=(8, 8), size=32),
    "windows": Case(wrapped(timm_swin, 32), "layers.0.blocks.0.attn.qkv", size=32),
    "one image at a time": Case(wrapped(Mixing), "conv", grid=(22, 22)),
}  # fmt: skip


def measure(case: Case, images: Any, **options: Any) -> tuple[fv.TappedModel, UnitStatistics]:
    torch.manual_seed(0)
    model = case.make()
    gates = [case.layer.removeprefix("gate:")] if case.layer.startswith("gate:") else []
    layers = [] if gates else [case.layer]
    return model, UnitStatistics.measure(model, images, layers, gates, **options)


def scores_of(model: fv.TappedModel, case: Case, unit: int, images: Tensor) -> Tensor:
    objective = case.score(case.layer, unit)
    with torch.no_grad():
        return torch.cat([objective(model(image[None], objective.layers)) for image in images])


@pytest.mark.parametrize("kind", CASES)
def test_the_scores_are_those_of_the_objective(kind: str) -> None:
    case = CASES[kind]
    images = pictures(20, case.size)
    model, natural = measure(case, images.split(7), most=3)
    layer = natural[case.layer]
    for unit in (0, len(layer.units) - 1):
        scores = scores_of(model, case, unit, images)
        low, high = natural.examples(case.layer, unit)
        for examples, expected in ((low, scores.sort().values), (high, scores.sort(descending=True).values)):
            assert [e.score for e in examples] == pytest.approx(expected[:3].tolist(), abs=1e-5)
            for e in examples:
                assert float(scores[e.image]) == pytest.approx(e.score, abs=1e-5)
        assert float(layer.mean[unit]) == pytest.approx(float(scores.mean()), abs=1e-5)
        assert float(layer.sd[unit]) == pytest.approx(float(scores.std()), abs=1e-5)
        quantiles = torch.quantile(scores, torch.tensor(LEVELS))
        assert (layer.quantiles[:, unit] - quantiles).abs().max() <= (scores.max() - scores.min()) / 200 + 1e-5
        assert layer.histogram_counts[unit].sum() == 20
        assert natural.percentile(case.layer, unit, float(scores.max()) + 1) == 100
        assert natural.percentile(case.layer, unit, float(scores.median())) == pytest.approx(50, abs=8)


@pytest.mark.parametrize("kind", CASES)
def test_the_boxes_are_around_the_ends_of_the_maps(kind: str) -> None:
    case = CASES[kind]
    images = pictures(12, case.size)
    model, natural = measure(case, images.split(5), most=2)
    for unit in (0, len(natural[case.layer].units) - 1):
        for sign, examples in zip((-1, 1), natural.examples(case.layer, unit), strict=True):
            for e in examples:
                if case.grid is None:
                    assert e.box == WHOLE
                    continue
                with torch.no_grad():
                    maps = (
                        sign * model(images[e.image, None], [case.layer]).channels_first(case.layer)[0, unit].flatten()
                    )
                rows, columns = case.grid
                place = int(maps.argmax()) - (len(maps) - rows * columns)
                if place < 0 or int((maps == maps.max()).sum()) > 1:
                    assert e.box == WHOLE
                    continue
                y, x = (place // columns + 0.5) / rows, (place % columns + 0.5) / columns
                y0, x0, y1, x1 = e.box
                side = max(0.25, min(1, 4 / rows))
                assert (y1 - y0, x1 - x0) == pytest.approx((side, side))
                assert 0 <= y0 <= y <= y1 <= 1 + 1e-6
                assert 0 <= x0 <= x <= x1 <= 1 + 1e-6
                for centre, start in ((y, y0), (x, x0)):
                    assert start == pytest.approx(min(max(centre - side / 2, 0), 1 - side), abs=1e-5)


def test_a_bright_spot_is_found() -> None:
    """The one test whose answer is known without the network: a convolution that sums colours."""
    net = nn.Conv2d(3, 2, 3, padding=1)
    nn.init.ones_(net.weight)
    images = torch.full((6, 3, 20, 40), 0.2)
    images[4, :, 3, 31] = 1
    natural = UnitStatistics.measure(fv.wrap(nn.Sequential(net, nn.ReLU()), size=(20, 40)), images, ["0"], most=1)
    (high,) = natural.examples("0", 1)[1]
    assert high.image == 4
    y0, x0, y1, x1 = high.box
    assert y0 <= 3.5 / 20 <= y1
    assert x0 <= 31.5 / 40 <= x1


def test_the_values_of_gates_are_kept(tiny: fv.TappedModel) -> None:
    images = pictures(30, 24)
    natural = UnitStatistics.measure(tiny, images.split(8), gates=[fv.gates(tiny)["se"]], most=4)
    reference = GateStatistics.measure(tiny, images.split(8), extremes=4)
    site = reference["se"]
    assert torch.allclose(natural["gate:se"].quantiles, site.quantiles, atol=1e-5)
    assert torch.equal(natural["gate:se"].highest_images, site.highest_images)
    with torch.no_grad():
        values = tiny(images, ["gate value:se"])["gate value:se"]
    for end in ("lowest", "highest"):
        numbers, found = (getattr(natural["gate:se"], f"{end}_{what}") for what in ("images", "values"))
        assert torch.allclose(found, values.gather(0, numbers), atol=1e-6)
    assert natural.percentile("gate:se", 2, 0.1) == pytest.approx(float(reference.percentile("se", 2, 0.1)), abs=0.01)


def test_all_layers_and_gates_are_the_default(tiny: fv.TappedModel) -> None:
    natural = UnitStatistics.measure(tiny, pictures(4, 24))
    readable = [layer.name for layer in fv.layers(tiny) if layer.units]
    assert [*natural.layers] == [*readable, "gate:se"]
    units = sum(len(layer.units) for layer in natural.layers.values())
    assert repr(natural) == f"UnitStatistics(layers: {len(readable) + 1}, units: {units}, images: 4)"
    assert repr(natural["conv"]) == "LayerStatistics(8 units, 4 images at each end)"
    assert [*UnitStatistics.measure(tiny, pictures(4, 24), ["conv", "conv"]).layers] == ["conv"]


@pytest.mark.parametrize("batch", [1, 3, 23])
def test_batches_do_not_change_what_is_measured(tiny: fv.TappedModel, batch: int) -> None:
    images = pictures(23, 24)
    whole = UnitStatistics.measure(tiny, images, most=4, joint=True)
    split = UnitStatistics.measure(tiny, images.split(batch), most=4, joint=True)
    for name, layer in whole.layers.items():
        for part, truth in layer.tensors.items():
            if not part.endswith(("_images", "_boxes", "histogram_counts", "histogram_start")):
                assert torch.allclose(split[name].tensors[part].double(), truth.double(), atol=2e-5), (name, part)
        same = split[name].highest_images == layer.highest_images
        assert same.float().mean() > 0.95, name  # a tie within rounding may go either way
        assert torch.allclose(split[name].highest_boxes[same], layer.highest_boxes[same])


def test_some_units_alone_are_what_they_are_among_all(tiny: fv.TappedModel) -> None:
    images = pictures(15, 24)
    whole = UnitStatistics.measure(tiny, images, ["conv", "stem"], ["se"], joint=True)
    some = UnitStatistics.measure(
        tiny, images, ["conv", "stem"], ["se"], units={"conv": [6, 1, 6], "gate:se": range(2, 4)}, joint=True
    )
    assert [s.units.tolist() for s in some.layers.values()] == [[1, 6], [*range(8)], [2, 3]]
    for layer, units in (("conv", (1, 6)), ("gate:se", (2, 3)), ("stem", (0, 7))):
        for unit in units:
            assert some.examples(layer, unit) == whole.examples(layer, unit)
            assert some.percentile(layer, unit, 0.1) == whole.percentile(layer, unit, 0.1)
    (other,) = some.nearest("conv", 6)
    assert other == next(n for n in whole.nearest("conv", 6, 8) if n.unit == 1)


def test_the_most_correlated_units_are_nearest(tiny: fv.TappedModel) -> None:
    images = pictures(40, 24)
    natural = UnitStatistics.measure(tiny, images.split(9), ["conv"], joint=True)
    with torch.no_grad():
        truth = tiny(images, ["conv"])["conv"].mean((2, 3)).T.corrcoef()[5]
    truth[5] = -2
    expected = truth.sort(descending=True)
    found = natural.nearest("conv", 5, 7)
    assert [n.unit for n in found] == expected.indices[:7].tolist()
    assert [n.similarity for n in found] == pytest.approx(expected.values[:7].tolist(), abs=1e-4)


def test_a_map_that_is_the_same_everywhere_has_no_place() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    nn.init.zeros_(net[0].weight)
    natural = UnitStatistics.measure(fv.wrap(net, size=16), torch.rand(4, 3, 16, 16), ["1"])
    assert (natural["1"].highest_boxes == torch.tensor(WHOLE)).all()
    assert natural["1"].highest_images[:, 0].tolist() == [0, 1, 2, 3]  # of equal ones the earlier come first
    assert natural.percentile("1", 0, float(natural["1"].mean[0])) == pytest.approx(50, abs=0.1)
    assert len(natural.examples("1", 0)[0]) == 2  # at most half of all images at each end


def test_ctrl_c_returns_the_statistics_so_far(tiny: fv.TappedModel) -> None:
    x = pictures(20, 24)

    def source() -> Iterator[Tensor]:
        yield from x[:15].split(5)
        raise KeyboardInterrupt

    found = UnitStatistics.measure(tiny, source(), ["conv"])
    assert (found.count, found.interrupted) == (15, True)
    with pytest.raises(KeyboardInterrupt):
        found.completed()
    whole = UnitStatistics.measure(tiny, x[:15].split(5), ["conv"]).completed()
    assert all(torch.equal(found["conv"].tensors[k], v) for k, v in whole["conv"].tensors.items())


def test_ctrl_c_in_the_middle_of_a_batch_leaves_no_layer_ahead() -> None:
    def pressed(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    x = torch.rand(10, 3, 24, 24)
    black = torch.cat([x, torch.zeros(1, 3, 24, 24)])
    found = UnitStatistics.measure(marked(TinySE(), pressed), black.split(5), ["stem", "conv"])
    assert (found.count, found.interrupted) == (10, True)
    assert all((layer.histogram_counts.sum(1) == 10).all() for layer in found.layers.values())


def test_a_score_that_is_not_finite_names_layer_and_image() -> None:
    model = marked(TinySE(), lambda x: x + torch.nan)
    x = torch.rand(50, 3, 24, 24)
    x[41] = 0
    with pytest.raises(ModelError, match=r"of layer 'stem' are not finite on image 41 \(41\.png\); leave"):
        UnitStatistics.measure(model, [Batch(x, None, tuple(f"{i}.png" for i in range(50)))], ["stem"])


def test_memory_does_not_grow_with_the_images(tiny: fv.TappedModel) -> None:
    reader, sizes = MapReader(tiny, ["conv"]), []
    running = RunningUnits.empty(make_parts({"conv": torch.arange(8)}, {}), 4, joint=True)
    for _ in range(5):
        running = running.add(reader, Batch(torch.rand(10, 3, 24, 24)))
        parts = [running.totals.moments, running.totals.histogram, running.totals.extremes, running.joint["conv"]]
        kept = [*(t for part in parts for t in vars(part).values()), *running.totals.boxes, *running.totals.values]
        sizes.append(sum(t.numel() for t in kept if isinstance(t, Tensor)))
    assert len(set(sizes)) == 1


def test_what_is_behind_the_deepest_layer_never_runs() -> None:
    met: list[str] = []

    class Head(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            met.append("head")
            return super().forward(x)

    net = TinySE()
    net.head = Head(8, 5)
    reader = MapReader(fv.wrap(net, mean=0.5, std=0.25, size=24), ["stem", "conv"])
    reader.stream(pictures(4, 24), lambda name, maps, grid: None)
    met.clear()
    reader.stream(pictures(4, 24), lambda name, maps, grid: met.append(name))
    assert met == ["stem", "conv"]


def write_folder(folder: Path, count: int) -> Path:
    for i, picture in enumerate(pictures(count, 24)):
        Image.fromarray((picture * 255).byte().permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    (folder / "0.5.png").write_bytes(b"broken")
    return folder


def test_pictures_are_loaded_again_once_each(tiny: fv.TappedModel, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, 9)
    natural = UnitStatistics.measure(tiny, folder, ["conv"], ["se"], most=2)
    assert [Path(path).name for path, _ in natural.skipped] == ["0.5.png"]
    loaded = dict(natural.load_pictures(folder))
    ends = [s for layer in natural.layers.values() for s in (layer.lowest_images, layer.highest_images)]
    assert [*loaded] == sorted({int(i) for end in ends for i in end.flatten()}) == sorted(natural.names)
    for unit in range(8):
        for end in natural.examples("conv", unit):
            for e in end:
                assert e.name == natural.names[e.image]
                score = fv.Channel("conv", unit)(tiny(loaded[e.image][None], ["conv"]))
                assert float(score) == pytest.approx(e.score, abs=1e-5)
    (batch,) = Pictures(folder, 24)
    for source in (batch.images, batch.images.split(2), [batch]):
        again = dict(natural.load_pictures(source))
        assert [*again] == [*loaded]
        assert all(torch.equal(again[i], loaded[i]) for i in loaded)
    (folder / f"{natural.names[next(iter(loaded))]}").unlink()
    assert len(dict(natural.load_pictures(folder))) == len(loaded) - 1


def test_statistics_of_another_network_are_told(tiny: fv.TappedModel) -> None:
    natural = UnitStatistics.measure(tiny, pictures(4, 24))
    natural.check_fits(tiny)
    torch.manual_seed(7)
    for other in (TinySE(), TinySE(4)):
        with pytest.raises(fv.InvalidInput, match=r"of layer 'stem.0' are of another network than .*; measure again"):
            natural.check_fits(fv.wrap(other, mean=0.5, std=0.25, size=24))
