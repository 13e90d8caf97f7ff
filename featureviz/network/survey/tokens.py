"""Which token is what: the tokens of a transformer's layer before its patches, and the grid of the patches.

The map that patches are made from, ``[M,C,H,W]``, has their grid. What a layer has more than H x W tokens are its
prefix tokens. Networks that say how many these are, as timm's do, are believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from featureviz.network.axes import Axes, Tokens
from featureviz.network.survey.passes import Output

MOST_PREFIX = 16  # tokens for classes and registers; a larger surplus is something else


def with_tokens(path: str, axes: Axes, outputs: Mapping[str, Output], net: nn.Module) -> Axes:
    """The axes of a layer ``[M,T,C]`` with what its tokens are; unchanged where nothing tells this."""
    if axes.ndim != 3 or axes.batch != 0 or axes.channel is None or axes.windows != 1 or path not in outputs:
        return axes
    count = outputs[path].shape[3 - axes.channel]
    grids = list[tuple[int, int]]()
    for name, output in outputs.items():
        if name == path:
            break
        if output.readable and len(output.shape) == 4:
            grids.append((output.shape[2], output.shape[3]))
    told: Any = getattr(net, "num_prefix_tokens", None)
    most = MOST_PREFIX if not isinstance(told, int) else told
    least = 0 if not isinstance(told, int) else told
    fitting = [grid for grid in grids if least <= count - grid[0] * grid[1] <= most]
    if not fitting:
        return axes
    grid = max(fitting, key=lambda grid: grid[0] * grid[1])
    prefix = count - grid[0] * grid[1]
    classes = min(prefix, 1) if getattr(net, "has_class_token", True) else 0
    return replace(axes, tokens=Tokens(prefix, classes, grid))
