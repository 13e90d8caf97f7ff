"""Units compared by the weights that make them: by hand for each kind of layer, and what has no such weights."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featureviz as fv
from featureviz.errors import FeaturevizError
from featureviz.lab import gate_weights, nearest_by_weight, weight_similarity
from featureviz.nn import SEModule
from tests.conftest import TinySE


def cosines(weight: Tensor) -> Tensor:
    weight = F.normalize(weight.detach().flatten(1), dim=1)
    return weight @ weight.T


class Net(nn.Module):
    """Every kind of layer, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.se = SEModule(8, 2)
        self.grouped = nn.Conv2d(8, 6, 3, groups=2)
        self.expand, self.depthwise = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 3, groups=6)
        self.up = nn.ConvTranspose2d(6, 4, 2, groups=2)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 5))
        nn.init.normal_(self.stem[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.up(self.depthwise(self.expand(self.grouped(self.se(self.stem(x)))))))


@pytest.fixture
def everything() -> tuple[Net, fv.TappedModel]:
    torch.manual_seed(0)
    net = Net().eval()
    return net, fv.wrap(net, mean=0.5, std=0.25, size=24)


def test_the_weights_are_those_that_make_the_layer(everything: tuple[Net, fv.TappedModel]) -> None:
    net, model = everything
    plain = cosines(net.stem[0].weight)
    signs = net.stem[1].weight.detach().sign()
    assert signs.unique().numel() == 2
    for layer, expected in (
        ("stem.0", plain), ("stem.1", plain * signs * signs[:, None]), ("stem", plain * signs * signs[:, None]),
        ("se", plain * signs * signs[:, None]), ("pregate:se", plain * signs * signs[:, None]),
        ("expand", cosines(net.expand.weight)), ("output", cosines(net.head[3].weight)),
        ("head.3", cosines(net.head[3].weight)), ("gate:se", cosines(gate_weights(model, "se").w2)),
        ("bottleneck:se", cosines(gate_weights(model, "se").w1)),
    ):  # fmt: skip
        assert torch.allclose(weight_similarity(model, layer), expected, atol=1e-6), layer


def test_groups_share_no_input(everything: tuple[Net, fv.TappedModel]) -> None:
    net, model = everything
    dense = torch.zeros(6, 8, 3, 3)
    dense[:3, :4], dense[3:, 4:] = net.grouped.weight.detach()[:3], net.grouped.weight.detach()[3:]
    assert torch.allclose(weight_similarity(model, "grouped"), cosines(dense), atol=1e-6)
    # a transposed convolution turned into a linear map: what each output channel reads
    impulse = torch.eye(6)[:, :, None, None]
    reads = F.conv_transpose2d(impulse, net.up.weight.detach(), groups=2).transpose(0, 1)
    assert torch.allclose(weight_similarity(model, "up"), cosines(reads), atol=1e-6)


def test_the_nearest_come_first(everything: tuple[Net, fv.TappedModel]) -> None:
    net, model = everything
    row = cosines(net.expand.weight)[2]
    row[2] = -2
    found = nearest_by_weight(model, "expand", 2, k=3)
    assert [n.unit for n in found] == row.argsort(descending=True)[:3].tolist()
    assert [n.similarity for n in found] == pytest.approx(row.sort(descending=True).values[:3].tolist(), abs=1e-6)
    assert len(nearest_by_weight(model, "expand", 2, k=99)) == 5


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 8, 8, 8), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.attention(x, x, x)[0].mean(1)


def joined() -> nn.Module:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.a(x), self.b(x)], 1)

    return Joined()


WITHOUT: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "depthwise": (Net, "depthwise", "each unit of layer 'depthwise' reads one channel of its own"),
    "attention": (Attention, "output", "is made by 'attention', a MultiheadAttention"),
    "branches": (joined, "output", "those of 'b', which make 4 units, not 8"),
    "no weights": (lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 1)), "0", "no convolution or linear layer runs"),
    "no such layer": (Net, "stam", "no layer 'stam'; nearest: 'stem'"),
    "no text": (Net, 3, "layer=3"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WITHOUT)
def test_what_has_no_weights_to_compare_is_explained(kind: str) -> None:
    make, layer, message = WITHOUT[kind]
    with pytest.raises(FeaturevizError, match=message):
        weight_similarity(fv.wrap(make(), mean=0.5, std=0.25, size=24), layer)


def test_wrong_units_are_explained() -> None:
    model = fv.wrap(TinySE(), size=24)
    with pytest.raises(FeaturevizError, match="unit 8 of 'conv' was asked for; it has 8: 0 to 7"):
        nearest_by_weight(model, "conv", 8)
    with pytest.raises(FeaturevizError, match="k=0"):
        nearest_by_weight(model, "conv", 1, 0)
