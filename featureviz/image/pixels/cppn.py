"""Images that are small networks: from where a pixel is to its colour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.checks import finite, whole
from featureviz.image.base import Parameterization, Size, check_shape, height_width, initial_rng

EDGE = 3.0**0.5  # of the coordinates, which have a standard deviation of 1
ATAN, ATAN_SQUARED = 0.67, 0.6  # scales of the two halves of the activation: Lucid's
BIAS = 0.1  # standard deviation of the first biases
MOST_HIDDEN = 512
PART = 2**16  # pixels of an image whose hidden values are in memory together: about 250 MB with Lucid's layers


@final
class CPPNImage(Parameterization):
    """N images, each drawn by a network of its own: ``sigmoid(f_i(x, y))`` (Lucid's ``cppn``; Stanley 2007).

    f has ``layers`` hidden layers of ``hidden`` units. Its activation is ``[atan(h) / 0.67, atan(h)^2 / 0.6]``, which
    doubles the channels. The leaves are its weights ``[N,out,in]`` and biases ``[N,out,1]``. The images are smooth, and
    the same weights draw them at any size: see ``draw``. A learning rate of about 0.005 suits them.

    An image of more than 65,536 pixels is drawn in parts. The gradient draws each part again, so that the hidden values
    of one part are in memory and not those of all pixels.

    Args:
        n: number of images.
        size: side, or (height, width), in pixels. The longer side reaches from -sqrt(3) to sqrt(3).
        channels: of the image; there is no colour matrix.
        hidden: units of a hidden layer.
        layers: hidden layers.
        sd: of the weights of the last layer. With 0, Lucid's value, the first image has one colour.
        seed: of the weights.
        image_ids: the weights of image i are a hash of (seed, image_ids[i]); by default of (seed, i).

    >>> image = CPPNImage(2, 32)
    >>> image().shape, image.draw((48, 160)).shape
    (torch.Size([2, 3, 32, 32]), torch.Size([2, 3, 48, 160]))
    """

    def __init__(
        self,
        n: int | None = None,
        size: Size | None = None,
        *,
        channels: int = 3,
        hidden: int = 24,
        layers: int = 8,
        sd: float = 0.0,
        seed: int = 0,
        image_ids: Iterable[int] | None = None,
    ) -> None:
        super().__init__()
        n, channels, height, width = check_shape(n, channels, size)
        hidden, layers = whole("hidden", hidden, 1, MOST_HIDDEN), whole("layers", layers, 1, 64)
        self.size, rng = (height, width), initial_rng(n, seed, image_ids)
        widths, last = [2, *[2 * hidden] * layers], finite("sd", sd, 0, 1e6)
        weights = [w**-0.5 * rng.normal((hidden, w)) for w in widths[:-1]] + [last * rng.normal((channels, widths[-1]))]
        self.weights = nn.ParameterList(weights)
        self.biases = nn.ParameterList(BIAS * rng.normal((len(w[0]), 1)) for w in weights)

    def forward(self) -> Tensor:
        return self.draw(self.size)

    def draw(self, size: Size) -> Tensor:
        """The same images at another size, ``[N,C,H,W]`` in (0,1): as large as one likes, or frames of a zoom."""
        height, width = height_width(size)
        places, layers = _coordinates(height, width, self.weights[0]), list(zip(self.weights, self.biases, strict=True))
        parts = places.chunk(-(-height * width // PART), 1)
        draw = _draw_part if len(parts) == 1 else _draw_part_again
        return torch.cat([draw(part, layers) for part in parts], 2).unflatten(2, (height, width))


def _draw_part(places: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The colours ``[N,C,P]`` at some places ``[2,P]``."""
    values, (last, bias) = places, layers[-1]
    for w, b in layers[:-1]:
        angle = torch.atan(w @ values + b)  # [N,hidden,P]
        values = torch.cat([angle / ATAN, angle.square() / ATAN_SQUARED], 1)
    return torch.sigmoid(last @ values + bias)


class _Again(torch.autograd.Function):
    """``_draw_part`` without its hidden values: the gradient draws the part again.

    It is not torch's checkpoint, which puts small objects between large ones, so that the freed memory is not used.
    """

    @staticmethod
    def forward(ctx: Any, places: Tensor, *leaves: Tensor) -> Tensor:
        ctx.save_for_backward(places, *leaves)
        return _draw_part(places, list(zip(leaves[::2], leaves[1::2], strict=True)))

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        places, *leaves = ctx.saved_tensors
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        with torch.enable_grad():
            colours = _draw_part(places, list(zip(leaves[::2], leaves[1::2], strict=True)))
        return None, *torch.autograd.grad(colours, leaves, *slopes)


def _draw_part_again(places: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    return _Again.apply(places, *(leaf for layer in layers for leaf in layer))  # pyright: ignore[reportReturnType]


def _coordinates(height: int, width: int, like: Tensor) -> Tensor:
    """The x and y of each pixel, ``[2,HW]``."""
    longest = max(height, width)

    def line(count: int) -> Tensor:
        end = EDGE * count / longest if count > 1 else 0.0
        return torch.linspace(-end, end, count, device=like.device, dtype=like.dtype)

    y, x = torch.meshgrid(line(height), line(width), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()])
