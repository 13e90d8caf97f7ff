"""The layers and units of the standard workload."""

from __future__ import annotations

LAYERS = ("features.6", "features.12", "features.13", "features.15")
WIDTHS = {"features.6": 40, "features.12": 112, "features.13": 160, "features.15": 160}  # channels


def select_units(layer: str, count: int) -> tuple[int, ...]:
    """The first ``count`` channels; a layer with fewer channels repeats them, which does not change the time."""
    return tuple(i % WIDTHS[layer] for i in range(count))
