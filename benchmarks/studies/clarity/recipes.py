"""The recipes that are compared. All take the same steps, with one view each."""

from __future__ import annotations

from typing import Any

import featureviz as fv
from featureviz.transform import Noise, Until, robust

PLAIN, CLEAR = "plain", "clear"


def list_recipes(steps: int) -> dict[str, dict[str, Any]]:
    """Options of ``fv.render`` for each recipe; all below ``clear`` change one thing in it."""
    clear = fv.clear(steps)
    return {
        PLAIN: fv.plain(steps),
        CLEAR: clear,
        "clear, no noise": clear | {"transforms": robust()},
        "clear, twice the noise": clear | _with_noise(0.08, 0.75),
        "clear, noise throughout": clear | _with_noise(0.04, 1.0),
        "clear, noise half the steps": clear | _with_noise(0.04, 0.5),
        "clear, shorter steps": clear | {"optimizer": fv.Adam(fv.LinearCooldown(0.05), betas=(0.5, 0.999))},
    }


def _with_noise(sd: float, share: float) -> dict[str, Any]:
    return {"transforms": [*robust(), Until(Noise(sd), share)]}
