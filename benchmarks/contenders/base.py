"""The standard workload, and the base class of the tools that run it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Task:
    """Maximise the channels ``units`` of ``layer`` from noise, one image for each channel.

    ``size`` is the size of the images and ``input`` the size of the network's input, in pixels; 128 and 224 are the
    defaults of Lucent. ``weights`` is a safetensors file of a dilated MobileNetV3-Large. Its default is the file that
    FEATUREVIZ_REAL_WEIGHTS names; an empty name means random weights.
    """

    layer: str = "features.13"
    units: tuple[int, ...] = tuple(range(8))
    size: int = 128
    input: int = 224
    lr: float = 0.05
    seed: int = 0
    weights: str = field(default_factory=lambda: os.environ.get("FEATUREVIZ_REAL_WEIGHTS", ""))

    def network(self) -> nn.Module:
        """MobileNetV3-Large as torchvision builds it, in eval mode; its weights require gradients, as by default."""
        import torchvision  # takes seconds

        torch.manual_seed(0)
        net = torchvision.models.mobilenet_v3_large(weights=None, dilated=True)
        if self.weights:
            from safetensors.torch import load_file

            state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(Path(self.weights)).items()}
            missing, unexpected = net.load_state_dict(state, strict=False)
            if unexpected or any(not name.startswith("classifier.") for name in missing):
                raise ValueError(
                    f"{self.weights} is no state dict of a dilated MobileNetV3-Large: missing {missing}, unexpected"
                    f" {unexpected}; give another file, or none for random weights"
                )
        return net.eval()


class Unsupported(Exception):
    """A tool is not installed or cannot do a task; the table shows the reason."""


class Contender(ABC):
    """One tool on one task, ready to step: abstract. Each is built as the tool's own users would build it."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def step(self) -> None:
        """One step of gradient ascent of every image, with the tool's own standard transforms."""

    @abstractmethod
    def images(self) -> Tensor:
        """``[N,3,H,W]`` in [0,1], detached, on the CPU."""
