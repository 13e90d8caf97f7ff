"""What a photograph activates: the maps of a layer's channels, and of a gated block before and after its gates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from featureviz.errors import InvalidInput
from featureviz.image.base import height_width
from featureviz.lab.draw.colormap import DIVERGING, Bar, beside, enlarged, heat, labelled, limits, overlay
from featureviz.network.model import TappedModel, tapped

_PREFIX = 8  # class and register tokens before a grid of patches: DeiT has 2, DINOv2 5
_CELL, _WIDE = 56, 84  # pixels: about the size of a map, in a grid and beside others
_INK = (0.2, 0.25, 0.35)
_SHARE = 0.995  # of the values lies within a colour scale that several maps share


def view(model: TappedModel, image: Tensor) -> Tensor:
    """``image`` ``[3,H,W]`` in [0,1] as the network wants it, ``[1,3,h,w]``: cropped at the centre, then resized.

    A network without a size gets the image as it is.

    Raises:
        InvalidInput: another shape, or values outside [0,1].

    >>> import featureviz as fv
    >>> view(fv.load("embedded"), torch.rand(3, 300, 200)).shape
    torch.Size([1, 3, 96, 96])
    """
    channels = tapped(model).channels
    if image.ndim != 3 or image.shape[0] != channels or not image.numel():
        raise InvalidInput(f"an image of shape {list(image.shape)} was given; expected one, [{channels},H,W]")
    if not torch.isfinite(image).all() or image.min() < 0 or image.max() > 1:
        raise InvalidInput(
            f"an image in [{image.min():.3g}, {image.max():.3g}] was given; expected finite values in [0, 1]: divide"
            " bytes by 255"
        )
    image = image.detach()[None].to(model.device, torch.float32)
    if model.size is None:
        return image
    size = height_width(model.size)
    factor = min(image.shape[2] / size[0], image.shape[3] / size[1])
    height, width = (max(1, round(s * factor)) for s in size)
    top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
    crop = image[:, :, top : top + height, left : left + width]
    if crop.shape[2:] == size:
        return crop
    return interpolate(crop, size, mode="bilinear", antialias=True).clamp(0, 1)


def channel_maps(model: TappedModel, layer: str, image: Tensor, *, channel_axis: int | None = None) -> Tensor:
    """The maps ``[C,H,W]`` of a layer for one image ``[3,H,W]`` in [0,1], on the CPU.

    Reads ``[1,C,H,W]``; ``[1,H,W,C]``, as Swin's blocks give; tokens ``[1,T,C]``, whose patches form a square behind
    the class token; and vectors ``[1,C]``, as maps of one pixel. ``channel_axis`` says where the channels are; left
    out it is the one that leaves maps of the image's shape, and 1 if both do.

    >>> import featureviz as fv
    >>> channel_maps(fv.load("embedded"), "features.9", torch.rand(3, 96, 96)).shape
    torch.Size([80, 6, 6])
    """
    x = view(model, image)
    with torch.no_grad():
        a = model(x, [layer])[layer].float().cpu()
    if not 2 <= a.ndim <= 4:
        raise InvalidInput(f"layer {layer!r} gives {list(a.shape)}; expected [1,C,H,W], [1,H,W,C], [1,T,C] or [1,C]")
    if channel_axis is None:
        channel_axis = _channel_axis(a, x) if a.ndim == 4 else -1
    if not -a.ndim < channel_axis < a.ndim or channel_axis == 0:
        raise InvalidInput(
            f"channel_axis={channel_axis} was given for {layer!r} of shape {list(a.shape)}; expected 1 to {a.ndim - 1}"
        )
    a = a.movedim(channel_axis, 1)[0]
    if a.ndim == 2:
        return _square(a, layer)
    return a.view(-1, 1, 1) if a.ndim == 1 else a


def activation_grid(
    model: TappedModel,
    layer: str,
    image: Tensor,
    channels: int = 128,
    *,
    scale: str = "each",
    columns: int = 16,
    name: str = "viridis",
    channel_axis: int | None = None,
) -> Tensor:
    """The first ``channels`` channels of a layer for one image, as one picture ``[3,H,W]``.

    Left to right and top to bottom; each row is labelled with the number of its first channel.

    Args:
        model: any network.
        layer: any layer that ``channel_maps`` reads.
        image: ``[3,H,W]`` in [0,1], of any size.
        channels: how many; a layer with fewer shows all it has.
        scale: ``"each"``: the colours run from each map's least to its greatest value; ``"shared"``: all maps have
            one scale, drawn below, which leaves out the most extreme 0.5 %. Maps of one pixel always share it.
        columns: maps a row.
        name: a colour map of ``heat``.
        channel_axis: as in ``channel_maps``.

    >>> import featureviz as fv
    >>> activation_grid(fv.load("embedded"), "features.0", torch.rand(3, 96, 96)).shape[0]
    3
    """
    _check_scale(scale)
    if channels < 1 or columns < 1:
        raise InvalidInput(f"channels={channels} and columns={columns} were given; expected at least 1")
    maps = channel_maps(model, layer, image, channel_axis=channel_axis)
    shown, (count, height, width) = maps[:channels], maps.shape
    one = scale == "shared" or height * width == 1
    low, high = limits(shown, name=name, share=_SHARE if height * width > 1 else 1)
    coloured = heat(shown, low, high, name) if one else torch.stack([heat(m, name=name) for m in shown])
    columns = min(columns, len(shown))
    cells = _sized(list(coloured), _CELL if height * width > 1 else _CELL // 2)
    rows = [(str(i), beside(cells[i : i + columns])) for i in range(0, len(shown), columns)]
    which = f"{count} channels" if len(shown) == count else f"the first {len(shown)} of {count} channels"
    title = f"{layer}: {which}, {height} x {width}" + ("" if one else ", each from its least to its greatest value")
    return labelled(rows, 1, title=title, bars=[Bar("activation", low, high, name)] if one else [], gap=3, left=True)


@final
@dataclass(frozen=True)
class GatedMaps:
    """A gated block at one image: its maps before and after the gates.

    Attributes:
        site: the block's name.
        image: what the network saw, ``[3,h,w]``.
        x: the maps that enter, ``[C,H,W]``.
        y: the maps that leave, ``y = gate * x``.
        gate: one number a channel, ``[C]``; of a spatial gate one a position, ``[H,W]``.
    """

    site: str
    image: Tensor
    x: Tensor
    y: Tensor
    gate: Tensor

    @property
    def difference(self) -> Tensor:
        """``y - x``, ``[C,H,W]``: what the gates added or took away."""
        return self.y - self.x

    @property
    def order(self) -> list[int]:
        """All channels, those first that changed most: by ``mean_hw |y - x|``."""
        return self.difference.abs().mean((1, 2)).argsort(descending=True, stable=True).tolist()

    def picture(self, channels: int | Sequence[int] = 14, columns: int = 3, *, scale: str = "each") -> Tensor:
        """The ``channels`` that changed most, or those listed, each as input, output and difference: ``[3,H,W]``.

        Input and output have one colour scale, from the least to the greatest value of the two; the difference has a
        signed one that reaches as far. ``scale="each"``: scales of its own for every channel; ``"shared"``: one pair
        for all, drawn below, which leaves out the most extreme 0.5 %. The bar under a channel is as long as its gate,
        full at 1.

        Raises:
            InvalidInput: another scale, or a channel that is not there.
        """
        _check_scale(scale)
        units = self._units(channels)
        x, y = self.x[units], self.y[units]
        span = limits(torch.stack([x, y]), share=_SHARE)
        reach = limits(torch.stack([x, y]), name=DIVERGING, share=_SHARE)
        panels = [self._summary()]
        for unit, before, after in zip(units, x, y, strict=True):
            both = torch.stack([before, after])
            low, high = span if scale == "shared" else limits(both)
            signed = reach if scale == "shared" else limits(both, name=DIVERGING)
            maps = [*heat(both, low, high), heat(after - before, *signed, DIVERGING)]
            panels.append((f"channel {unit}" + self._said(unit), self._with_gate(beside(_sized(maps, _WIDE)), unit)))
        bars = [Bar("input, output", *span), Bar("output - input", *reach, DIVERGING)] if scale == "shared" else []
        title = f"{self.site}: input | output = gate x input | output - input"
        return labelled(panels, columns, title=title, bars=bars)

    def _units(self, channels: int | Sequence[int]) -> list[int]:
        count = len(self.x)
        units = self.order[: max(0, channels)] if isinstance(channels, int) else list(channels)
        if not units or min(units) < 0 or max(units) >= count:
            raise InvalidInput(f"channels={channels} was given for {self.site!r}; it has {count}: 0 to {count - 1}")
        return units

    def _said(self, unit: int) -> str:
        return f": gate {float(self.gate[unit]):.2f}" if self.gate.ndim == 1 else ""

    def _with_gate(self, picture: Tensor, unit: int) -> Tensor:
        """``picture`` with a bar below: dark for the gate's share, grey for the rest."""
        if self.gate.ndim > 1:
            return picture
        bar = torch.full((3, 8, picture.shape[2]), 0.86)
        bar[:, :3] = 1
        bar[:, :, : round(picture.shape[2] * float(self.gate[unit].clamp(0, 1)))] *= torch.tensor(_INK).view(3, 1, 1)
        bar[:, :3] = 1
        return torch.cat([picture, bar], 1)

    def _summary(self) -> tuple[str, Tensor]:
        """The image beside all gates: sorted, from 0 at the bottom to 1, or, of a spatial gate, as a map."""
        height, width = _sized([self.x[:1].expand(3, -1, -1)], _WIDE)[0].shape[1:]
        image = interpolate(self.image[None], (height, width), mode="bilinear", antialias=True)[0]
        if self.gate.ndim > 1:
            return "image | gate | both", beside([image, *_sized([heat(self.gate)], _WIDE), overlay(image, self.gate)])
        steps = torch.linspace(0, len(self.gate) - 1, 2 * width + 3).round().long()
        levels = self.gate.sort(descending=True).values[steps].clamp(0, 1)
        dark = torch.linspace(1, 0, height)[:, None] <= levels
        profile = torch.where(dark, 0.35, 0.93).expand(3, -1, -1)
        return f"image | all {len(self.gate)} gates, sorted, 0 to 1", beside([image, profile])


