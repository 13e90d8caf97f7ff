"""A gated block at one image: its maps before and after the gates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from featureviz.checks import show, whole, wholes
from featureviz.errors import InvalidInput
from featureviz.lab.draw.colors import DIVERGING, check_scale, colormap, limits, overlay
from featureviz.lab.draw.sheet import COLOR_SHARE, ColorBar, draw_sheet, join_row, resize_near
from featureviz.lab.inputs import check_units, fit_image
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import own_surroundings
from featureviz.network.taps import GATE_VALUE, GATED, PRE_GATE

_SIDE = 84  # pixels: about the size of a map
_DARK = (0.2, 0.25, 0.35)


@final
@dataclass(frozen=True)
class GatedMaps:
    """A gated block at one image: ``y = gate * x``."""

    site: str
    image: Tensor  # the network's input, [3,h,w]
    x: Tensor  # the maps before the gates, [C,H,W]
    y: Tensor  # the maps after the gates, [C,H,W]
    gate: Tensor  # [C], or [H,W] of a spatial gate

    @property
    def difference(self) -> Tensor:
        """``y - x``, ``[C,H,W]``: what the gates added or removed."""
        return self.y - self.x

    @property
    def order(self) -> list[int]:
        """All channels, ordered by how much they changed, ``mean_hw |y - x|``, the largest first."""
        return self.difference.abs().mean((1, 2)).argsort(descending=True, stable=True).tolist()

    def picture(self, channels: int | Sequence[int] = 14, columns: int = 3, *, scale: str = "each") -> Tensor:
        """Input, output and difference of some channels: ``[3,H,W]``.

        ``channels`` is a list of channels, or how many of those that changed most. Input and output share one colour
        scale, from their least to their greatest value; the difference has a signed scale of the same reach.
        ``scale="each"`` gives each channel its own scales. ``"shared"`` gives all channels the same two, drawn below,
        which leave out the most extreme 0.5 %. The bar under a channel shows its gate; a full bar is 1.
        """
        check_scale(scale)
        columns = whole("columns", columns, 1)
        units = self._choose(channels)
        pairs = torch.stack([self.x[units], self.y[units]], 1)  # [U,2,H,W]
        shared = limits(pairs, share=COLOR_SHARE)
        signed_shared = limits(pairs, name=DIVERGING, share=COLOR_SHARE)
        panels = [self._summary()]
        for unit, pair in zip(units, pairs, strict=True):
            each = scale == "each"
            plain = limits(pair) if each else shared
            signed = limits(pair, name=DIVERGING) if each else signed_shared
            maps = [*colormap(pair, *plain), colormap(pair[1] - pair[0], *signed, DIVERGING)]
            gate = f": gate {float(self.gate[unit]):.2f}" if self.gate.ndim == 1 else ""
            panels.append((f"channel {unit}{gate}", self._add_gate_bar(join_row(resize_near(maps, _SIDE)), unit)))
        bars = [ColorBar("input, output", *shared), ColorBar("output - input", *signed_shared, DIVERGING)]
        title = f"{self.site}: input | output = gate x input | output - input"
        return draw_sheet(panels, columns, title=title, bars=bars if scale == "shared" else [])

    def _choose(self, channels: int | Sequence[int]) -> list[int]:
        several = isinstance(channels, Iterable) and getattr(channels, "ndim", 1) == 1
        units = wholes("channels", channels) if several else self.order[: whole("channels", channels, 1)]
        if not units:
            raise InvalidInput(f"channels={show(channels)} was given; expected at least one channel")
        check_units(self.site, units, len(self.x))
        return units

    def _add_gate_bar(self, picture: Tensor, unit: int) -> Tensor:
        """``picture`` with a bar below: dark up to the gate's value, grey for the rest."""
        if self.gate.ndim > 1:
            return picture
        bar = torch.full((3, 8, picture.shape[2]), 0.86, dtype=torch.float32, device="cpu")
        dark = torch.tensor(_DARK, dtype=torch.float32, device="cpu").view(3, 1, 1)
        bar[:, :, : round(picture.shape[2] * float(self.gate[unit].clamp(0, 1)))] *= dark
        bar[:, :3] = 1
        return torch.cat([picture, bar], 1)

    def _summary(self) -> tuple[str, Tensor]:
        """The image and all gates: as a sorted profile from 0 at the bottom to 1; a spatial gate as a map."""
        height, width = resize_near([self.x[:1].expand(3, -1, -1)], _SIDE)[0].shape[1:]
        image = interpolate(self.image[None], (height, width), mode="bilinear", antialias=True)[0]
        if self.gate.ndim > 1:
            gate = resize_near([colormap(self.gate)], _SIDE)
            return "image | gate | both", join_row([image, *gate, overlay(image, self.gate)])
        steps = torch.linspace(0, len(self.gate) - 1, 2 * width + 3, dtype=torch.float32, device="cpu").round().long()
        levels = self.gate.sort(descending=True).values[steps].clamp(0, 1)
        dark = torch.linspace(1, 0, height, dtype=torch.float32, device="cpu")[:, None] <= levels
        profile = torch.where(dark, 0.35, torch.full_like(levels, 0.93)).expand(3, -1, -1)
        return f"image | all {len(self.gate)} gates, sorted, 0 to 1", join_row([image, profile])


@own_surroundings
def gated_maps(model: TappedModel, site: str, image: Tensor) -> GatedMaps:
    """What a gated block does to one image ``[3,H,W]`` in [0,1]: its maps before and after, and its gates.

    ``site`` is any block that ``fv.gates`` lists, with a gate for each channel or for each position.

    >>> import featureviz as fv
    >>> maps = gated_maps(fv.load("embedded"), "features.9.block.2", torch.rand(3, 96, 96))
    >>> maps.x.shape, maps.gate.shape
    (torch.Size([320, 6, 6]), torch.Size([320]))
    """
    gate_site = tapped(model).gates.resolve(site)
    site, network_input = gate_site.name, fit_image(model, image)
    layers = [PRE_GATE + site, GATED + site, GATE_VALUE + site]
    with torch.no_grad():
        activations = model(network_input, layers)
    x, y, gate = (activations[layer][0].float().cpu() for layer in layers)
    return GatedMaps(site, network_input[0].cpu(), x, y, gate[0] if gate_site.spatial else gate)
