"""The expected result of discovery for each block, with reference gates that are computed from its matrices."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from timm import layers
from torch import Tensor, nn

import featureviz.nn as fn
from tests.gated import (
    GCT,
    C,
    Cadene,
    ChannelsLast,
    Clamped,
    Container,
    CustomGate,
    Expanding,
    Functional,
    Gaussian,
    GaussianInPlace,
    Inline,
    LastFunctional,
    Outside,
    SEBlock,
    Two,
    WantsMaps,
    in_place,
    in_place_then_more,
    overwritten,
)  # fmt: skip

SIZE = 20


def make_stem(scale: float = 3.0) -> nn.Conv2d:
    """Weights large enough that some units of a bottleneck are active."""
    conv = nn.Conv2d(3, C, 3, 2, 1)
    nn.init.normal_(conv.weight, std=scale / 5)
    return conv


def build_net(block: nn.Module) -> nn.Sequential:
    return nn.Sequential(make_stem(), nn.LeakyReLU(), block, nn.Conv2d(C, 8, 3))


def randomize(block: nn.Module) -> nn.Module:
    """Give the block weights that make its gates vary."""
    for name, weight in block.named_parameters():
        if weight.ndim > 1 and "conv" not in name:
            nn.init.normal_(weight, std=1 / weight.shape[1] ** 0.5)
    return block


def mlp(block: nn.Module, s: Tensor) -> Tensor:
    """``W2 relu(W1 s + b1) + b2`` with the first two layers that have matrices, conv or linear."""
    first, second, *_ = (m for m in block.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))

    def layer(m: nn.Module, v: Tensor) -> Tensor:
        w, b = m.weight.flatten(1), m.bias  # pyright: ignore[reportCallIssue]
        return torch.einsum("nc,rc->nr", v, w) + (0 if b is None else b)

    return layer(second, layer(first, s).relu())


def hard(z: Tensor) -> Tensor:
    return ((z + 3) / 6).clamp(0, 1)


def by_mlp(squash: Callable[[Tensor], Tensor] = torch.sigmoid) -> Callable[[nn.Module, Tensor], list[Tensor]]:
    return lambda block, x: [squash(mlp(block, x.sum((2, 3)) / x[0, 0].numel()))]


def inline(squash: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Tensor], list[Tensor]]:
    return lambda block, x: by_mlp(squash)(block, F.silu(x))


def cbam(block: Any, x: Tensor, light: bool = False) -> list[Tensor]:
    mean, top = x.mean((2, 3)), x.amax((2, 3))
    z = mlp(block.channel, 0.5 * (mean + top)) if light else mlp(block.channel, mean) + mlp(block.channel, top)
    y = x * z.sigmoid()[..., None, None]
    pooled = [y.mean(1, keepdim=True), y.amax(1, keepdim=True)]
    return [z.sigmoid(), block.spatial.conv(0.5 * sum(pooled) if light else torch.cat(pooled, 1)).sigmoid()]


def two(block: Any, x: Tensor) -> list[Tensor]:
    (g,) = by_mlp()(block, x)
    y = x * g[..., None, None]
    return [g, block.conv(torch.stack([y.mean(1), y.amax(1)], 1)).sigmoid()]


def gct(block: Any, x: Tensor) -> list[Tensor]:
    e = (x.square().sum((2, 3)) + 1e-5).sqrt() * block.alpha.flatten()
    return [
        1 + (e * block.gamma.flatten() / (e.square().mean(1, keepdim=True) + 1e-5).sqrt() + block.beta.flatten()).tanh()
    ]


def gaussian(_block: nn.Module, x: Tensor) -> list[Tensor]:
    s = x.mean((2, 3))
    return [torch.exp(-((s - s.mean(1, keepdim=True)) ** 2) / (s.var(1, keepdim=True, correction=0) + 1e-5) / 8)]


@dataclass(frozen=True)
class Form:
    """A block, the kinds and the tier that discovery should report, and a reference for its gates.

    ``gates(block, x)`` is computed from the block and the map before it.
    """

    make: Callable[[], nn.Module]
    kinds: list[str]
    found: str
    gates: Callable[[Any, Tensor], list[Tensor]] = field(default_factory=by_mlp)


def functional(scale: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], nn.Module]:
    return lambda: Functional(scale)


CLASS, BEHAVES, BARE, ONLY = "class", "behaves as a gate", "functional", "functional, value only"
FORMS = {
    "tutorial": Form(SEBlock, ["SE"], BEHAVES),
    "expand_as": Form(Expanding, ["SE"], BEHAVES),
    "Cadene": Form(Cadene, ["SE"], BEHAVES),
    "gate that wants maps": Form(WantsMaps, ["SE"], "behaves as a gate, value only"),
    "clamped": Form(Clamped, ["SE"], BEHAVES),
    "torch.sigmoid": Form(functional(lambda x, z: torch.sigmoid(z) * x), ["SE"], BARE),
    "F.hardsigmoid": Form(functional(lambda x, z: x * F.hardsigmoid(z, inplace=True)), ["SE"], BARE, by_mlp(hard)),
    "logits overwritten": Form(functional(overwritten), ["SE"], BARE, by_mlp(hard)),
    "x *= z.sigmoid_()": Form(functional(in_place), ["SE"], BARE),
    "in place, then more": Form(functional(in_place_then_more), ["SE"], BARE),
    "relu6(z + 3) / 6": Form(functional(lambda x, z: x * (F.relu6(z + 3) / 6)), ["SE"], ONLY, by_mlp(hard)),
    "clamp in place": Form(functional(lambda x, z: x * z.add_(3).clamp_(0, 6).div_(6)), ["SE"], ONLY, by_mlp(hard)),
    "custom gate module": Form(CustomGate, ["SE"], BEHAVES, by_mlp(hard)),
    "inline": Form(Inline, ["SE"], BARE, inline(torch.sigmoid)),
    "inline, custom gate": Form(lambda: Inline(hard=True), ["SE"], BARE, inline(hard)),
    "gate from outside": Form(Outside, ["SE"], BARE),
    "container": Form(Container, ["SE"], BARE),
    "two": Form(Two, ["SE", "spatial gate"], BARE, two),
    "GCT": Form(GCT, ["channel gate"], ONLY, gct),
    "Gaussian": Form(Gaussian, ["channel gate"], "behaves as a gate, value only", gaussian),
    "Gaussian in place": Form(GaussianInPlace, ["channel gate"], "behaves as a gate, value only", gaussian),
    "channels last": Form(lambda: ChannelsLast(LastFunctional()), ["SE"], BARE),
}  # fmt: skip


def context(block: Any, x: Tensor) -> list[Tensor]:
    weight = block.conv_attn(x).flatten(2).softmax(2)
    return [
        block.mlp_scale(torch.einsum("nchw,nhw->nc", x, weight.view(len(x), *x.shape[2:]))[..., None, None]).sigmoid()[
            ..., 0, 0
        ]
    ]


def eca(block: Any, x: Tensor) -> list[Tensor]:
    return [block.conv(x.mean((2, 3))[:, None])[:, 0].sigmoid()]


LIBRARY = {
    "torchvision": Form(lambda: torchvision.ops.SqueezeExcitation(C, 4), ["SE"], CLASS),
    "timm SEModule": Form(lambda: layers.SEModule(C, rd_channels=4), ["SE"], CLASS),
    "timm channels last": Form(
        lambda: ChannelsLast(layers.squeeze_excite.SqueezeExciteCl(C, rd_channels=4)), ["SE"], CLASS
    ),
    "timm ECA": Form(lambda: layers.EcaModule(C), ["ECA"], CLASS, eca),
    "timm CBAM": Form(lambda: layers.cbam.CbamModule(C, 0.25), ["CBAM channel", "CBAM spatial"], CLASS, cbam),
    "timm light CBAM": Form(
        lambda: layers.cbam.LightCbamModule(C, 0.25), ["channel gate", "spatial gate"], BARE,
        lambda block, x: cbam(block, x, light=True),
    ),
    "timm global context": Form(
        lambda: layers.GlobalContext(C, fuse_add=False, fuse_scale=True, rd_ratio=0.5), ["global context"], CLASS,
        context,
    ),
    "featureviz SE": Form(lambda: fn.SEModule(C, 4), ["SE"], CLASS),
    "featureviz CBAM": Form(lambda: fn.CBAM(C, 4, 3), ["CBAM channel", "CBAM spatial"], CLASS, cbam),
}  # fmt: skip


ALL = FORMS | LIBRARY
