"""How many steps a render has, and the preset of what makes the same picture sooner."""

from __future__ import annotations

from typing import Any

from featureviz.ascent.optimizers import Adam, LinearCooldown

STEPS = 512  # of a render, as Lucid has


def fast(steps: int = 64) -> dict[str, Any]:
    """Options of ``fv.render`` for a look, or for a gallery of thousands.

    Adam forgets the direction of earlier steps sooner, ``betas=(0.5, 0.999)``, so it turns sooner while the picture is
    young; the learning rate cools down at the end; and there are few steps. ``docs/speed.md`` has the figures, and
    what was tried and left out.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> fv.render(model, "features.6:3", **fv.fast(4), size=64, progress=False).scores.shape
    torch.Size([4, 1])
    """
    return {"steps": steps, "optimizer": Adam(LinearCooldown(0.05), betas=(0.5, 0.999))}
