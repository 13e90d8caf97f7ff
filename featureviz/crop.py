"""Receptive-field cropping: the same picture of a neuron from the part of the views that it sees.

The gradient of ``Neuron(layer, unit, y, x)`` reaches only its receptive field. Where that is smaller than the view, the
network runs on the crop that holds it, cut so that every layer's grid keeps its phase.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import final

import torch
from torch import Tensor

from featureviz.activations import Activations
from featureviz.errors import ModelError
from featureviz.model import TappedModel, tapped
from featureviz.objective import Linear, Objective, PerImage, Product
from featureviz.objectives import Neuron
from featureviz.rng import Rng
from featureviz.transform import Pipeline, Warp, functional

WORTH = 0.75  # a crop with more of the pixels than this saves too little
ROUNDS, IMAGES = 3, 2  # random images that look for a field: what is dead on one, or loses a max, is not on another
TOLERANCE = 1e-4  # of the largest value
Position = tuple[str, int, int]  # layer, y, x


@final
@dataclass(frozen=True)
class Box:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of a picture in pixels, half open.

    >>> Box(0, 4, 2, 5).size, Box(0, 4, 2, 5) | Box(1, 6, 3, 5)
    ((4, 3), Box(top=0, bottom=6, left=2, right=5))
    """

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def pixels(self) -> int:
        return math.prod(self.size)

    def __or__(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            min(self.top, other.top), max(self.bottom, other.bottom),
            min(self.left, other.left), max(self.right, other.right),
        )  # fmt: skip

    def cut(self, images: Tensor) -> Tensor:
        """``[..., H, W]`` to the part inside."""
        return images[..., self.top : self.bottom, self.left : self.right]

    def window(self, size: tuple[int, int]) -> Tensor:
        """``[3,3]``: the box's own (x, y, 1) in [-1,1] to those of the view of ``size`` that it lies in.

        >>> Box(0, 4, 2, 4).window((4, 4)) @ torch.tensor([-1.0, 0.0, 1.0])  # its left edge
        tensor([0., 0., 1.])
        """
        (height, width), (h, w) = size, self.size
        x, y = (self.left + self.right) / width - 1, (self.top + self.bottom) / height - 1
        return torch.tensor([[w / width, 0.0, x], [0.0, h / height, y], [0.0, 0.0, 1.0]])


@final
@dataclass(frozen=True, eq=False)
class Crop:
    """``objective`` reads in views of ``box`` what was asked for in views of ``size``; see :func:`cropped`.

    Its neurons have positions in the crop, and are still called by their positions in the whole.
    """

    objective: Objective
    box: Box
    size: tuple[int, int]
    window: Tensor  # the box's, on the model's device

    def views(self, pipeline: Pipeline, images: Tensor, rng: Rng) -> Tensor:
        """``[N,C,H,W]`` to ``[M,C,h,w]``: ``pipeline(images, rng, size)`` inside the box, made only there if it can be.

        Warps are one resampling, which may as well stop at the box. Noise is drawn for all pixels and anything else
        may look at all of them, so such views are made whole and then cut.
        """
        warps = [t for t in pipeline.transforms if isinstance(t, Warp)]
        if len(warps) < len(pipeline.transforms) or (not warps and images.shape[-2:] == self.size):
            return self.box.cut(pipeline(images, rng, self.size))
        full = (images.shape[-2], images.shape[-1])
        images = functional.shrink(images, self.size)
        if rng.views > 1:
            images = images.repeat_interleave(rng.views, 0)
        matrices = [warp.matrix(rng, full) for warp in warps]
        total = reduce(torch.matmul, [*matrices, self.window.expand(len(images), 3, 3)])
        return functional.warp(images, total, self.box.size)


