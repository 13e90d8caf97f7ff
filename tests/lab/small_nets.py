"""Small networks with every kind of gate, pictures for them, and gradients to compare with."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import featureviz as fv
from featureviz.nn import CBAM, SEModule

SITE = "features.8.block.2"


def pictures(n: int, size: int, seed: int = 0) -> Tensor:
    """Smooth coloured noise in [0,1], so that gates see something like pictures."""
    coarse = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)


class Functional(nn.Module):
    """A gate computed by functions, in place, and a skip connection around the block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc, self.head = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 6), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).tanh()
        y = x.clone()
        y *= torch.sigmoid(4 * self.fc(y.mean((2, 3))))[:, :, None, None]
        return self.head(y + x).square().mean((2, 3))


class ChannelsLast(nn.Module):
    """A gate on maps [N,H,W,C]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc, self.head = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).tanh().permute(0, 2, 3, 1)
        x = x * torch.sigmoid(4 * self.fc(x.mean((1, 2))))[:, None, None]
        return self.head(x).square().mean((1, 2))


def small(kind: str) -> fv.TappedModel:
    torch.manual_seed(0)
    nets = {
        "functional": Functional,
        "channels last": ChannelsLast,
        "cbam": lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), CBAM(8, 2), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        "shared": Shared,
        "branches": Branches,
    }
    return fv.wrap(nets[kind](), mean=0.5, std=0.25, size=24)


class Shared(nn.Module):
    """One gated block, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.se, self.head = nn.Conv2d(3, 8, 3), SEModule(8, 2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.se(self.se(self.stem(x))).mean((2, 3)))


class Branches(nn.Module):
    """One branch with gates, and one without."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.se, self.left, self.right = (
            nn.Conv2d(3, 8, 3),
            SEModule(8, 2),
            nn.Conv2d(8, 2, 1),
            nn.Conv2d(8, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.left(self.se(x))
        return torch.cat([y, self.right(x)], 1).mean((2, 3))


def plain(net: nn.Module, x: Tensor, unit: int, mean: Tensor | float = 0.5, std: Tensor | float = 0.25) -> Tensor:
    """The gradient of a logit by autograd, on the caller's network."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(net.eval()((x - mean) / std)[:, unit].sum(), x)[0]


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())
