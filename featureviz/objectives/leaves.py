"""The core leaves: Channel, Neuron, Direction, Logit, DeepDream, Gate.

A unit may be one index, for any number of images, or a list of N: image i of the batch gets unit i, by one gather.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput, unknown
from featureviz.naming import Units, as_units, chosen, named
from featureviz.network.activations import Activations
from featureviz.network.site import GateSite
from featureviz.network.taps import GATE, GATE_VALUE, OUTPUT
from featureviz.objectives.algebra import Objective


@final
class Channel(Objective):
    """The mean of a channel: ``mean_{hw} a[:, c]``, of ``[M,C,H,W]``, ``[M,T,C]`` or ``[M,C]`` (Lucid's ``channel``).

    Args:
        layer: a layer's name, as ``fv.layers`` lists them.
        unit: the channel, or one an image.

    >>> Channel("features.12", 17), Channel("features.12", [3, 14, 15])
    (features.12:17, features.12:[3, 14, 15])
    """

    def __init__(self, layer: str, unit: Units) -> None:
        units, written = as_units(unit, f"Channel({layer!r})")
        super().__init__([layer], f"{named(layer)}:{written}", len(units))
        self.units, self.index = units, nn.Buffer(torch.tensor(units))

    def forward(self, activations: Activations) -> Tensor:
        return activations.means(self.layers[0], self.units, self.index)

    def select(self, images: Sequence[int]) -> Objective:
        return self if self.n == 1 else Channel(self.layers[0], chosen(self.units, images))


@final
class Neuron(Objective):
    """One position of a channel: ``a[:, c, y, x]`` of ``[M,C,H,W]``; the centre (H//2, W//2) by default.

    Args:
        layer: a layer's name.
        unit: the channel, or one an image.
        y: row from the top; the centre if left out.
        x: column from the left; the centre if left out.

    >>> Neuron("features.12", 17), Neuron("features.12", 17, 3, 4)
    (features.12:17@centre, features.12:17@3,4)
    """

    def __init__(self, layer: str, unit: Units, y: int | None = None, x: int | None = None) -> None:
        units, written = as_units(unit, f"Neuron({layer!r})")
        if (y is None) != (x is None) or min(y or 0, x or 0) < 0:
            raise InvalidInput(f"Neuron({layer!r}) got y={y}, x={x}; expected both, from 0, or neither")
        place = "centre" if y is None else f"{y},{x}"
        super().__init__([layer], f"{named(layer)}:{written}@{place}", len(units))
        self.units, self.index = units, nn.Buffer(torch.tensor(units))
        self.y, self.x = y, x

    def forward(self, activations: Activations) -> Tensor:
        layer = self.layers[0]
        if activations[layer].ndim != 4:
            shape = list(activations[layer].shape)
            raise InvalidInput(
                f"{self.spec}: {layer!r} gives {shape}, which has no positions; use Channel({layer!r}, ...)"
            )
        plane = activations.channels(layer, self.units, self.index)  # [M,H,W]
        height, width = plane.shape[1:]
        y, x = (height // 2, width // 2) if self.y is None or self.x is None else (self.y, self.x)
        if y >= height or x >= width:
            raise InvalidInput(
                f"{self.spec}: row {y}, column {x} is outside of {layer!r}, which is {height}x{width} here"
            )
        return plane[:, y, x]

    def select(self, images: Sequence[int]) -> Objective:
        return self if self.n == 1 else Neuron(self.layers[0], chosen(self.units, images), self.y, self.x)


@final
class Direction(Objective):
    """A direction in channel space: mean over positions of ``(a.v) * max(0.1, cos(a, v))^power`` (Lucid).

    Args:
        layer: a layer's name.
        vector: ``[C]``, or ``[N,C]``, one an image.
        power: 0 for the plain dot product; 2 or 4 keep the picture on the direction (activation atlas).

    >>> Direction("features.12", [1.0, 0.5, -2.0], power=2)
    direction:features.12:[1, 0.5, -2]^2
    """

    EPSILON, FLOOR = 1e-4, 0.1

    def __init__(self, layer: str, vector: Tensor | Sequence[float], power: float = 0.0) -> None:
        try:
            target = torch.as_tensor(vector, dtype=torch.float32).detach().clone()
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"Direction({layer!r}): {error}; expected numbers, [C] or [N,C]") from None
        if target.ndim not in (1, 2) or not target.numel():
            raise InvalidInput(
                f"Direction({layer!r}) got a vector of shape {list(target.shape)}; expected [C] or [N,C]"
            )
        target = target[0] if target.ndim == 2 and len(target) == 1 else target
        written = f"direction:{named(layer)}:{_vector(target)}" + (
            f"^{float(power)!r}".removesuffix(".0") if power else ""
        )
        super().__init__([layer], written, len(target) if target.ndim == 2 else 1)
        self.power, self.target = power, nn.Buffer(target)

    def forward(self, activations: Activations) -> Tensor:
        layer = self.layers[0]
        a = activations[layer]
        a = a.flatten(2) if a.ndim > 3 else a.movedim(-1, 1) if a.ndim == 3 else a[:, :, None]  # [M,C,P]
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
        return self if self.n == 1 else Direction(self.layers[0], self.target[list(images)], self.power)


@final
class Logit(Objective):
    """A class score before softmax: ``output[:, k]`` of ``[M,K]``.

    Args:
        unit: the class's index, or its label where the model has labels; or one an image.

    >>> Logit(207), Logit("golden retriever")
    (logit:207, logit:"golden retriever")
    """

    def __init__(self, unit: int | str | Sequence[int | str]) -> None:
        several = not isinstance(unit, str) and hasattr(unit, "__len__")
        each: Any = unit if several else (unit,)
        wanted = tuple(u if isinstance(u, str) else as_units(u, "Logit")[0][0] for u in each)
        if not wanted:
            raise InvalidInput("Logit got no class; expected an index, a label, or a list of them")
        written = [f'"{u}"' if isinstance(u, str) else str(u) for u in wanted]
        super().__init__([OUTPUT], "logit:" + (f"[{', '.join(written)}]" if several else written[0]), len(wanted))
        self.wanted = wanted
        self.units = tuple(u for u in wanted if isinstance(u, int))  # all of them, once labels are resolved
        self.index = nn.Buffer(torch.tensor(self.units))

    def forward(self, activations: Activations) -> Tensor:
        output = activations[OUTPUT]
        if output.ndim != 2:
            raise InvalidInput(
                f"{self.spec}: the network's output is {list(output.shape)}, not logits [M,K]; use Channel"
            )
        resolved = self if len(self.units) == len(self.wanted) else self.resolved(activations.labels)
        return activations.channels(OUTPUT, resolved.units, resolved.index.to(output.device))

    def resolved(self, labels: Sequence[str] | None) -> Logit:
        """The same with indices for labels, so that a step need not look them up."""
        names = [u for u in self.wanted if isinstance(u, str)]
        if not names:
            return self
        if labels is None:
            raise InvalidInput(
                f"logit {names[0]!r}: this model has no labels; give an index or wrap(net, labels=[...])"
            )
        missing = [name for name in names if name not in labels]
        if missing:
            raise unknown("label", missing[0], labels)
        return Logit([list(labels).index(u) if isinstance(u, str) else u for u in self.wanted])

    def select(self, images: Sequence[int]) -> Objective:
        wanted = [self.wanted[i] for i in (images if self.n > 1 else ())]
        return self if self.n == 1 else Logit(wanted[0] if len(wanted) == 1 else wanted)


@final
class DeepDream(Objective):
    """Everything a layer sees, amplified: ``mean a^2`` (Mordvintsev et al. 2015).

    >>> DeepDream("features.9")
    deepdream:features.9
    """

    def __init__(self, layer: str) -> None:
        super().__init__([layer], f"deepdream:{named(layer)}")

    def forward(self, activations: Activations) -> Tensor:
        return activations[self.layers[0]].flatten(1).square().mean(1)


@final
class Gate(Objective):
    """The logit of a squeeze-and-excitation gate: ``z_c``, where the block computes ``x_c * gate(z_c)``.

    ``Gate`` opens a channel, ``-Gate`` closes it. It climbs the logit, not the gate: a hard-sigmoid has no slope for
    |z| >= 3, so a gate that starts closed could never be opened by its value. Reports show the value. Of a spatial gate
    (unit 0) both are means over positions.

    Args:
        site: a site of ``fv.gates(model)``, or its name.
        unit: the channel, or one an image.

    >>> -Gate("features.12.block.2", 17)
    -gate:features.12.block.2:17
    """

    def __init__(self, site: GateSite | str, unit: Units) -> None:
        name = site if isinstance(site, str) else site.name
        units, written = as_units(unit, f"Gate({name!r})")
        super().__init__([GATE + name], f"{GATE}{named(name)}:{written}", len(units))
        self.site_name = name
        self.units, self.index = units, nn.Buffer(torch.tensor(units))

    def forward(self, activations: Activations) -> Tensor:
        return activations.means(self.layers[0], self.units, self.index)

    @property
    def value_layer(self) -> str:
        """The activation that holds the gate's values, for reports."""
        return GATE_VALUE + self.site_name

    def value(self, activations: Activations) -> Tensor:
        """``[M]``: the gate's value in each row."""
        return activations.means(self.value_layer, self.units, self.index)

    def select(self, images: Sequence[int]) -> Objective:
        return self if self.n == 1 else Gate(self.site_name, chosen(self.units, images))


def _vector(target: Tensor) -> str:
    if target.ndim == 2:
        return f"[{', '.join(_vector(row) for row in target)}]"
    return f"[{', '.join(str(v).removesuffix('.0') for v in target.cpu().numpy())}]"  # shortest that reads back
