"""Axes: which axis of a layer's output is the batch, which the channels; all others are positions.

The number of dimensions does not tell: ``[M,C,H,W]`` and ``[M,H,W,C]``, ``[M,C,L]`` and ``[M,T,C]`` have the same. So
each layer's axes are learnt from the network (``survey``), and everything that needs a channel asks for them here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from featureviz.errors import InvalidInput, ModelError


@final
@dataclass(frozen=True)
class Tokens:
    """What the positions of a transformer's layer are: ``prefix`` tokens first, then one for each patch, row by row.

    ``classes`` of the prefix tokens are for the class, the first ones; the others are registers. ``grid`` is the
    height and the width in patches.
    """

    prefix: int
    classes: int
    grid: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.prefix} + {self.grid[0]}x{self.grid[1]} tokens"


@final
@dataclass(frozen=True)
class Axes:
    """The axes of a tensor with ``ndim`` dimensions.

    ``batch`` is the axis of the views, ``channel`` that of the channels; None where there is none, or where it is not
    known. ``windows`` is how many rows each view has in the batch axis, one after the other, as window attention gives
    them; 0 if their number varies. ``unclear`` says why an axis is not known. ``tokens`` says what the positions of a
    transformer's layer are, where the network tells. ``heads`` is how many equal parts the channels have.

    >>> Axes.parse("n h w c").to_channels_first(torch.zeros(2, 7, 7, 96)).shape
    torch.Size([2, 96, 7, 7])
    """

    ndim: int
    batch: int | None = 0
    channel: int | None = None
    windows: int = 1
    unclear: str = ""
    tokens: Tokens | None = None
    heads: int = 0

    @classmethod
    def parse(cls, text: str) -> Axes:
        """Axes from letters: n is the batch, c the channels, any other a position; ``"(n w) t c"`` has windows.

        >>> str(Axes.parse("NHWC")), str(Axes.parse("(n w) t c"))
        ('n p p c', '(n w) p c')
        """
        plain = text.lower() if isinstance(text, str) and re.fullmatch(r"[\w\s()]*", text) else ""
        names = re.findall(r"\([^()]*\)|\w", plain)
        folded = [bool(re.fullmatch(r"\(\s*n\s*\w\s*\)", name)) for name in names]
        letters = ["n" if fold else name for name, fold in zip(names, folded, strict=True)]
        if letters.count("n") != 1 or letters.count("c") > 1 or any(len(name) > 1 for name in letters):
            raise InvalidInput(
                f"axes {text!r} were given; expected a letter for each axis, n for the batch and c for the channels, as"
                " in 'n c h w', 'n h w c', 'n t c' or '(n w) t c'"
            )
        return cls(
            len(letters), letters.index("n"), letters.index("c") if "c" in letters else None, 0 if any(folded) else 1
        )

    @classmethod
    def channels_first(cls, ndim: int) -> Axes:
        """``[M,C,...]``."""
        return cls(ndim, 0, 1 if ndim > 1 else None)

    def __str__(self) -> str:
        if self.batch is None or (self.channel is None and self.unclear):
            return "axes not known"
        letters = ["p"] * self.ndim
        letters[self.batch] = "n" if self.windows == 1 else "(n w)"
        if self.channel is not None:
            letters[self.channel] = "c"
        return " ".join(letters)

    def to_rows(self, tensor: Tensor, views: int, layer: str = "") -> Tensor:
        """The views first: ``[M, ...]`` for ``views`` = M; windows become a position, ``[M,W,...]``."""
        self._check(tensor, layer)
        if self.batch is None:
            raise ModelError(f"layer {layer!r}: {self.unclear}")
        rows = tensor.movedim(self.batch, 0)
        if self.windows == 1:
            return rows
        if not views or len(rows) % views:
            raise ModelError(f"layer {layer!r} gives {len(rows)} rows for {views} views; expected as many for each")
        return rows.unflatten(0, (views, -1))

    def to_channels_first(self, tensor: Tensor, views: int = 0, layer: str = "") -> Tensor:
        """``[M,C,...]``: the views first, then the channels, then the positions."""
        rows = self.to_rows(tensor, views or tensor.shape[self.batch or 0], layer)
        if self.channel is None or self.batch is None:
            raise ModelError(f"layer {layer!r}: {self.unclear or 'it has no axis of channels'}")
        channel = self.channel + (self.channel < self.batch) + (self.windows != 1)
        return rows.movedim(channel, 1)

    def select(self, tensor: Tensor, start: int, count: int, views: int) -> Tensor:
        """The tensor of ``count`` views from view ``start``, of ``views``; its axes stay as they are."""
        if self.batch is None:
            return tensor
        rows = tensor.shape[self.batch] // views if self.windows != 1 else 1
        return tensor.narrow(self.batch, start * rows, count * rows)

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """The tensors of single views as one."""
        return torch.cat(list(tensors), self.batch or 0)

    def _check(self, tensor: Tensor, layer: str) -> None:
        if tensor.ndim != self.ndim:
            raise ModelError(
                f"layer {layer!r} gives {list(tensor.shape)}; its axes are {self}, for {self.ndim} dimensions"
            )


IMAGE_AXES = Axes.channels_first(4)
