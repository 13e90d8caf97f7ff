"""Objectives on a layer of the network: Channel, Neuron, Direction, Logit and DeepDream.

A unit is one index, for any number of images, or a list of N: then image i of the batch gets unit i, by one gather.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from featureviz.checks import finite, show, whole
from featureviz.errors import InvalidInput, unknown
from featureviz.naming import (
    MOST_INDEX,
    Units,
    as_list,
    check_count,
    check_images,
    format_number,
    parse_units,
    quote,
    quote_layer,
    select_entries,
    shorten,
    write_units,
)
from featureviz.network.activations import Activations
from featureviz.network.taps import OUTPUT, RETURNED
from featureviz.objectives.algebra import Objective


class UnitObjective(Objective):
    """A score of one unit, or of one unit for each image, by default its mean over positions: abstract.

    Args:
        layers: the activations it reads.
        name: the layer or the gated block, as the spec names it.
        unit: the index, or one for each image.
        form: the spec; ``{name}`` and ``{units}`` are replaced.
        options: what the class takes besides the name and the unit, by keyword.
    """

    units: tuple[int, ...]
    name: str
    options: dict[str, Any]
    index: Tensor

    def __init__(
        self, layers: Iterable[str], name: str, unit: Units, *, form: str = "{name}:{units}", **options: Any
    ) -> None:
        written = quote_layer(name)
        units, text = parse_units(unit, f"{type(self).__name__}({show(name)})")
        super().__init__(layers, form.format(name=written, units=text), len(units))
        self._set(units=units, name=name, options=options)
        self.register_buffer("index", torch.tensor(units, dtype=torch.int64, device="cpu"))

    def forward(self, activations: Activations) -> Tensor:
        return self.mean(activations, self.layers[0])

    def with_units(self, unit: Units) -> Objective:
        """The same objective for another unit, or for several."""
        make: Any = type(self)
        return make(self.name, unit, **self.options)

    def select(self, images: Sequence[int]) -> Objective:
        return self if self.n == 1 else self.with_units(select_entries(self.units, images))

    def mean(self, activations: Activations, layer: str) -> Tensor:
        """``[M]``: the unit of each row in ``layer``, averaged over positions if the layer has them."""
        return activations.means(layer, self.units, self.index)


@final
class Channel(UnitObjective):
    """The mean of a channel: ``mean_{hw} a[:, c]``, of ``[M,C,H,W]``, ``[M,T,C]`` or ``[M,C]`` (Lucid's ``channel``).

    Args:
        layer: a layer's name, as ``fv.layers`` lists them.
        unit: the channel, or one for each image.

    >>> Channel("features.12", 17), Channel("features.12", [3, 14, 15])
    (features.12:17, features.12:[3, 14, 15])
    """

    def __init__(self, layer: str, unit: Units) -> None:
        super().__init__([layer], layer, unit)


@final
class Neuron(UnitObjective):
    """One position of a channel: ``a[:, c, y, x]`` of ``[M,C,H,W]``; by default the centre (H//2, W//2).

    Args:
        layer: a layer's name.
        unit: the channel, or one for each image.
        y: row from the top; None for the centre.
        x: column from the left; None for the centre.

    >>> Neuron("features.12", 17), Neuron("features.12", 17, 3, 4)
    (features.12:17@centre, features.12:17@3,4)
    """

    def __init__(self, layer: str, unit: Units, y: int | None = None, x: int | None = None) -> None:
        if (y is None) != (x is None):
            raise InvalidInput(f"Neuron({layer!r}) got y={show(y)}, x={show(x)}; expected both, from 0, or neither")
        row, column = (
            None if i is None else whole(f"Neuron({layer!r}): {name}", i, most=MOST_INDEX)
            for i, name in ((y, "y"), (x, "x"))
        )
        place = "centre" if row is None else f"{row},{column}"
        super().__init__([layer], layer, unit, form=f"{{name}}:{{units}}@{place}", y=row, x=column)
        self.y, self.x = row, column

    def forward(self, activations: Activations) -> Tensor:
        layer = self.layers[0]
        plane = activations.channels(layer, self.units, self.index)  # [M,H,W]
        if plane.ndim != 3:
            shape = list(activations[layer].shape)
            raise InvalidInput(
                f"{self.spec}: {layer!r} gives {shape}, which has no rows and columns; use Channel({layer!r}, ...)"
            )
        height, width = plane.shape[1:]
        y, x = (height // 2, width // 2) if self.y is None or self.x is None else (self.y, self.x)
        if y >= height or x >= width:
            raise InvalidInput(
                f"{self.spec}: row {y}, column {x} is outside of {layer!r}, which is {height}x{width} here"
            )
        return plane[:, y, x]


@final
class Direction(Objective):
    """A direction in channel space: mean over positions of ``(a.v) * max(0.1, cos(a, v))^power`` (Lucid).

    Args:
        layer: a layer's name.
        vector: ``[C]``, or ``[N,C]``, one for each image.
        power: 0 for the plain dot product; 2 or 4 keep the picture close to the direction (activation atlas).

    >>> Direction("features.12", [1.0, 0.5, -2.0], power=2)
    direction:features.12:[1, 0.5, -2]^2
    """

    EPSILON, FLOOR = 1e-4, 0.1

    def __init__(self, layer: str, vector: Tensor | Sequence[float], power: float = 0.0) -> None:
        owner = f"Direction({show(layer)})"
        target = _to_vector(vector, owner)
        exponent = finite(f"{owner}: power", power)
        spec = f"direction:{quote_layer(layer)}:{_format_vector(target)}"
        spec += f"^{format_number(exponent)}" if exponent else ""
        super().__init__([layer], spec, len(target) if target.ndim == 2 else 1)
        self.power, self.target = exponent, nn.Buffer(target)

    def forward(self, activations: Activations) -> Tensor:
        layer = self.layers[0]
        a = activations.channels_first(layer)
        a = a.flatten(2) if a.ndim > 2 else a[:, :, None]  # [M,C,P]
        if a.shape[1] != self.target.shape[-1]:
            raise InvalidInput(
                f"Direction on {layer!r} has {self.target.shape[-1]} numbers; the layer has {a.shape[1]} channels"
            )
        if self.n > 1 and max(activations.rows.images) >= self.n:
            raise InvalidInput(
                f"{self.n} directions in {layer!r} for image {max(activations.rows.images)}; expected one each"
            )
        v = self.target if self.target.ndim == 1 else self.target[activations.rows.image]
        v = v.expand(len(a), -1)
        dot = torch.einsum("mcp,mc->mp", a, v)
        if not self.power:
            return dot.mean(1)
        cosine = dot / ((a.norm(dim=1) + self.EPSILON) * (v.norm(dim=1) + self.EPSILON)[:, None])
        return (dot * cosine.clamp(min=self.FLOOR) ** self.power).mean(1)

    def select(self, images: Sequence[int]) -> Objective:
        if self.n == 1:
            return self
        return Direction(self.layers[0], self.target[check_images(images, self.n)], self.power)


@final
class Logit(Objective):
    """A class score before softmax: ``output[:, k]`` of ``[M,K]``.

    Args:
        unit: the class: its index, or its label if the model has labels; or a list with one for each image.

    >>> Logit(207), Logit("golden retriever")
    (logit:207, logit:"golden retriever")
    """

    def __init__(self, unit: int | str | Sequence[int | str]) -> None:
        given = as_list(unit)
        entries = [unit] if given is None else given
        classes = tuple(c if isinstance(c, str) else whole("Logit: unit", c, most=MOST_INDEX) for c in entries)
        if not classes:
            raise InvalidInput("Logit got no class; expected an index, a label, or a list of them")
        check_count(len(classes))
        units = tuple(c for c in classes if isinstance(c, int))
        texts = [quote(c) if isinstance(c, str) else str(c) for c in classes]
        listed = write_units(units) if len(units) == len(classes) else f"[{', '.join(texts)}]"
        super().__init__([RETURNED], f"logit:{texts[0] if given is None else listed}", len(classes))
        self.classes, self.units = classes, units  # units are all classes, once the labels are resolved
        self.index = nn.Buffer(torch.tensor(units, dtype=torch.int64, device="cpu"))

    def forward(self, activations: Activations) -> Tensor:
        layer = RETURNED if RETURNED in activations else OUTPUT
        output = activations[layer]
        if output.ndim != 2:
            raise InvalidInput(
                f"{self.spec}: the network's output is {list(output.shape)}, not logits [M,K]; use Channel"
            )
        resolved = self.resolve(activations.labels)
        return activations.channels(layer, resolved.units, resolved.index)

    def resolve(self, labels: Sequence[str] | None) -> Logit:
        """The same objective with an index for every label."""
        names = [c for c in self.classes if isinstance(c, str)]
        if not names:
            return self
        if labels is None:
            raise InvalidInput(
                f"logit {names[0]!r}: this model has no labels; give an index or wrap(net, labels=[...])"
            )
        missing = [name for name in names if name not in labels]
        if missing:
            raise unknown("label", missing[0], labels)
        return Logit([list(labels).index(c) if isinstance(c, str) else c for c in self.classes])

    def select(self, images: Sequence[int]) -> Objective:
        return self if self.n == 1 else Logit(select_entries(self.classes, images))


@final
class DeepDream(Objective):
    """All activations of a layer at once: ``mean a^2`` (Mordvintsev et al. 2015).

    >>> DeepDream("features.9")
    deepdream:features.9
    """

    def __init__(self, layer: str) -> None:
        super().__init__([layer], f"deepdream:{quote_layer(layer)}")

    def forward(self, activations: Activations) -> Tensor:
        return activations.views_first(self.layers[0]).flatten(1).square().mean(1)


def _to_vector(vector: Any, owner: str) -> Tensor:
    """A copy of ``[C]`` or ``[N,C]`` in float32."""
    expected = "expected numbers, [C] or [N,C]"
    try:
        if "complex" in str(getattr(vector, "dtype", "")):
            raise TypeError("the numbers are complex")
        given = vector.copy() if isinstance(vector, np.ndarray) else vector  # torch reads writable arrays only
        target = torch.as_tensor(given, dtype=torch.float32, device=getattr(vector, "device", "cpu")).detach().clone()
        finite = bool(torch.isfinite(target).all())
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidInput(f"{owner}: {shorten(str(error), 200)}; {expected}") from None
    if target.ndim not in (1, 2) or not target.numel() or not finite:
        what = f"shape {list(target.shape)}" if finite else "numbers that are not finite in float32"
        raise InvalidInput(f"{owner} got a vector of {what}; {expected}")
    return target[0] if target.ndim == 2 and len(target) == 1 else target


def _format_vector(target: Tensor) -> str:
    if target.ndim == 2:
        return f"[{', '.join(_format_vector(row) for row in target)}]"
    # numpy prints the shortest text that gives the same float32 again
    return f"[{', '.join([str(v).removesuffix('.0') for v in target.cpu().numpy()])}]"
