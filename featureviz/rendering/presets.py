"""Recipes by name: options of ``fv.render`` that were chosen by measurement."""

from __future__ import annotations

from typing import Any

import torch

from featureviz.ascent.optimizers import Adam, LinearCooldown, Scheduled
from featureviz.checks import STEPS as MOST_STEPS
from featureviz.checks import whole
from featureviz.image import MacoImage
from featureviz.image.base import height_width
from featureviz.transform.base import Transform
from featureviz.transform.pixelwise import Noise
from featureviz.transform.until import Until
from featureviz.transform.warps import Crop, robust

LEARNING_RATE = 0.08  # at first; it falls to a fifth over the last quarter of the steps
STEPS = 128  # of a render, a demo, a card and a gallery
NOISE, SHARE = 0.04, 0.75  # the sd of the noise in the views, and the share of the steps that have it
MACO_STEPS, MACO_VIEWS = 256, 4


def clear(steps: int = STEPS) -> dict[str, Any]:
    """Options of ``fv.render`` for bold forms, above all in deep layers and gates; its defaults.

    The views have white noise for the first three quarters of the steps. A pale texture drowns in it, so the ascent
    builds strong and large forms; the last quarter adds the details. The steps are long, and get shorter at the end.

    The noise has the sd that changes the activations of a layer by a third. In all layers of the networks that were
    measured this is 0.03 to 0.05, a fifth of the contrast of photographs, so there is one sd for all of them.
    ``docs/clarity.md`` has the measurements.

    >>> import featureviz as fv
    >>> fv.clear()["transforms"]
    [Jitter(8), Scale(0.9, 1.1), Rotate(10), Jitter(4), Until(Noise(0.04), 0.75)]
    """
    return {
        "steps": whole("steps", steps, 0, MOST_STEPS), "transforms": clear_views(), "optimizer": cooling_adam(),
    }  # fmt: skip


def fast(steps: int = 64) -> dict[str, Any]:
    """Options of ``fv.render`` for a quick look, or for thousands of units: few steps, and an optimizer that uses them.

    Adam averages gradients over fewer steps, ``betas=(0.5, 0.999)``, so that it changes direction sooner. The learning
    rate falls to a fifth over the last quarter. ``docs/speed.md`` has the measurements.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> fv.render(model, "features.6:3", **fv.fast(4), size=64, progress=False).scores.shape
    torch.Size([4, 1])
    """
    return {"steps": whole("steps", steps, 0, MOST_STEPS), "optimizer": cooling_adam(0.05)}


def plain(steps: int = 512) -> dict[str, Any]:
    """Options of ``fv.render`` for the recipe of Lucid and Lucent: 512 steps, views without noise, a constant rate.

    It reaches the highest scores, with pale pictures that look alike in deep layers. It is meant for comparisons.

    >>> import featureviz as fv
    >>> fv.plain()["optimizer"]
    Adam(lr=0.05, betas=(0.9, 0.999))
    """
    return {"steps": whole("steps", steps, 0, MOST_STEPS), "transforms": robust(), "optimizer": Adam()}


def clear_views() -> list[Transform]:
    """The transforms of ``clear``."""
    return [*robust(), Until(Noise(NOISE), SHARE)]


def cooling_adam(lr: float = LEARNING_RATE) -> Adam:
    """The optimizer of ``clear``; that of ``fast`` has a smaller learning rate."""
    return Adam(LinearCooldown(lr), betas=(0.5, 0.999))


def maco(steps: int = MACO_STEPS, size: int = 512) -> dict[str, Any]:
    """Options of ``fv.render`` for images with the amplitudes of photographs (``fv.MacoImage``; Fel et al. 2023).

    The optimizer is NAdam, whose learning rate falls from 1 to 0.05, so that phases come to rest. A step has
    4 views of every image, each a crop whose side is random, from 0.05 to 0.5, with a little noise.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> picture = fv.render(model, "features.6:3", **fv.maco(2, size=64), progress=False)
    >>> picture.transparent().shape
    torch.Size([1, 4, 64, 64])
    """
    return {
        "image": MacoImage, "size": height_width(size), "steps": whole("steps", steps, 0, MOST_STEPS),
        "views": MACO_VIEWS, "transforms": [Crop(0.05, 0.5), Noise(0.05)],
        "optimizer": Scheduled(_nadam, LinearCooldown(1.0, share=1.0, end=0.05)),
    }  # fmt: skip


def _nadam(leaves: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.NAdam(leaves, lr=1.0)
