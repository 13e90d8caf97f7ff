"""Colours for numbers: colour maps, their limits, and overlays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from featureviz.checks import choice, finite, holds_numbers, show
from featureviz.errors import InvalidInput, unknown

DIVERGING = "diverging"
# Blue, white for zero, red: the eleven classes of ColorBrewer's RdBu (Harrower and Brewer 2003), reversed.
_BLUE_TO_RED = (
    "053061", "2166ac", "4393c3", "92c5de", "d1e5f0", "f7f7f7", "fddbc7", "f4a582", "d6604d", "b2182b", "67001f",
)  # fmt: skip
_SIGNED = (DIVERGING, "seismic")


def colormap(values: Tensor, low: float | None = None, high: float | None = None, name: str = "viridis") -> Tensor:
    """Maps as colours: ``[H,W]`` to ``[3,H,W]``, ``[N,H,W]`` to ``[N,3,H,W]``, in [0,1], on the CPU.

    ``low`` gets the first colour and ``high`` gets the last colour; values outside are clipped. The defaults are the
    least and the greatest of all values. In a colour map for signed numbers (``"diverging"``, ``"seismic"``) the
    defaults are ``-m`` and ``m``, where m is the greatest magnitude, so that zero is white. ``name`` is
    ``"diverging"`` or one of kornia's colour maps.

    Raises:
        InvalidInput: another shape, a value that is not finite, or ``low > high``.

    >>> colormap(torch.tensor([[-2.0, 0.0, 1.0]]), name="diverging")[:, 0, 1]  # zero
    tensor([0.9686, 0.9686, 0.9686])
    """
    colours = _colours(name)
    if not holds_numbers(values) or values.ndim not in (2, 3) or not values.numel():
        given = f"of shape {list(values.shape)}" if isinstance(values, Tensor) else show(values)
        raise InvalidInput(f"a map {given} was given; expected [H,W] or [N,H,W], not empty")
    values = values.detach().float().cpu()
    low, high = limits(values, low, high, name=name)
    middle = 0.5 if name in _SIGNED else 0.0
    share = ((values - low) / (high - low)).clamp(0, 1) if high > low else torch.full_like(values, middle)
    from kornia.color import ApplyColorMap  # imported here because it takes a second

    with torch.device("cpu"):
        coloured = ApplyColorMap(colours)(share.view(-1, 1, *values.shape[-2:]))
    return coloured.view(*values.shape[:-2], 3, *values.shape[-2:])


def limits(
    values: Tensor, low: float | None = None, high: float | None = None, *, name: str = "viridis", share: float = 1.0
) -> tuple[float, float]:
    """The values that get the first and the last colour in ``colormap``.

    ``share`` is the share of the values between the limits: with 0.99, one value in a hundred lies outside. In a
    colour map for signed numbers, zeros are not counted.
    """
    low, high = (None if end is None else finite(what, end) for what, end in (("low", low), ("high", high)))
    share = finite("share", share, 0, 1)
    array = values.detach().float().cpu().numpy()
    if not np.isfinite(array).all():
        raise InvalidInput(f"{int((~np.isfinite(array)).sum())} of {array.size} values to draw are NaN or infinite")
    if isinstance(name, str) and name in _SIGNED:
        given = [abs(v) for v in (low, high) if v is not None]
        sizes = np.abs(array[array != 0])  # without the zeros, of which a sparse matrix has many
        reach = max(given) if given else float(np.quantile(sizes, share)) if sizes.size else 0.0
        low, high = -reach if low is None else low, reach if high is None else high
    low = float(np.quantile(array, (1 - share) / 2)) if low is None else low
    high = float(np.quantile(array, (1 + share) / 2)) if high is None else high
    if low > high:
        raise InvalidInput(f"low={low:.4g} and high={high:.4g} were given; expected low <= high")
    return low, high


def overlay(image: Tensor, values: Tensor, alpha: float = 0.5, name: str = "turbo") -> Tensor:
    """``(1 - alpha) * image + alpha * colormap(values)`` for ``[3,H,W]`` in [0,1] and a map ``[h,w]`` of any size.

    The map is enlarged bilinearly before it is coloured.

    >>> overlay(torch.zeros(3, 8, 8), torch.rand(2, 2), alpha=0.0).max()
    tensor(0.)
    """
    alpha = finite("alpha", alpha, 0, 1)  # from the image alone to the map alone
    known = holds_numbers(image) and holds_numbers(values)
    if not known or image.ndim != 3 or image.shape[0] != 3 or values.ndim != 2:
        given = [f"of shape {list(t.shape)}" if isinstance(t, Tensor) else show(t) for t in (image, values)]
        raise InvalidInput(f"an image {given[0]} and a map {given[1]} were given; expected [3,H,W] and [h,w]")
    wide = interpolate(values.detach().float().cpu()[None, None], image.shape[1:], mode="bilinear", antialias=True)
    return torch.lerp(image.detach().float().cpu(), colormap(wide[0, 0], name=name), alpha)


def check_scale(scale: str) -> None:
    """Raise ``InvalidInput`` unless the maps of a picture have colour scales of their own or one for all."""
    choice("scale", scale, ("each", "shared"))


def _colours(name: str) -> Any:
    from kornia.color import ColorMap, ColorMapType

    names = [DIVERGING, *ColorMapType.list()]
    if not isinstance(name, str) or name not in names:
        raise unknown("colour map", name, names)
    rgb = [[int(h[i : i + 2], 16) / 255 for i in (0, 2, 4)] for h in _BLUE_TO_RED]
    # An odd number of colours, so that one of them is the middle.
    with torch.device("cpu"):  # kornia takes the caller's default
        return ColorMap(rgb if name == DIVERGING else name, num_colors=255, dtype=torch.float32)
