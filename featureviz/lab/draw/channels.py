"""The maps of a layer's channels for one image, as numbers and as a picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from featureviz.checks import whole
from featureviz.errors import InvalidInput
from featureviz.lab.draw.colors import check_scale, colormap, limits
from featureviz.lab.draw.sheet import COLOR_SHARE, ColorBar, draw_sheet, join_row, resize_near
from featureviz.lab.inputs import fit_image
from featureviz.network.model import TappedModel
from featureviz.network.surroundings import own_surroundings

_PREFIX = 8  # the most class and register tokens before a grid of patches: DeiT has 2, DINOv2 has 5
_CELL = 56  # pixels: about the size of a map


@own_surroundings
def channel_maps(model: TappedModel, layer: str, image: Tensor) -> Tensor:
    """The maps ``[C,H,W]`` of a layer for one image ``[3,H,W]`` in [0,1], on the CPU.

    The layer may have its channels anywhere; ``fv.layers`` says where. Tokens whose patches form a square after the
    class token become that square, and vectors become maps of one pixel.

    >>> import featureviz as fv
    >>> channel_maps(fv.load("embedded"), "features.9", torch.rand(3, 96, 96)).shape
    torch.Size([80, 6, 6])
    """
    with torch.no_grad():
        a = model(fit_image(model, image), [layer]).channels_first(layer)[0].float().cpu()
    if a.ndim > 3:
        raise InvalidInput(f"layer {layer!r} gives maps of shape {list(a.shape[1:])}; expected rows and columns")
    if a.ndim == 2:
        return _arrange_tokens(a, layer)
    return a.view(-1, 1, 1) if a.ndim == 1 else a


def activation_grid(
    model: TappedModel, layer: str, image: Tensor, channels: int = 128, *, scale: str = "each", columns: int = 16,
    name: str = "viridis",
) -> Tensor:  # fmt: skip
    """The first ``channels`` channels of a layer for one image, as one picture ``[3,H,W]``.

    Channels run from left to right and from top to bottom. The number of its first channel labels each row. ``layer``
    and ``image`` are those of ``channel_maps``, and ``name`` a colour map of ``colormap``.

    With ``scale="each"`` the colours run from the least to the greatest value of each map. ``"shared"`` gives all maps
    one colour scale, drawn below, which leaves out the most extreme 0.5 %. Maps of one pixel always share it.

    >>> import featureviz as fv
    >>> activation_grid(fv.load("embedded"), "features.0", torch.rand(3, 96, 96)).shape[0]
    3
    """
    check_scale(scale)
    channels, columns = whole("channels", channels, 1), whole("columns", columns, 1)
    maps = channel_maps(model, layer, image)
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


def _arrange_tokens(tokens: Tensor, layer: str) -> Tensor:
    """``[C,T]`` as square maps ``[C,s,s]``; tokens before the patches, such as a class token, are left out."""
    side = math.isqrt(tokens.shape[1])
    extra = tokens.shape[1] - side * side
    if extra > _PREFIX:
        raise InvalidInput(
            f"the {tokens.shape[1]} tokens of layer {layer!r} do not form a square grid after at most {_PREFIX} other"
            " tokens"
        )
    return tokens[:, extra:].reshape(-1, side, side)
