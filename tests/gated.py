"""Gated blocks in the ways in which other projects write them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

C = 16


class SEBlock(nn.Module):
    """As in tutorials: a Sequential that ends in a sigmoid, on [N,C]."""

    def __init__(self) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        layers = [nn.Linear(C, C // 4, bias=False), nn.ReLU(inplace=True), nn.Linear(C // 4, C, bias=False)]
        self.fc = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y


class Expanding(SEBlock):
    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = self.fc(self.avg_pool(x).view(b, c)).view(b, c, 1, 1)
        return x * y.expand_as(x)


class Cadene(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.avg_pool, self.fc1 = nn.AdaptiveAvgPool2d(1), nn.Conv2d(C, C // 4, 1)
        self.relu, self.fc2, self.sigmoid = nn.ReLU(inplace=True), nn.Conv2d(C // 4, C, 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        module_input = x
        x = self.avg_pool(x)
        x = self.fc1(x)
        x = self.relu(x)
        x = self.fc2(x)
        x = self.sigmoid(x)
        return module_input * x


class OnMaps(nn.Module):
    """A sigmoid that accepts only maps [N,C,H,W]."""

    def forward(self, x: Tensor) -> Tensor:
        _, _, _, _ = x.shape
        return torch.sigmoid(x)


class WantsMaps(Cadene):
    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = OnMaps()


class Clamped(Cadene):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(self.fc2(self.relu(self.fc1(self.avg_pool(x))))).clamp(0, 1)


class Functional(nn.Module):
    """An SE block whose last step is ``scale(x, z)``, with the logits z [N,C,1,1]."""

    def __init__(self, scale: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.fc1, self.fc2, self.scale = nn.Conv2d(C, C // 4, 1), nn.Conv2d(C // 4, C, 1), scale

    def forward(self, x: Tensor) -> Tensor:
        s = F.adaptive_avg_pool2d(x, 1)
        return self.scale(x, self.fc2(F.relu(self.fc1(s), inplace=True)))


def in_place(x: Tensor, z: Tensor) -> Tensor:
    x *= z.sigmoid_()
    return x


def overwritten(x: Tensor, z: Tensor) -> Tensor:
    F.hardsigmoid(z, inplace=True)
    return x * z


def in_place_then_more(x: Tensor, z: Tensor) -> Tensor:
    x = x + 0
    x *= torch.sigmoid(z)
    x += 1
    return x


class HSigmoid(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3, inplace=True) / 6


class CustomGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.h = nn.Linear(C, C // 4), nn.Linear(C // 4, C), HSigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.h(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))
        return x * y[:, :, None, None]


class Inline(nn.Module):
    """An MBConv with all steps in one forward, the swish included (as in lukemelas)."""

    def __init__(self, hard: bool = False) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(C, C // 4, 1), nn.Conv2d(C // 4, C, 1)
        self.project, self.h = nn.Conv2d(C, C, 1), HSigmoid() if hard else torch.sigmoid

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs * torch.sigmoid(inputs)
        s = F.adaptive_avg_pool2d(x, 1)
        s = self.fc2(F.relu(self.fc1(s)))
        x = self.h(s) * x
        return self.project(x) + inputs


class Excite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(C, C // 4), nn.Linear(C // 4, C)

    def forward(self, s: Tensor) -> Tensor:
        return torch.sigmoid(self.fc2(F.relu(self.fc1(s))))


class Outside(nn.Module):
    """A submodule computes the gates without the map."""

    def __init__(self) -> None:
        super().__init__()
        self.excite = Excite()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excite(x.mean((2, 3)))[..., None, None]


class Container(nn.Sequential):
    """A Sequential: it runs all of its children, and must not run a child that discovery adds."""

    def __init__(self) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Conv2d(C, C // 4, 1), nn.ReLU(), nn.Conv2d(C // 4, C, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.mul(torch.sigmoid(super().forward(x)), x)


class Two(nn.Module):
    """A channel gate, then a spatial gate, in one forward; the names "scale" and "gate" are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.conv = nn.Linear(C, C // 4), nn.Linear(C // 4, C), nn.Conv2d(2, 1, 3, padding=1)
        self.scale = self.gate = 1.0

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))[..., None, None]
        return x * torch.sigmoid(self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


class GCT(nn.Module):
    """Gated channel transformation (Yang et al. 2020): 1 + tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.gamma, self.beta = (nn.Parameter(torch.rand(1, C, 1, 1)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        embedding = (x.pow(2).sum((2, 3), keepdim=True) + 1e-5).pow(0.5) * self.alpha
        norm = self.gamma / (embedding.pow(2).mean(dim=1, keepdim=True) + 1e-5).pow(0.5)
        return x * (1.0 + torch.tanh(embedding * norm + self.beta))


class Gaussian(nn.Module):
    """Gaussian context transformer (Ruan et al. 2021): no weights, and no squashing function."""

    def weights(self, x: Tensor) -> Tensor:
        s = x.mean((2, 3), keepdim=True)
        s = (s - s.mean(1, keepdim=True)) / (s.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return torch.exp(-s.square() / 8)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)


class GaussianInPlace(Gaussian):
    def forward(self, x: Tensor) -> Tensor:
        x *= self.weights(x)
        return x


class GaussianInFloat(Gaussian):
    def forward(self, x: Tensor) -> Tensor:
        return (x.float() * self.weights(x.float())).to(x.dtype)


class ChannelsLast(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LastFunctional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(C, C // 4), nn.Linear(C // 4, C)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc2(F.relu(self.fc1(x.mean((1, 2)))))
        return x * torch.sigmoid(z)[:, None, None, :]
