"""The maps of a layer's channels for one image, as numbers and as a picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from featureviz.checks import LARGEST, whole
from featureviz.errors import InvalidInput
from featureviz.lab.draw.colors import check_scale, colormap, limits
from featureviz.lab.draw.sheet import COLOR_SHARE, ColorBar, draw_sheet, join_row, resize_near
from featureviz.lab.inputs import fit_image
from featureviz.network.model import TappedModel
from featureviz.network.surroundings import own_surroundings

_PREFIX = 8  # the most class and register tokens before a grid of patches: DeiT has 2, DINOv2 has 5
_CELL = 56  # pixels: about the size of a map


@own_surroundings
def channel_maps(model: TappedModel, layer: str, image: Tensor, *, channel_axis: int | None = None) -> Tensor:
    """The maps ``[C,H,W]`` of a layer for one image ``[3,H,W]`` in [0,1], on the CPU.

    The layer may give ``[1,C,H,W]``, ``[1,H,W,C]`` (as Swin's blocks do), tokens ``[1,T,C]`` whose patches form a
    square after the class token, or vectors ``[1,C]``, which become maps of one pixel. ``channel_axis`` is the axis
    of the channels. By default it is the axis that leaves maps of the image's shape, and 1 if both do.

    >>> import featureviz as fv
    >>> channel_maps(fv.load("embedded"), "features.9", torch.rand(3, 96, 96)).shape
    torch.Size([80, 6, 6])
    """
    x = fit_image(model, image)
    with torch.no_grad():
        a = model(x, [layer])[layer].float().cpu()
    if not 2 <= a.ndim <= 4:
        raise InvalidInput(f"layer {layer!r} gives {list(a.shape)}; expected [1,C,H,W], [1,H,W,C], [1,T,C] or [1,C]")
    if channel_axis is None:
        channel_axis = _guess_channel_axis(a, x) if a.ndim == 4 else -1
    channel_axis = whole("channel_axis", channel_axis, -LARGEST)
    if not -a.ndim < channel_axis < a.ndim or channel_axis == 0:
        raise InvalidInput(
            f"channel_axis={channel_axis} was given for {layer!r} of shape {list(a.shape)}; expected 1 to {a.ndim - 1}"
        )
    a = a.movedim(channel_axis, 1)[0]
    if a.ndim == 2:
        return _arrange_tokens(a, layer)
    return a.view(-1, 1, 1) if a.ndim == 1 else a


def activation_grid(
    model: TappedModel, layer: str, image: Tensor, channels: int = 128, *, scale: str = "each", columns: int = 16,
    name: str = "viridis", channel_axis: int | None = None,
) -> Tensor:  # fmt: skip
    """The first ``channels`` channels of a layer for one image, as one picture ``[3,H,W]``.

    Channels run from left to right and from top to bottom. The number of its first channel labels each row. ``layer``,
    ``image`` and ``channel_axis`` are those of ``channel_maps``, and ``name`` a colour map of ``colormap``.

    With ``scale="each"`` the colours run from the least to the greatest value of each map. ``"shared"`` gives all maps
    one colour scale, drawn below, which leaves out the most extreme 0.5 %. Maps of one pixel always share it.

    >>> import featureviz as fv
    >>> activation_grid(fv.load("embedded"), "features.0", torch.rand(3, 96, 96)).shape[0]
    3
    """
    check_scale(scale)
    channels, columns = whole("channels", channels, 1), whole("columns", columns, 1)
    maps = channel_maps(model, layer, image, channel_axis=channel_axis)
    drawn, (count, height, width) = maps[:channels], maps.shape
    shared = scale == "shared" or height * width == 1
    low, high = limits(drawn, name=name, share=COLOR_SHARE if height * width > 1 else 1)
    coloured = colormap(drawn, low, high, name) if shared else torch.stack([colormap(m, name=name) for m in drawn])
    columns = min(columns, len(drawn))
    cells = resize_near(list(coloured), _CELL if height * width > 1 else _CELL // 2)
    rows = [(str(i), join_row(cells[i : i + columns])) for i in range(0, len(drawn), columns)]
    which = f"{count} channels" if len(drawn) == count else f"the first {len(drawn)} of {count} channels"
    title = f"{layer}: {which}, {height} x {width}" + ("" if shared else ", each from its least to its greatest value")
    bars = [ColorBar("activation", low, high, name)] if shared else []
    return draw_sheet(rows, 1, title=title, bars=bars, gap=3, left=True)


def _guess_channel_axis(a: Tensor, x: Tensor) -> int:
    """1 or -1: the axis that leaves maps whose ratio of height to width is nearest to that of the image ``x``."""

    def distance(height: int, width: int) -> float:
        return abs(math.log(height / width * x.shape[3] / x.shape[2]))

    return -1 if distance(a.shape[1], a.shape[2]) < distance(a.shape[2], a.shape[3]) else 1


def _arrange_tokens(tokens: Tensor, layer: str) -> Tensor:
    """``[C,T]`` as square maps ``[C,s,s]``; tokens before the patches, such as a class token, are left out."""
    side = math.isqrt(tokens.shape[1])
    extra = tokens.shape[1] - side * side
    if extra > _PREFIX:
        raise InvalidInput(
            f"the {tokens.shape[1]} tokens of layer {layer!r} do not form a square grid after at most {_PREFIX} other"
            " tokens; if they are channels, give channel_axis=1"
        )
    return tokens[:, extra:].reshape(-1, side, side)
