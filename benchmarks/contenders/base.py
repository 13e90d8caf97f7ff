"""The standard workload, and what takes part in it."""

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
    """Climb the channels ``units`` of ``layer``, one an image, from noise.

    ``size`` is of the images and ``input`` of what the network sees, in pixels. 128 and 224 are what Lucent does when
    left alone. ``weights`` is a safetensors file of a dilated MobileNetV3-Large, by default the one that
    FEATUREVIZ_REAL_WEIGHTS names; where it is empty, weights are random.
    """

    layer: str = "features.13"
    units: tuple[int, ...] = tuple(range(8))
    size: int = 128
    input: int = 224
    lr: float = 0.05
    seed: int = 0
    weights: str = field(default_factory=lambda: os.environ.get("FEATUREVIZ_REAL_WEIGHTS", ""))

    def network(self) -> nn.Module:
        """MobileNetV3-Large as torchvision builds it, in eval mode, its weights asking for gradients as they do."""
        import torchvision  # takes seconds

        torch.manual_seed(0)
        net = torchvision.models.mobilenet_v3_large(weights=None, dilated=True)
        if self.weights:
            from safetensors.torch import load_file

            state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(Path(self.weights)).items()}
            missing, unexpected = net.load_state_dict(state, strict=False)
            if unexpected or any(not name.startswith("classifier.") for name in missing):
                raise ValueError(f"{self.weights} is no dilated MobileNetV3-Large: {missing} {unexpected}")
        return net.eval()


class Unsupported(Exception):
    """A contender cannot do a task, or is not there; the reason goes into the table."""


class Contender(ABC):
    """One tool on one task, ready to step: abstract. Built as the tool's own users would build it."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def step(self) -> None:
        """One step of gradient ascent of every image, the tool's own standard transforms included."""

    @abstractmethod
    def images(self) -> Tensor:
        """``[N,3,H,W]`` in [0,1], detached, on the CPU."""
