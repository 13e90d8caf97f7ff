"""The caller's world does not leak in: under another default type or device everything is bitwise the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import featureviz as fv
from featureviz.lab import GateStatistics, UnitStatistics
from featureviz.lab.gates.natural_range import measure_responses
from featureviz.transform import Flip, Noise, Pipeline, robust

SITE = "se"
PICTURES = torch.rand(12, 3, 24, 24, generator=torch.Generator().manual_seed(0))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


WORLDS = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: torch.device("meta"),
}


def statistics(model: fv.TappedModel, natural: GateStatistics) -> list[Tensor]:
    measured = GateStatistics.measure(model, PICTURES.split(5), extremes=2, sample=4)
    loose = [measured.percentile(SITE, 1, 0.1), measured.quantile(SITE, 0.33), measured.sample]
    return [*measured[SITE].tensors.values(), measured[SITE].correlation, *loose]


def units(model: fv.TappedModel, natural: GateStatistics) -> list[Tensor]:
    measured = UnitStatistics.measure(model, PICTURES.split(5), most=3, joint=True)
    near = torch.tensor(measured.nearest("conv", 1), dtype=torch.float64, device="cpu")
    percentile = torch.tensor(measured.percentile("conv", 1, 0.1), dtype=torch.float64, device="cpu")
    tensors = [tensor for layer in measured.layers.values() for tensor in layer.tensors.values()]
    return [*tensors, near, percentile, fv.lab.weight_similarity(model, "conv")]


def reachable(model: fv.TappedModel, natural: GateStatistics) -> list[Tensor]:
    found = fv.lab.reachable_range(model, SITE, natural, steps=3)
    return [found.low, found.high, found.hull_low, found.hull_high, fv.lab.gate_weights(model, SITE).b1]


def modes(model: fv.TappedModel, natural: GateStatistics) -> list[Tensor]:
    both = [fv.lab.modes(natural, SITE, 2, method=method) for method in ("svd", "nmf")]
    return [t for m in both for t in (m.vectors, m.share, m.sd, m.amounts(natural[SITE].logit_sample))]


def drawn(model: fv.TappedModel, natural: GateStatistics) -> list[Tensor]:
    maps = fv.lab.gated_maps(model, SITE, PICTURES[0])
    grid = fv.lab.activation_grid(model, "conv", PICTURES[0], scale="shared")
    return [maps.picture(2), grid, fv.lab.gate_weights(model, SITE).picture()]


def attribution(model: fv.TappedModel, natural: GateStatistics) -> list[Tensor]:
    paths = fv.lab.gradient_paths(model, "conv:1", PICTURES[:2], SITE, views=2)
    parts = fv.lab.integrated_gradient_paths(model, "conv:1", PICTURES[0], SITE, steps=3)
    return [paths.content, paths.gate, parts.content, parts.gate]


def intervened(model: fv.TappedModel, natural: GateStatistics) -> list[Tensor]:
    changes = [fv.clamp(model, SITE, 0.3), fv.scale(model, SITE, [0.1] * 8), fv.mean_ablate(model, SITE, natural)]
    changes += [fv.shift(model, SITE, 0.1, units=[1, 2]), fv.resample(model, SITE, [1, 0])]
    results = []
    for change in changes:
        with change, torch.no_grad():
            results.append(model(PICTURES[:2], ["output"])["output"])
    return results


def judged(model: fv.TappedModel, natural: GateStatistics) -> list[Tensor]:
    held_out = fv.evaluate(model, "[conv:1, gate:se:2]", PICTURES[:2], transforms=[*robust(), Flip()], draws=5)
    (response,) = measure_responses(model, natural, SITE, [3], PICTURES[:1])
    numbers = torch.tensor([response.logit, response.percentile], dtype=torch.float64, device="cpu")
    return [held_out.scores, held_out.gates[1]["gate:se:2"], numbers]


def optimized(model: fv.TappedModel, natural: GateStatistics) -> list[Tensor]:
    image = fv.FourierImage(1, 8)
    optimizer = fv.Adam(fv.LinearCooldown(0.1))(list(image.parameters()))
    for _ in range(3):
        (-image().mean()).backward()
        optimizer.step()
    return [image().detach()]


def loaded(*_: object) -> list[Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = [fv.load("embedded").net, fv.load("torchvision:resnet18", weights=None).net]
    return [tensor for net in nets for tensor in net.state_dict().values()]


WORKS: dict[str, Callable[[fv.TappedModel, GateStatistics], list[Tensor]]] = {
    "rng": lambda *_: [fv.Rng(0, 3, 2).uniform(), fv.Rng(0, [3]).normal((5,)), fv.Rng(1, 2).integers()],
    "fourier": lambda *_: [fv.FourierImage(2, (9, 8))().detach(), fv.FourierImage(image=PICTURES[:2])().detach()],
    "pixel": lambda *_: [fv.PixelImage(2, (9, 8))().detach(), fv.PixelImage(image=PICTURES[0])().detach()],
    "pipeline": lambda *_: [
        Pipeline([*robust(), Flip(), Noise(0.1)])(PICTURES[:2], fv.Rng(0, 2, 3), (16, 20)),
        Pipeline()(PICTURES[:2], fv.Rng(0, 2, 3), (16, 20)),
    ],
    "evaluate": judged, "statistics": statistics, "units": units, "reachable": reachable, "modes": modes,
    "drawn": drawn, "loaded": loaded, "attribution": attribution, "intervened": intervened, "optimized": optimized,
}  # fmt: skip


@pytest.fixture
def natural(tiny: fv.TappedModel) -> GateStatistics:
    return GateStatistics.measure(tiny, PICTURES)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("work", WORKS)
def test_results_are_bitwise_those_of_the_usual_world(
    tiny: fv.TappedModel, natural: GateStatistics, work: str, world: str
) -> None:
    usual = WORKS[work](tiny, natural)
    manager: Any = WORLDS[world]()
    with manager:
        there = WORKS[work](tiny, natural)
    for a, b in zip(usual, there, strict=True):
        assert (a.dtype, a.device) == (b.dtype, b.device)
        assert torch.equal(a, b)
