"""Networks to test on: a tiny one with an SE gate, the embedded one, and real weights where they lie beside."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops import SqueezeExcitation

import featureviz as fv

os.environ.setdefault("MPLBACKEND", "agg")
if os.environ.get("PYTEST_XDIST_WORKER"):
    # Threads that wait for work would take the core of the other worker; processes that a test starts inherit this.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same random numbers, whatever ran before it."""
    torch.manual_seed(0)


class TinySE(nn.Module):
    """Conv, in-place ReLU, SE gate, residual in place, head: every trap of real networks in five layers."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.se = SqueezeExcitation(
            channels, 4, activation=lambda: nn.ReLU(inplace=True), scale_activation=nn.Hardsigmoid
        )
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)
        self.head = nn.Linear(channels, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.conv(self.se(x))
        y += x
        return self.head(y.mean((2, 3)))


@pytest.fixture
def net() -> TinySE:
    torch.manual_seed(0)
    return TinySE().train()


@pytest.fixture
def tiny(net: TinySE) -> fv.TappedModel:
    return fv.wrap(net, mean=0.5, std=0.25, size=24, labels=["ant", "bee", "cat", "dog", "eel"])


@pytest.fixture(scope="session")
def embedded() -> fv.TappedModel:
    return fv.load("embedded")


@pytest.fixture
def no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's float32 convolutions keep all bits, as a CPU's do."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """A MobileNetV3-Large of natural-image features, where FEATUREVIZ_REAL_WEIGHTS names it or it lies beside."""
    name = "mobilenet_v3_large_dilated_features.safetensors"
    places = [os.environ.get("FEATUREVIZ_REAL_WEIGHTS", ""), str(Path(__file__).parents[2] / "shared/weights" / name)]
    for place in places:
        if place and Path(place).is_file():
            return Path(place)
    pytest.skip(f"no {name}: set FEATUREVIZ_REAL_WEIGHTS to its path")


@pytest.fixture
def control_c() -> Iterator[None]:
    """Python's handler of Ctrl-C, without which a job in the background starts."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