def field(model: TappedModel, layer: str, y: int | None, x: int | None, size: tuple[int, int]) -> Box:
    """The receptive field of position (y, x) of ``layer``, in pixels of views of ``size`` = (height, width).

    The box around ``{p : d a[:, y, x] / d p != 0}``, found by backward passes on random images, so that it holds for
    any network. A position that none of them moves is taken to see everything.

    Args:
        model: the network.
        layer: a layer with maps ``[M,C,H,W]``.
        y: row from the top; the centre H//2 if left out.
        x: column from the left; the centre W//2 if left out.
        size: of the views.

    Raises :class:`~featureviz.errors.InvalidInput` where the layer has no such position.

    >>> import featureviz as fv
    >>> model = fv.wrap(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1)))
    >>> field(model, "0", 0, 4, (8, 8))
    Box(top=0, bottom=2, left=3, right=6)
    """
    with _exact():
        seen = tapped(model)(_noise(model, 1, size, 0), [layer])
        _, *position = _position(Neuron(layer, 0, y, x), seen)
        return _fields(model, layer, [(position[0], position[1])], size)[0]


def cropped(model: TappedModel, objective: Objective, size: tuple[int, int]) -> Crop | None:
    """What scores as ``objective`` does on views of ``size`` = (height, width), from the part of them that it sees.

    The box holds the receptive fields of all of its neurons; what is cut off at each edge is a multiple of the strides
    of their layers, and nothing where a field reaches the edge, so that sampling and padding stay as they are. None
    where it sees anything but neurons, where less than a quarter of the pixels would be saved, while an intervention
    holds the network, and where activations or gradients on fresh random images are not the same (1e-4 of the largest),
    as in a network that is told positions.

    Raises :class:`~featureviz.errors.InvalidInput` where a layer has no such position, as the objective would.

    >>> import featureviz as fv
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.nn.Conv2d(4, 4, 3, padding=1))
    >>> crop = cropped(fv.wrap(net), fv.Neuron("1", 2) - fv.Neuron("0", 1), (32, 32))
    >>> crop.objective, crop.box
    (1:2@centre - 0:1@centre, Box(top=12, bottom=20, left=12, right=20))
    """
    parts = [part for part in objective.modules() if isinstance(part, Objective)]
    neurons = [part for part in parts if isinstance(part, Neuron)]
    only = all(isinstance(part, (Neuron, Linear, Product, PerImage)) for part in parts)
    if not neurons or not only or tapped(model).hooked:
        return None
    with _exact():
        seen = model(_noise(model, 1, size, 0), objective.layers)
        positions = list(dict.fromkeys(_position(neuron, seen) for neuron in neurons))
        box, strides = _cut(model, positions, seen, size)
        moved = {(n, y, x): (n, y - box.top // strides[n][0], x - box.left // strides[n][1]) for n, y, x in positions}
        if box.pixels > WORTH * math.prod(size) or not _same(model, moved, box, size):
            return None
    twin = copy.deepcopy(objective)
    for part in twin.modules():
        if isinstance(part, Neuron):  # its spec stays, so that errors speak of the neuron that was asked for
            _, part.y, part.x = moved[_position(part, seen)]
    return Crop(twin, box, size, box.window(size).to(model.device))


def _cut(
    model: TappedModel, positions: Sequence[Position], seen: Activations, size: tuple[int, int]
) -> tuple[Box, dict[str, tuple[int, int]]]:
    """The box around all fields with the phase of each layer kept, and the layers' strides."""
    boxes: list[Box] = []
    strides: dict[str, tuple[int, int]] = {}
    for layer in dict.fromkeys(name for name, _, _ in positions):
        wanted = [(y, x) for name, y, x in positions if name == layer]
        y, x = wanted[0]
        height, width = seen[layer].shape[2:]
        beside = (y + 1 if y + 1 < height else max(0, y - 1), x + 1 if x + 1 < width else max(0, x - 1))
        *fields, other = _fields(model, layer, [*wanted, beside], size)
        a, b = fields[0], other
        strides[layer] = (
            _stride((a.top, a.bottom), (b.top, b.bottom), size[0]),
            _stride((a.left, a.right), (b.left, b.right), size[1]),
        )
        boxes += fields
    union = reduce(Box.__or__, boxes)
    down, across = (math.lcm(*steps) for steps in zip(*strides.values(), strict=True))
    top, bottom = _aligned(union.top, union.bottom, down, size[0])
    return Box(top, bottom, *_aligned(union.left, union.right, across, size[1])), strides


def _stride(one: tuple[int, int], other: tuple[int, int], length: int) -> int:
    """How far the field moves from a position to the next, by an end that no border holds; ``length`` if both are."""
    if max(one[1], other[1]) < length:
        return abs(one[1] - other[1]) or length
    if min(one[0], other[0]) > 0:
        return abs(one[0] - other[0]) or length
    return length


def _aligned(start: int, end: int, stride: int, length: int) -> tuple[int, int]:
    """The same or wider, whole strides away from both borders: padding to a size may depend on its remainder."""
    return start // stride * stride, length - (length - end) // stride * stride


def _fields(model: TappedModel, layer: str, positions: Sequence[tuple[int, int]], size: tuple[int, int]) -> list[Box]:
    """The receptive field of each position. Channels are weighed at random: their plain sum may be constant."""
    reached = torch.zeros(len(positions), *size, dtype=torch.bool, device=model.device)
    for i in range(ROUNDS):
        x = _noise(model, IMAGES, size, i + 1).requires_grad_()
        a = model(x, [layer])[layer]
        if not a.requires_grad:
            break
        weights = _weights(a.shape[:2], i).to(a)
        for mask, (row, column) in zip(reached, positions, strict=True):
            (gradient,) = torch.autograd.grad(a[:, :, row, column], x, weights, retain_graph=True)
            mask |= (gradient != 0).any(0).any(0)
        if bool(reached.any(1).all() & reached.any(2).all()):
            break  # all of them see everything
    return [Box(*_extent(mask.any(1)), *_extent(mask.any(0))) for mask in reached]


def _extent(reached: Tensor) -> tuple[int, int]:
    places = reached.nonzero().flatten().tolist()
    return (places[0], places[-1] + 1) if places else (0, len(reached))


def _position(neuron: Neuron, seen: Activations) -> Position:
    neuron.goal(0)(seen)  # raises where there is no such position
    layer = neuron.layers[0]
    height, width = seen[layer].shape[2:]
    return (layer, height // 2, width // 2) if neuron.y is None or neuron.x is None else (layer, neuron.y, neuron.x)


def _same(model: TappedModel, moved: dict[Position, Position], box: Box, size: tuple[int, int]) -> bool:
    """Whether all channels at all positions are the same in the crop, and so are their gradients, outside none."""
    whole = _noise(model, IMAGES, size, ROUNDS + 1).requires_grad_()
    part = box.cut(whole.detach()).requires_grad_()
    wanted = _read(model, whole, moved)
    try:
        got = _read(model, part, moved.values())
    except (ModelError, IndexError):  # the network wants another size, or its map is too small there
        return False
    weights = [_weights(v.shape, 0).to(v) / v.detach().abs().max() for v in wanted]
    (slope,), (its,) = torch.autograd.grad(wanted, whole, weights), torch.autograd.grad(got, part, weights)
    alike = [_close(a, b) for a, b in zip([*wanted, box.cut(slope)], [*got, its], strict=True)]
    box.cut(slope).zero_()
    return all(alike) and not bool(slope.any())


def _read(model: TappedModel, x: Tensor, positions: Iterable[Position]) -> list[Tensor]:
    """``[M,C]`` at each position."""
    positions = list(positions)
    seen = model(x, list(dict.fromkeys(layer for layer, _, _ in positions)))
    return [seen[layer][:, :, row, column].float() for layer, row, column in positions]


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= TOLERANCE * a.abs().max())


def _noise(model: TappedModel, n: int, size: tuple[int, int], seed: int) -> Tensor:
    return torch.rand(n, model.channels, *size, generator=torch.Generator().manual_seed(seed)).to(model.device)


def _weights(shape: Sequence[int], seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def _exact() -> Iterator[None]:
    """Gradients on, and cuDNN off: its fast convolutions round to TF32 and leak rounding past a receptive field."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.backends.cudnn.enabled = before
