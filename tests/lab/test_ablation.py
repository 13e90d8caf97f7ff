"""Ablations: gates at their mean, at one and shuffled, and the change of the output."""

import pytest
import torch

import featureviz as fv
from featureviz.errors import UnknownName
from featureviz.lab import GateStatistics, ablate
from featureviz.network.in_force import interventions_on
from tests.conftest import TinySE


def pictures(n: int) -> torch.Tensor:
    return torch.rand(n, 3, 24, 24, generator=torch.Generator().manual_seed(2)) * torch.linspace(0.2, 1, n).view(
        n, 1, 1, 1
    )


def test_the_figures_are_those_of_the_network_changed_by_hand(tiny: fv.TappedModel) -> None:
    x = pictures(7)
    natural = GateStatistics.measure(tiny, x)
    found = {a.way: a for a in ablate(tiny, x, natural)}
    assert list(found) == ["mean", "one", "shuffled"]
    with torch.no_grad():
        before = tiny(x, ["output"])["output"]
        with fv.clamp(tiny, "se", 1.0):
            after = tiny(x, ["output"])["output"]
    one = found["one"]
    assert one.count == 7
    assert one.change == pytest.approx(float(((before - after).norm(dim=1) / before.norm(dim=1)).mean()), rel=1e-4)
    p, q = before.softmax(1), after.softmax(1)
    assert one.divergence == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-3)
    assert one.flipped == pytest.approx(float((before.argmax(1) != after.argmax(1)).float().mean()))
    assert "KL" in str(one)
    assert one.change > found["mean"].change > 0


def test_gates_that_do_not_react_are_not_missed(net: TinySE) -> None:
    torch.nn.init.zeros_(net.se.fc2.weight)
    model = fv.wrap(net, size=24)
    x = pictures(4)
    found = {a.way: a for a in ablate(model, x, GateStatistics.measure(model, x))}
    assert found["mean"].change == pytest.approx(0, abs=1e-6)
    assert found["shuffled"].change == pytest.approx(0, abs=1e-6)
    assert found["shuffled"].flipped == 0
    assert found["one"].change > 0


def test_shuffling_leaves_no_image_its_own_gates(tiny: fv.TappedModel) -> None:
    x = pictures(9)
    natural = GateStatistics.measure(tiny, x)
    (shuffled,) = [a for a in ablate(tiny, x, natural, layer="gate value:se") if a.way == "shuffled"]
    own = tiny(x, ["gate value:se"])["gate value:se"].detach()
    closest = min(float((a - b).norm() / a.norm()) for i, a in enumerate(own) for j, b in enumerate(own) if i != j)
    assert shuffled.change >= closest > 0


def test_batches_layers_and_a_last_image_on_its_own(embedded: fv.TappedModel) -> None:
    x = torch.rand(5, 3, 64, 64)
    natural = GateStatistics.measure(embedded, x)
    site = "features.8.block.2"
    found = ablate(embedded, [x[:4], x[4:]], natural, sites=[site], layer="features.9")
    assert [(a.way, a.count) for a in found] == [("mean", 5), ("one", 5), ("shuffled", 4)]
    assert found[0].divergence is None
    assert "KL" not in str(found[0])
    assert [a.way for a in ablate(embedded, [x[:1], x[1:2]], natural, sites=[site])] == ["mean", "one"]
    whole, parts = (ablate(embedded, b, natural, sites=[site])[0] for b in (x, [x[:2], x[2:]]))
    assert whole.change == pytest.approx(parts.change, rel=1e-4)
    assert not interventions_on(embedded.key)
    with pytest.raises(UnknownName, match=r"features\.8\.block\.2"):
        ablate(embedded, x, natural, sites=["features.8.block.1"])
