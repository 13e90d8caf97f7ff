"""The objectives on a gated block: value, channel, bottleneck, contrast and quadrants."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn import functional as F

import featureviz as fv
from featureviz.errors import FeaturevizError, InvalidInput, SpecError
from featureviz.lab import GateStatistics
from tests.conftest import TinySE

SITE = "features.8.block.2"


def pictures(n: int, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(n, 3, 5, 5, generator=generator)
    fine = torch.rand(n, 3, size, size, generator=generator)
    return (0.7 * F.interpolate(coarse, (size, size), mode="bilinear") + 0.3 * fine).clamp(0, 1)


@pytest.fixture(scope="module")
def natural(embedded: fv.TappedModel) -> GateStatistics:
    return GateStatistics.measure(embedded, pictures(64).split(16))


def score(model: fv.TappedModel, objective: fv.Objective, x: torch.Tensor) -> torch.Tensor:
    return objective(model(x, objective.layers, fv.Rows.make(len(x))))


def test_each_reads_its_part_of_the_block(embedded: fv.TappedModel) -> None:
    x = pictures(3)
    block = embedded.net.get_submodule(SITE)
    kept = {}
    handles = [
        block.register_forward_hook(lambda _m, args, out: kept.update(x=args[0], y=out)),
        block.get_submodule("fc1").register_forward_hook(lambda _m, _a, out: kept.update(h=out.flatten(1))),
        block.get_submodule("scale_activation").register_forward_hook(
            lambda _m, _a, out: kept.update(g=out.flatten(1))
        ),
    ]
    with torch.no_grad():
        embedded(x, ["output"])
        for handle in handles:
            handle.remove()
        for objective, expected in (
            (fv.GateValue(SITE, 5), kept["g"][:, 5]),
            (fv.GatedChannel(SITE, 5), kept["y"][:, 5].mean((1, 2))),
            (fv.PreGate(SITE, 5), kept["x"][:, 5].mean((1, 2))),
            (fv.Bottleneck(SITE, 5), kept["h"][:, 5]),
            (fv.GatedChannel(SITE, [5, 6, 7]), kept["y"][[0, 1, 2], [5, 6, 7]].mean((1, 2))),
        ):
            assert torch.allclose(score(embedded, objective, x), expected, atol=1e-6), objective.spec


@pytest.mark.parametrize("kind", ["gatevalue", "gated", "pregate", "bottleneck"])
def test_specs_round_trip_and_select_gives_one_image(kind: str, embedded: fv.TappedModel) -> None:
    one, several = fv.parse(f"{kind}:{SITE}:5"), fv.parse(f"2*{kind}:{SITE}:[5, 6] - (1)")
    assert fv.parse(one.spec).spec == one.spec == f"{kind}:{SITE}:5"
    assert fv.parse(several.spec).spec == several.spec
    assert several.select([1]).spec == f"2*{kind}:{SITE}:6 - (1)"
    assert several.n == 2
    rendering = fv.render(embedded, several, steps=1, size=32, progress=False)
    assert rendering.scores.shape == (1, 2)


def test_the_value_has_a_gradient_where_the_gate_is_saturated(net: TinySE) -> None:
    with torch.no_grad():
        net.se.fc2.bias[3] = -9.0  # shut: hard-sigmoid has no slope here
        net.se.fc2.bias[4] = 0.0
    model = fv.wrap(net, size=24)
    x = torch.rand(2, 3, 24, 24, requires_grad=True)
    (stuck,) = torch.autograd.grad(score(model, fv.GateValue("se", 3), x).sum(), x)
    (logit,) = torch.autograd.grad(score(model, fv.Gate("se", 3), x).sum(), x)
    assert torch.allclose(stuck, logit / 6, atol=1e-9)
    assert stuck.abs().max() > 0
    assert (score(model, fv.GateValue("se", 3), x) == 0).all()  # the score is the value itself
    (free,) = torch.autograd.grad(score(model, fv.GateValue("se", 4), x).sum(), x)
    (plain,) = torch.autograd.grad(model(x, ["gate value:se"])["gate value:se"][:, 4].sum(), x)
    assert torch.equal(free, plain)


def test_pregate_rises_where_a_shut_gate_hides_the_channel(net: TinySE) -> None:
    alive = fv.wrap(net, size=24)(torch.rand(4, 3, 24, 24), ["pregate:se"])["pregate:se"].mean((0, 2, 3))
    unit = int(alive.argmax())
    with torch.no_grad():
        net.se.fc2.bias[unit] = -9.0
    model = fv.wrap(net, size=24)
    content = fv.render(model, fv.PreGate("se", unit), steps=30, size=24, progress=False)
    gated = fv.render(model, fv.GatedChannel("se", unit), steps=30, size=24, progress=False)
    assert content.scores[-1, 0] > 1.15 * content.scores[0, 0] > 0
    assert gated.scores.abs().max() == 0


def test_pregate_has_the_gradient_of_gated_with_the_gate_detached(embedded: fv.TappedModel) -> None:
    x = pictures(1).requires_grad_()
    with fv.stop_gradient(embedded, SITE):
        (gated,) = torch.autograd.grad(score(embedded, fv.GatedChannel(SITE, 5), x).sum(), x)
    (content,) = torch.autograd.grad(score(embedded, fv.PreGate(SITE, 5), x).sum(), x)
    gate = float(score(embedded, fv.GateValue(SITE, 5), x.detach()))
    assert gate > 0.02
    assert torch.allclose(gated, gate * content, rtol=1e-4, atol=1e-8)


def test_contrast_keeps_the_other_gates_natural(embedded: fv.TappedModel, natural: GateStatistics) -> None:
    unit = int(natural[SITE].logit_sd.argmax())
    alone = fv.render(embedded, fv.Gate(SITE, unit), steps=40, size=64, progress=False)
    contrast = fv.render(embedded, fv.GateContrast(SITE, unit, natural), steps=40, size=64, progress=False)

    def measure(images: torch.Tensor) -> tuple[float, float]:
        with torch.no_grad():
            z = embedded(images, [f"gate:{SITE}"])[f"gate:{SITE}"][0]
        t = (z - natural[SITE].logit_mean) / natural[SITE].logit_sd.clamp(min=1e-3)
        return float(t[unit]), float(torch.cat([t[:unit], t[unit + 1 :]]).square().mean().sqrt())

    own, leak = measure(contrast.images)
    assert own > 1
    assert leak < 0.6 * measure(alone.images)[1]
    assert list(contrast.held_out.gates[0]) == [f"gate:{SITE}:{unit}"]


def test_quadrants_separate_a_channel_from_its_gate(embedded: fv.TappedModel, natural: GateStatistics) -> None:
    unit = int(natural[SITE].logit_sd.argsort(descending=True)[1])
    ways = [(c, g) for c in ("high", "low") for g in ("open", "shut")]
    goal = fv.PerImage([fv.Quadrant(SITE, unit, natural, content=c, gate=g) for c, g in ways])
    rendering = fv.render(embedded, goal, steps=80, size=64, progress=False)
    content = fv.evaluate(embedded, fv.PreGate(SITE, unit), rendering.images).scores.mean(0)
    logits = fv.evaluate(embedded, fv.Gate(SITE, unit), rendering.images).scores.mean(0)
    for i, (c, g) in enumerate(ways):
        level = natural.percentile(SITE, unit, content[i : i + 1], of="squeeze").item()
        opened = natural.percentile(SITE, unit, logits[i : i + 1]).item()
        assert (level >= 90) == (c == "high"), (c, g, level)
        assert (level <= 10) == (c == "low"), (c, g, level)
        assert (opened >= 90) == (g == "open"), (c, g, opened)
        assert (opened <= 10) == (g == "shut"), (c, g, opened)


def test_a_batch_of_units_equals_each_unit_alone(embedded: fv.TappedModel, natural: GateStatistics) -> None:
    x = pictures(2)
    for make in (
        lambda u: fv.GateContrast(SITE, u, natural),
        lambda u: fv.Quadrant(SITE, u, natural, content="low", gate="open"),
        lambda u: fv.GateValue(SITE, u),
    ):
        both = score(embedded, make([4, 9]), x)
        assert torch.allclose(both[1:], score(embedded, make(9), x[1:]), atol=1e-5)
        assert torch.allclose(
            both, torch.cat([score(embedded, make([4, 9]).select([i]), x[i : i + 1]) for i in (0, 1)]), atol=1e-5
        )


class Measured(NamedTuple):
    """The statistics of one block."""

    logit_mean: torch.Tensor
    logit_sd: torch.Tensor
    squeeze_sd: torch.Tensor
    value_mean: torch.Tensor


class Statistics(dict[str, Measured]):
    """Of blocks with any number of gates."""

    def quantile(self, site: str, level: float, *, of: str = "logits") -> torch.Tensor:
        return self[site].logit_mean + level


def statistics(**gates: int) -> Any:
    return Statistics({name: Measured(*[torch.ones(count)] * 4) for name, count in gates.items()})


def test_the_specs_of_contrasts_and_quadrants_hold_their_parameters() -> None:
    natural = statistics(se=4, **{"0": 4})
    functions = {kind.__name__: functools.partial(kind, natural=natural) for kind in (fv.GateContrast, fv.Quadrant)}
    goals = {
        "GateContrast(se, 3)": fv.GateContrast("se", 3, natural),
        "GateContrast(se, 3, weight=0.5)": fv.GateContrast("se", 3, natural, weight=0.5),
        "GateContrast(se, 3, weight=2.0, sign=-1)": fv.GateContrast("se", 3, natural, weight=2, sign=-1),
        "-GateContrast(se, 3)": -fv.GateContrast("se", 3, natural),
        'GateContrast("0", [0, 3])': fv.GateContrast("0", [0, 3], natural),
        'Quadrant(se, 3, content="high", gate="open")': fv.Quadrant("se", 3, natural),
        'Quadrant(se, [1, 2], content="low", gate="shut", level=0.99)': fv.Quadrant(
            "se", torch.tensor([1, 2]), natural, content="low", gate="shut", level=0.99  # pyright: ignore
        ),
    }  # fmt: skip
    layers = ("gate:se", "pregate:se", "gate:0", "pregate:0")
    acts = fv.Activations({layer: torch.randn(2, 4) for layer in layers}, fv.Rows.make(2))
    for spec, goal in goals.items():
        for whole in (goal, goal.select([0]) * 2 + 1):
            again = fv.parse(repr(whole), functions)
            assert repr(again) == repr(whole)
            assert torch.equal(again(acts), whole(acts))
        assert repr(goal) == spec
        with pytest.raises(SpecError, match="no objective function"):
            fv.parse(spec)


BAD: list[tuple[Callable[[Any], Any], str]] = [
    (lambda n: fv.GateContrast("se", 4, n), "got unit 4; it has 4: 0 to 3"),
    (lambda n: fv.GateContrast("se", [0, -1], n), "expected a whole number from 0"),
    (lambda n: fv.GateContrast("se", 1, n, sign=0), "expected 1 to open the gate or -1 to close it"),
    (lambda n: fv.GateContrast("se", 1, n, sign=2), "expected 1 to open the gate"),
    (lambda n: fv.GateContrast("se", 1, n, weight=-1), "weight of at least 0"),
    (lambda n: fv.GateContrast("se", 1, n, weight=math.nan), "expected a finite number"),
    (lambda n: fv.GateContrast("one", 0, n), "has one gate and no others"),
    (lambda n: fv.GateContrast("se", 1, None), "got natural=None"),  # pyright: ignore[reportArgumentType]
    (lambda n: fv.Quadrant("se", 4, n), "got unit 4; it has 4: 0 to 3"),
    (lambda n: fv.Quadrant("se", 1, n, content="up"), "expected 'high' or 'low'"),
    (lambda n: fv.Quadrant("se", 1, n, gate=1), "expected 'open' or 'shut'"),  # pyright: ignore
    (lambda n: fv.Quadrant("se", 1, n, level=1), "between 0 and 1"),
    (lambda n: fv.Quadrant("se", 1, n, level=-0.1), "between 0 and 1"),
    (lambda n: fv.Quadrant("se", 1, n, level=math.inf), "expected a finite number"),
    (lambda n: fv.Quadrant(3, 1, n), "expected its name"),  # pyright: ignore[reportArgumentType]
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_parameters_of_contrasts_and_quadrants_are_checked(make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make(statistics(se=4, one=1))


def test_a_contrast_is_of_channel_gates_that_the_statistics_know() -> None:
    contrast = fv.GateContrast("se", [1, 2], statistics(se=4))
    for logits in (torch.zeros(2, 5), torch.zeros(2, 1, 6, 6), torch.zeros(3, 4)):
        with pytest.raises(InvalidInput, match="4 channel gates and 2 images"):
            contrast(fv.Activations({"gate:se": logits}, fv.Rows.make(len(logits))))
    model = fv.wrap(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), fv.nn.CBAM(8, 4)), size=24)
    (site,) = [site for site in fv.gates(model).values() if site.spatial]
    for kind in (fv.GateContrast, fv.Quadrant):
        with pytest.raises(InvalidInput, match="the gate is spatial"):
            kind(site, 0, statistics(**{site.name: 1}))


def test_bad_requests_are_explained(embedded: fv.TappedModel) -> None:
    with pytest.raises(FeaturevizError, match=r"it has \d+: 0 to"):
        fv.render(embedded, fv.Bottleneck(SITE, 9999), steps=1, size=32, progress=False)
    shipped = fv.lab.natural_gates()
    assert fv.Quadrant(SITE, 0, shipped).n == 1
    with pytest.raises(InvalidInput, match="compact"):
        fv.lab.reachable_range(embedded, SITE, shipped)


def test_the_score_of_a_spatial_gate_is_its_mean() -> None:
    torch.manual_seed(0)
    attention = fv.nn.CBAM(8, 4)
    with torch.no_grad():
        attention.spatial.conv.weight.mul_(20)  # the untrained gate hardly varies
    model = fv.wrap(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), attention), size=24)
    (name,) = [site.name for site in fv.gates(model).values() if site.spatial]
    pair = fv.render(model, [fv.Gate(name, 0), -fv.Gate(name, 0)], steps=30, size=24, progress=False)
    opened, shut = (gates[f"gate:{name}:0"].mean() for gates in pair.held_out.gates)
    assert 1 > opened > 1.25 * shut > 0
    maps = model(pair.images, [f"gate value:{name}"])[f"gate value:{name}"]
    assert maps.shape == (2, 1, 22, 22)
