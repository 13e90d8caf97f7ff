"""Wrong arguments of the laboratory: each an error of the library that says what was given."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import featureviz as fv
from featureviz import lab
from featureviz.errors import FeaturevizError, InvalidInput, ModelError
from featureviz.lab import GateStatistics, UnitStatistics
from featureviz.lab.gates.card import make_cards
from featureviz.lab.gates.natural_range import measure_responses
from featureviz.lab.gates.reachability_study import ReachabilityStudy, choose_gates
from tests.lab.small_nets import small

SITE = "se"
X = torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(0))


class Bench(NamedTuple):
    model: fv.TappedModel
    natural: GateStatistics
    other: fv.TappedModel
    jacobian: lab.GateJacobian
    maps: lab.GatedMaps
    modes: lab.Modes
    units: UnitStatistics


@pytest.fixture
def bench(tiny: fv.TappedModel) -> Bench:
    natural = GateStatistics.measure(tiny, X)
    other = fv.wrap(torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), fv.nn.SEModule(6, 2)), size=24)
    jacobian = lab.gate_jacobian(tiny, SITE, natural[SITE].squeeze_mean)
    units = UnitStatistics.measure(tiny, X, ["conv"], [SITE], units={"conv": [1, 4]})
    return Bench(tiny, natural, other, jacobian, lab.gated_maps(tiny, SITE, X[0]), lab.modes(natural, SITE, 2), units)


CALLS: dict[str, tuple[Callable[[Bench], Any], str]] = {
    # statistics
    "level 2": (lambda b: b.natural.quantile(SITE, 2), "level=2"),
    "level nan": (lambda b: b.natural.quantile(SITE, float("nan")), "level=nan"),
    "another quantity": (lambda b: b.natural.quantile(SITE, 0.5, of="values"), "of='values'.*'logits' or 'squeeze'"),
    "quantity of another kind": (lambda b: b.natural.percentile(SITE, 1, 0.0, of=3), "of=3"),
    "unit 99": (lambda b: b.natural.percentile(SITE, 99, 0.0), "unit 99 of 'se' was asked for; it has 8"),
    "unit 1.5": (lambda b: b.natural.percentile(SITE, 1.5, 0.0), "unit=1.5"),
    "unit -1": (lambda b: b.natural.examples(SITE, -1), "unit=-1"),
    "most of another kind": (lambda b: b.natural.examples(SITE, 1, "all"), "most='all'"),
    "logits nan": (lambda b: b.natural.percentile(SITE, 1, torch.tensor([0.0, torch.nan])), "expected finite"),
    "logits text": (lambda b: b.natural.percentile(SITE, 1, "0"), "logits='0'"),
    "no such site": (lambda b: b.natural["sf"], "nearest: 'se'"),
    "site of another kind": (lambda b: b.natural[3], "no gate statistics '3'"),
    "site as a list": (lambda b: b.natural[["se"]], "no gate statistics"),
    "site of another model": (lambda b: b.natural[fv.gates(b.other)["1"]], "no gate statistics"),
    "no images": (lambda b: GateStatistics.measure(b.model, []), "0 images were given"),
    "images of another size": (lambda b: GateStatistics.measure(b.model, torch.rand(4, 3)), "expected"),
    "images without values": (lambda b: GateStatistics.measure(b.model, X * torch.nan), "nan"),
    "pictures of another kind": (lambda b: GateStatistics.measure(b.model, 3), "int was given"),
    "no model": (lambda b: GateStatistics.measure(None, X), "wrap it first"),
    "gates computed twice": (lambda b: GateStatistics.measure(small("shared"), X), "computed 2 times"),
    "images exchange gates": (lambda b: _exchanged(b, lambda: GateStatistics.measure(b.model, X)), "order of 2 images"),
    # units
    "units of no layer": (lambda b: UnitStatistics.measure(b.model, X, ["cone"]), "no layer 'cone'; nearest: 'conv'"),
    "layer of another kind": (lambda b: UnitStatistics.measure(b.model, X, [3]), "layer=3"),
    "layers as text": (lambda b: UnitStatistics.measure(b.model, X, "conv"), "layers='conv'.*names of layers"),
    "gates of no block": (lambda b: UnitStatistics.measure(b.model, X, gates=["sf"]), "no gate 'sf'; nearest: 'se'"),
    "neither layers nor gates": (lambda b: UnitStatistics.measure(b.model, X, []), "no layers and no gates"),
    "unit 8 of 8": (lambda b: UnitStatistics.measure(b.model, X, ["conv"], units={"conv": [8]}), "unit 8 of 'conv'"),
    "no units": (lambda b: UnitStatistics.measure(b.model, X, ["conv"], units={"conv": []}), "at least one unit"),
    "units of another layer": (lambda b: UnitStatistics.measure(b.model, X, ["conv"], units={"se": [1]}), "layer 'se'"),
    "units as a list": (lambda b: UnitStatistics.measure(b.model, X, ["conv"], units=[1]), r"units=\[1\]"),
    "no images kept": (lambda b: UnitStatistics.measure(b.model, X, ["conv"], most=0), "most=0"),
    "joint of another kind": (lambda b: UnitStatistics.measure(b.model, X, ["conv"], joint=1), "joint=1"),
    "units on one image": (lambda b: UnitStatistics.measure(b.model, X[:1], ["conv"]), "1 images were given"),
    "units of no model": (lambda b: UnitStatistics.measure(None, X), "wrap it first"),
    "layer not measured": (lambda b: b.units["stem"], "no unit statistics 'stem'"),
    "unit not measured": (lambda b: b.units.examples("conv", 5), r"unit 5 of 'conv' .*; measured were \[1, 4\]"),
    "examples of unit 99": (lambda b: b.units.examples("gate:se", 99), "unit 99 of 'gate:se' was asked for; it has 8"),
    "examples of unit x": (lambda b: b.units.examples("conv", "x"), "unit='x'"),
    "examples in part": (lambda b: b.units.examples("conv", 1, 0.5), "most=0.5"),
    "a score of nan": (lambda b: b.units.percentile("conv", 1, float("nan")), "score=nan"),
    "nearest without joint": (lambda b: b.units.nearest("conv", 1), "measure with joint=True"),
    "pictures of another source": (lambda b: [*b.units.load_pictures(3)], "int was given"),
    # gates
    "more modes than gates": (lambda b: lab.modes(b.natural, SITE, 99), "there are 1 to"),
    "no modes": (lambda b: lab.modes(b.natural, SITE, 0), "there are 1 to"),
    "another method": (lambda b: lab.modes(b.natural, SITE, 2, method=None), "method=None"),
    "mode 2 of 2": (lambda b: b.modes.objective(2), "mode=2"),
    "sign of another kind": (lambda b: b.modes.objective(0, 0.5), "sign=0.5"),
    "power nan": (lambda b: b.modes.objective(0, power=float("nan")), "power=nan"),
    "squeeze of another size": (lambda b: lab.excitation(b.model, SITE)(torch.rand(2, 9)), r"expected \[B,8\]"),
    "squeeze as a list": (lambda b: lab.excitation(b.model, SITE)([[0.0] * 8]), r"expected \[B,8\]"),
    "jacobian at a list": (lambda b: lab.gate_jacobian(b.model, SITE, [0.0] * 8), r"expected \[8\]"),
    "jacobian at nan": (lambda b: lab.gate_jacobian(b.model, SITE, torch.full((8,), torch.nan)), "finite"),
    "jacobian at integers": (lambda b: lab.gate_jacobian(b.model, SITE, torch.zeros(8).long()), r"expected \[8\]"),
    "jacobian of no site": (lambda b: lab.gate_jacobian(b.model, 3, torch.zeros(8)), "no gate '3'"),
    "drivers of gate 8": (lambda b: b.jacobian.drivers(8), "unit 8 of 'se'"),
    "no drivers": (lambda b: b.jacobian.drivers(1, 0), "k=0"),
    "another order": (lambda b: b.jacobian.picture("size"), "order='size'"),
    "range in half a step": (lambda b: lab.reachable_range(b.model, SITE, b.natural, steps=0.5), "steps=0.5"),
    "statistics of another network": (lambda b: lab.reachable_range(b.other, "1", _renamed(b.natural)), "of another"),
    "maps of no site": (lambda b: lab.gated_maps(b.model, None, X[0]), "no gate 'None'"),
    "maps of a batch": (lambda b: lab.gated_maps(b.model, SITE, X), "expected"),
    "channel 8": (lambda b: b.maps.picture([1, 8]), "unit 8 of 'se'"),
    "no channels": (lambda b: b.maps.picture([]), r"channels=\[\]"),
    "half a channel": (lambda b: b.maps.picture(0.5), "channels=0.5"),
    "no columns": (lambda b: b.maps.picture(2, 0), "columns=0"),
    "another scale": (lambda b: b.maps.picture(2, scale="all"), "scale='all'"),
    "cards of unit 8": (lambda b: [*make_cards(b.model, SITE, [8], b.natural, X, None)], "unit 8"),
    "gates of unit x": (lambda b: choose_gates(b.natural, fv.gates(b.model)[SITE], ["x"], 2), r"units\[0\]='x'"),
    "no gates": (lambda b: choose_gates(b.natural, fv.gates(b.model)[SITE], None, 0), "count=0"),
    "modes of nothing": (lambda b: lab.modes(None, SITE), "natural=None was given; expected statistics"),
    "range of nothing": (lambda b: lab.reachable_range(b.model, SITE, {}), "natural={} was given; expected statistics"),
    "ablated with nothing": (lambda b: lab.ablate(b.model, X, 3), "natural=3 was given; expected statistics"),
    # effects
    "ablated on no images": (lambda b: lab.GateAblator(b.model, X[:0]), r"images of shape \[0"),
    "ablated on an array": (lambda b: lab.GateAblator(b.model, np.zeros((1, 3, 8, 8), int)), "of int64"),
    "ablated to nan": (lambda b: lab.GateAblator(b.model, X).clamp(SITE, 1, float("nan")), "value=nan"),
    "gate x ablated": (lambda b: lab.GateAblator(b.model, X).clamp(SITE, "x", 0.0), "unit='x'"),
    "seed of another kind": (lambda b: lab.ablate(b.model, X, b.natural, seed="x"), "seed='x'"),
    "site 3 ablated": (lambda b: lab.ablate(b.model, X, b.natural, sites=[3]), "no gate '3'"),
    # attribution
    "no views": (lambda b: lab.gradient_paths(b.model, "conv:1", X, SITE, views=0), "views=0"),
    "half a seed": (lambda b: lab.gradient_paths(b.model, "conv:1", X, SITE, seed=0.5), "seed=0.5"),
    "no steps": (lambda b: lab.integrated_gradient_paths(b.model, "conv:1", X[0], SITE, steps=0), "steps=0"),
    "too many steps": (lambda b: lab.integrated_gradients(b.model, "conv:1", X[0], steps=10**9), "steps=1000000000"),
    "another baseline": (lambda b: lab.integrated_gradient_paths(b.model, "conv:1", X[0], SITE, baseline=3), "'3'"),
    "paths of site 3": (lambda b: lab.gradient_path_profile(b.model, "conv:1", X, [3]), "no gate '3'"),
    "paths of two gates": (lambda b: lab.gradient_paths(small("shared"), "logit:1", X, "se"), "computed 2 times"),
    "paths of images that exchange gates": (
        lambda b: _exchanged(b, lambda: lab.integrated_gradient_paths(b.model, "conv:1", X[0], SITE)), "across the"
    ),
    "gradient of an array": (lambda b: lab.gradient(b.model, "conv:1", None), "expected"),
    # drawing
    "colours of nothing": (lambda b: lab.colormap(None), "a map None was given"),
    "colours of nan": (lambda b: lab.colormap(X[0, 0], low=float("nan")), "low=nan"),
    "colours of another map": (lambda b: lab.colormap(X[0, 0], name=3), "no colour map '3'"),
    "overlaid twice": (lambda b: lab.overlay(X[0], X[0, 0], 2), "alpha=2"),
    "no panels": (lambda b: lab.draw_sheet([]), "no panels"),
    "panels without titles": (lambda b: lab.draw_sheet([X[0]]), r"expected at least one \(title, picture"),
    "panels of another kind": (lambda b: lab.draw_sheet(3), "panels=3 was given"),
    "a grey panel": (lambda b: lab.draw_sheet([("a", X[0, :1])]), r"expected at least one \(title, picture"),
    "overlaid on an array": (lambda b: lab.overlay(np.zeros((3, 8, 8)), X[0, 0]), r"expected \[3,H,W\] and \[h,w\]"),
    "half a column": (lambda b: lab.draw_sheet([("a", X[0])], 0.5), "columns=0.5"),
    "a gap of nan": (lambda b: lab.draw_sheet([("a", X[0])], gap=float("nan")), "gap=nan"),
    "grid of no channels": (lambda b: lab.activation_grid(b.model, "conv", X[0], 0), "channels=0"),
}  # fmt: skip


def _exchanged(bench: Bench, call: Callable[[], Any]) -> Any:
    with fv.resample(bench.model, SITE, [1, 0]):
        return call()


def _renamed(natural: GateStatistics) -> GateStatistics:
    return GateStatistics({"1": natural[SITE]}, natural.count)


@pytest.mark.parametrize("case", CALLS)
def test_wrong_arguments_are_explained(bench: Bench, case: str) -> None:
    call, message = CALLS[case]
    with pytest.raises(FeaturevizError, match=message):
        call(bench)


def test_several_runs_of_a_gate_have_no_two_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network may run a block more often than when its gates were found."""
    forward = type(bench.model.net.get_submodule("se")).forward
    monkeypatch.setattr(
        type(bench.model.net.get_submodule("se")), "forward", lambda self, x: forward(self, forward(self, x))
    )
    with pytest.raises(ModelError, match="gate 'se' is computed 2 times"):
        lab.gradient_paths(bench.model, "conv:1", X, SITE)


