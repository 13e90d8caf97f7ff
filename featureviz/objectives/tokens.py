"""One unit of a transformer's layer at one of its tokens, or at some of them."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from featureviz.checks import choice, show, whole
from featureviz.errors import InvalidInput
from featureviz.naming import MOST_INDEX, Units
from featureviz.network.activations import Activations
from featureviz.network.taps import HEAD
from featureviz.objectives.leaves import UnitObjective

KINDS = {"cls": 0, "patches": 0, "max": 0, "patch": 2, "reg": 1, "token": 1}  # how many numbers each takes


@final
class Token(UnitObjective):
    """A unit at some positions of a layer: ``a[:, t, c]`` of ``[M,T,C]``.

    ==========  ==================================================================================
    ``at``      which positions
    ==========  ==================================================================================
    cls         the class token
    reg         register ``place[0]``, from 0: a prefix token after that of the class
    patch       the patch in row ``place[0]`` and column ``place[1]``, from 0; of a map, the position
    patches     the mean over all patches, without prefix tokens
    max         the largest of all positions
    token       token number ``place[0]``, from 0, whatever it is
    ==========  ==================================================================================

    How many prefix tokens there are, and the grid of the patches, is learnt from the network (``fv.layers`` shows it);
    where it does not tell, ``token`` works still.

    Args:
        layer: a layer's name.
        unit: the channel, or one for each image.
        at: which positions.
        place: the numbers that ``at`` takes.

    >>> Token("blocks.5", 17), Token("blocks.5", 17, "patch", 3, 4), Token("blocks.5", [1, 2], "reg", 0)
    (blocks.5:17@cls, blocks.5:17@patch:3,4, blocks.5:[1, 2]@reg:0)
    """

    def __init__(self, layer: str, unit: Units, at: str = "cls", *place: int) -> None:
        owner = f"Token({show(layer)})"
        self_at = choice(f"{owner}: at", at, KINDS)
        if len(place) != KINDS[self_at]:
            raise InvalidInput(f"{owner}: at={at!r} got {show(place)}; expected {KINDS[self_at]} numbers")
        numbers = tuple(whole(f"{owner}: place", i, most=MOST_INDEX) for i in place)
        text = self_at + (":" + ",".join(map(str, numbers)) if numbers else "")
        super().__init__([layer], layer, unit, form=f"{{name}}:{{units}}@{text}", at=self_at, place=numbers)
        self.at, self.place = self_at, numbers

    def with_units(self, unit: Units) -> Token:
        return Token(self.name, unit, self.at, *self.place)

    def forward(self, activations: Activations) -> Tensor:
        layer = self.layers[0]
        a = activations.channels(layer, self.units, self.index)  # [M, positions]
        if self.at == "max":
            return a.flatten(1).amax(1) if a.ndim > 1 else a
        if a.ndim == 3 and self.at in ("patch", "patches"):  # a map has a position for each patch
            return a.flatten(1).mean(1) if self.at == "patches" else self._patch(a, list(a.shape[1:]))
        if a.ndim != 2:
            shape = list(activations[layer].shape)
            raise InvalidInput(f"{self.spec}: {layer!r} gives {shape}, which has no tokens; a token is one of [M,T,C]")
        if self.at == "token":
            return a[:, self._within(self.place[0], a.shape[1], "tokens")]
        tokens = activations.axes(layer).tokens
        if tokens is None:
            raise InvalidInput(
                f"{self.spec}: {layer!r} has {a.shape[1]} tokens, and the network does not tell which of them are"
                " patches; give the token's number, as in @token:0"
            )
        if self.at == "cls":
            if not tokens.classes:
                raise InvalidInput(f"{self.spec}: {layer!r} has no class token, but {tokens}; use @patches or @max")
            return a[:, 0]
        if self.at == "reg":
            registers = tokens.prefix - tokens.classes
            return a[:, tokens.classes + self._within(self.place[0], registers, "registers")]
        patches = a[:, tokens.prefix :]
        return patches.mean(1) if self.at == "patches" else self._patch(patches.unflatten(1, tokens.grid), tokens.grid)

    def _patch(self, grid: Tensor, size: tuple[int, int] | list[int]) -> Tensor:
        y, x = self.place
        if y >= size[0] or x >= size[1]:
            raise InvalidInput(
                f"{self.spec}: patch {y},{x} is outside of {self.layers[0]!r}, whose grid is {size[0]}x{size[1]}"
            )
        return grid[:, y, x]

    def _within(self, i: int, count: int, what: str) -> int:
        if i >= count:
            has = f"{count} {what}: 0 to {count - 1}" if count else f"no {what}"
            raise InvalidInput(f"{self.spec}: {self.layers[0]!r} has {has}")
        return i


@final
class Head(UnitObjective):
    """A unit of one head of an attention, before the projection mixes the heads: its mean over tokens.

    ``mean_t o[:, t, h, c]`` for the outputs o ``[M,T,H,C]`` of the H heads.

    Args:
        layer: the attention's name.
        head: the head, from 0.
        unit: its unit, or one for each image.

    >>> Head("blocks.5.attn", 2, 17)
    head:blocks.5.attn:2:17
    """

    def __init__(self, layer: str, head: int, unit: Units) -> None:
        self_head = whole(f"Head({show(layer)}): head", head, most=MOST_INDEX)
        form = f"head:{{name}}:{self_head}:{{units}}"
        super().__init__([HEAD + layer if isinstance(layer, str) else show(layer)], layer, unit, form=form)
        self.head = self_head

    def with_units(self, unit: Units) -> Head:
        return Head(self.name, self.head, unit)

    def forward(self, activations: Activations) -> Tensor:
        layer = self.layers[0]
        heads, a = activations.axes(layer).heads, activations.channels_first(layer)
        width = a.shape[1] // max(1, heads)
        if self.head >= heads or max(self.units) >= width:
            raise InvalidInput(f"{self.spec}: {self.name!r} has {heads} heads of {width} units, each counted from 0")
        own = a.unflatten(1, (heads, width))[:, self.head]  # [M,C,T]
        index = self.index[activations.rows.image] if self.n > 1 else self.index.expand(len(own))
        if self.n > 1 and max(activations.rows.images) >= self.n:
            raise InvalidInput(f"{self.spec} has no unit for image {max(activations.rows.images)}")
        return own[torch.arange(len(own), device=own.device), index].flatten(1).mean(1)
