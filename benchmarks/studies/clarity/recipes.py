"""The recipes that are compared. All take the same steps, with one view each."""

from __future__ import annotations

from typing import Any

import featureviz as fv
from featureviz.transform import Noise, Until, robust

PLAIN = "plain"


def list_recipes(steps: int) -> dict[str, dict[str, Any]]:
    """Options of ``fv.render`` for each recipe."""
    fast = fv.fast(steps)
    return {
        PLAIN: {"steps": steps},
        "fast": fast,
        "noise .03 to 75 %, fast": fast | _with_noise(0.03),
        "noise .05 to 75 %, fast": fast | _with_noise(0.05),
        "noise .07 to 75 %, fast": fast | _with_noise(0.07),
        "noise .1 to 75 %, fast": fast | _with_noise(0.1),
        "noise .05 to 50 %, fast": fast | _with_noise(0.05, 0.5),
        "noise .05 to 75 %": {"steps": steps} | _with_noise(0.05),
        "noise .05 throughout": {"steps": steps} | _with_noise(0.05, 1.0),
    }


def _with_noise(sd: float, share: float = 0.75) -> dict[str, Any]:
    return {"transforms": [*robust(), Until(Noise(sd), share)]}