# ------------------------------------------------------------------------------------------------- the place in a batch
def test_a_response_does_not_depend_on_the_batch(bench: Bench) -> None:
    both = measure_responses(bench.model, bench.natural, SITE, [1, 2], X[:2])
    (alone,) = measure_responses(bench.model, bench.natural, SITE, [2], X[1:2])
    assert alone.logit == pytest.approx(both[1].logit, abs=1e-6)
    same = measure_responses(bench.model, bench.natural, SITE, [1, 1], X[:1].expand(2, -1, -1, -1))
    assert same[0] == same[1]


def test_the_reach_of_a_gate_does_not_depend_on_the_batch(bench: Bench) -> None:
    study = ReachabilityStudy(bench.model, fv.gates(bench.model)[SITE], bench.natural)
    both, images = study.render_gates([1, 2], steps=2, size=24)
    alone, image = study.render_gates([2], steps=2, size=24)
    assert torch.allclose(image[0], images[1], atol=1e-4)
    assert alone[0].excited.logit == pytest.approx(both[1].excited.logit, abs=1e-4)


def test_numbers_of_any_kind_are_taken(bench: Bench) -> None:
    natural, unit = bench.natural, np.int64(3)
    expected = natural.percentile(SITE, 3, torch.tensor(0.25))
    for logit in (0.25, np.float32(0.25), np.array(0.25), torch.tensor(0.25, dtype=torch.float64)):
        assert torch.equal(natural.percentile(SITE, unit, logit), expected)
    assert torch.equal(natural.quantile(SITE, torch.tensor(0.5)), natural.quantile(SITE, 0.5))
    drawn: Tensor = bench.maps.picture(np.array([1, 2]), np.int8(2))
    assert torch.equal(drawn, bench.maps.picture([1, 2], 2))
    with pytest.raises(InvalidInput):
        natural.percentile(SITE, unit, torch.tensor(0.25, device="meta"))
