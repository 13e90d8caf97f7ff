"""Default numbers of steps, and the preset for quick renders."""

from __future__ import annotations

from typing import Any

import torch

from featureviz.ascent.optimizers import Adam, LinearCooldown, Scheduled
from featureviz.checks import STEPS as MOST_STEPS
from featureviz.checks import whole
from featureviz.image import MacoImage
from featureviz.transform import Crop, Noise

STEPS = 512  # of a render; Lucid's default
LOOK_STEPS = 128  # enough to see what a unit responds to: gate cards and galleries of many units
DEMO_STEPS = 160
MACO_STEPS, MACO_VIEWS = 256, 4


def fast(steps: int = 64) -> dict[str, Any]:
    """Options of ``fv.render`` for a quick look, or for thousands of units.

    There are few steps. Adam averages gradients over fewer steps, ``betas=(0.5, 0.999)``, so that it changes direction
    sooner. The learning rate falls to a fifth over the last quarter. ``docs/speed.md`` has the measurements.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> fv.render(model, "features.6:3", **fv.fast(4), size=64, progress=False).scores.shape
    torch.Size([4, 1])
    """
    return {"steps": whole("steps", steps, 0, MOST_STEPS), "optimizer": Adam(LinearCooldown(0.05), betas=(0.5, 0.999))}


def maco(steps: int = MACO_STEPS, size: int = 512) -> dict[str, Any]:
    """Options of ``fv.render`` for images with the amplitudes of photographs (``fv.MacoImage``; Fel et al. 2023).

    The optimizer is NAdam, whose learning rate falls from 1 to 0.05, so that phases come to rest. A step has
    4 views of every image, each a crop of side 0.05 to 0.5, with a little noise.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> picture = fv.render(model, "features.6:3", **fv.maco(2, size=64), progress=False)
    >>> picture.transparent().shape
    torch.Size([1, 4, 64, 64])
    """
    return {
        "image": MacoImage, "size": size, "steps": whole("steps", steps, 0, MOST_STEPS), "views": MACO_VIEWS,
        "transforms": [Crop(0.05, 0.5), Noise(0.05)],
        "optimizer": Scheduled(_nadam, LinearCooldown(1.0, share=1.0, end=0.05)),
    }  # fmt: skip


def _nadam(leaves: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.NAdam(leaves, lr=1.0)