def gated_maps(model: TappedModel, site: str, image: Tensor) -> GatedMaps:
    """What a gated block does to one image ``[3,H,W]`` in [0,1]: its maps before and after, and its gates.

    Reads any site that ``fv.gates`` lists: ``y = gate * x``, a gate for each channel or for each position.

    >>> import featureviz as fv
    >>> maps = gated_maps(fv.load("embedded"), "features.9.block.2", torch.rand(3, 96, 96))
    >>> maps.x.shape, maps.gate.shape
    (torch.Size([320, 6, 6]), torch.Size([320]))
    """
    spatial = tapped(model).gates[site].spatial
    seen = view(model, image)
    with torch.no_grad():
        layers = [f"{what}:{site}" for what in ("pregate", "gated", "gate value")]
        taken = model(seen, layers)
    x, y, gate = (taken[layer][0].float().cpu() for layer in layers)
    return GatedMaps(site, seen[0].cpu(), x, y, gate[0] if spatial else gate)


def _check_scale(scale: str) -> None:
    if scale not in ("each", "shared"):
        raise InvalidInput(f"scale={scale!r} was given; expected 'each' or 'shared'")


def _channel_axis(a: Tensor, x: Tensor) -> int:
    """1 or -1: the axis that leaves maps whose height to width is nearest to that of the image ``x``."""

    def off(height: int, width: int) -> float:
        return abs(math.log(height / width * x.shape[3] / x.shape[2]))

    return -1 if off(a.shape[1], a.shape[2]) < off(a.shape[2], a.shape[3]) else 1


def _square(tokens: Tensor, layer: str) -> Tensor:
    """``[C,T]`` as maps ``[C,s,s]``; what stands before the patches, as a class token does, is left out."""
    side = math.isqrt(tokens.shape[1])
    extra = tokens.shape[1] - side * side
    if extra > _PREFIX:
        raise InvalidInput(
            f"the {tokens.shape[1]} tokens of layer {layer!r} are no square grid behind at most {_PREFIX} others; if"
            f" they are channels, give channel_axis=1"
        )
    return tokens[:, extra:].reshape(-1, side, side)


def _sized(pictures: Sequence[Tensor], side: int) -> list[Tensor]:
    """Pictures of one size, enlarged or reduced by the whole number that brings them nearest to ``side``."""
    longest = max(pictures[0].shape[-2:])
    if longest < 1.5 * side:
        return [enlarged(picture, round(side / longest) * longest) for picture in pictures]
    size = [max(1, s // round(longest / side)) for s in pictures[0].shape[-2:]]
    return list(interpolate(torch.stack(list(pictures)), size, mode="area"))
