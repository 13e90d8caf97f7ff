"""Default numbers of steps, and the preset for quick renders."""

from __future__ import annotations

from typing import Any

from featureviz.ascent.optimizers import Adam, LinearCooldown
from featureviz.checks import STEPS as MOST_STEPS
from featureviz.checks import whole

STEPS = 512  # of a render; Lucid's default
LOOK_STEPS = 128  # enough to see what a unit responds to: gate cards and galleries of many units
DEMO_STEPS = 160


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
