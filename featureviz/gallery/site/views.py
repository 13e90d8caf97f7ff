"""What the pages of a gallery show: plain values, which templates read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, final

from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.planning.tile import GATE
from featureviz.gallery.site.plot_axis import PlotAxis
from featureviz.gallery.store.reading import Example
from featureviz.lab.statistics.measuring import OPEN, SHUT

T = TypeVar("T")


def spread_evenly(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of the items, evenly over their order.

    >>> spread_evenly("abcdef", 3)
    ['a', 'c', 'e']
    """
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else list(items)


@final
@dataclass(frozen=True)
class Picture:
    """A finished tile. ``value`` is the unit's own on it, a mean over held-out views: for a gate, its logit.

    ``value`` is None where the objective was more than the unit, or was not measured. ``standing`` is the percentile of
    ``value`` among photographs. ``figures`` has only what is known.
    """

    file: str
    sign: int
    variant: int
    spec: str
    figures: Mapping[str, Any]
    trace: Sequence[float]
    value: float | None
    standing: float | None

    @property
    def verb(self) -> str:
        """What it does to its unit."""
        return "excites" if self.sign > 0 else "suppresses"

    @property
    def unseen(self) -> dict[str, float]:
        """The unit's values on kinds of views that no ascent uses."""
        return {kind: self.sign * score for kind, score in self.figures["unseen"].items()}


@final
@dataclass(frozen=True)
class Neighbour:
    """A unit that is alike, if the gallery has it."""

    unit: Unit
    how: str
    similarity: float


@final
@dataclass(frozen=True, eq=False)
class Unit:
    """A unit with its pictures, those that excite it and those that suppress it, in the order of their variants.

    ``planned`` has the signs of all pictures of the plan. ``natural`` is what was measured on photographs: mean, sd,
    quantiles and histogram, or nothing.
    """

    kind: str
    number: int
    name: str
    page: str
    planned: Sequence[int]
    pictures: Sequence[Picture]
    natural: Mapping[str, Any]
    examples: Sequence[Example]
    alike: Sequence[tuple[int, str, float]]
    card: str

    @property
    def is_gate(self) -> bool:
        return self.kind == GATE

    def first(self, sign: int) -> Picture | None:
        """The first picture of a sign, if it is finished."""
        return next((p for p in self.pictures if (p.sign, p.variant) == (sign, 0)), None)

    def more(self, sign: int) -> list[Picture]:
        """The other pictures of a sign."""
        return [p for p in self.pictures if p.sign == sign and p.variant > 0]

    @cached_property
    def signs(self) -> list[int]:
        """The signs of which the plan has pictures."""
        return sorted(set(self.planned), reverse=True)

    @property
    def missing(self) -> int:
        """How many of its pictures are not finished."""
        return len(self.planned) - len(self.pictures)

    @property
    def spread(self) -> float | None:
        """The standard deviation on photographs, or else that of the first picture's score between views."""
        if "sd" in self.natural:
            return self.natural["sd"]
        first = next(iter(self.pictures), None)
        return first.figures.get("sd") if first else None

    @property
    def still(self) -> bool:
        """Whether no step changed any of its pictures: the unit has no gradient there."""
        return bool(self.pictures) and not any(p.figures.get("moved", True) for p in self.pictures)

    @cached_property
    def axis(self) -> PlotAxis | None:
        """From the smallest value on photographs to the largest, extended to those of the pictures."""
        bins = self.natural.get("histogram")
        if not bins:
            return None
        end = bins["start"] + bins["width"] * len(bins["counts"])
        return PlotAxis.around((bins["start"], end), [p.value for p in self.pictures if p.value is not None] or [end])


@final
@dataclass(frozen=True, eq=False)
class Layer:
    """A layer or a block with the units that the gallery shows."""

    group: Group
    page: str
    units: Sequence[Unit]

    @property
    def is_gate(self) -> bool:
        return self.group.kind == GATE

    @property
    def shape(self) -> str:
        """The shape of the layer's output for one image."""
        return " \N{MULTIPLICATION SIGN} ".join(
            map(str, self.group.shape[1:] if self.group.shape[:1] == (1,) else self.group.shape)
        )

    @cached_property
    def by_number(self) -> dict[int, Unit]:
        return {unit.number: unit for unit in self.units}

    @cached_property
    def planned(self) -> int:
        return sum(len(unit.planned) for unit in self.units)

    @cached_property
    def done(self) -> int:
        return sum(len(unit.pictures) for unit in self.units)

    @cached_property
    def signs(self) -> list[int]:
        """The signs of its pictures."""
        return sorted({sign for unit in self.units for sign in unit.signs}, reverse=True)

    @property
    def still(self) -> int:
        """How many units no ascent moved."""
        return sum(unit.still for unit in self.units)

    def sample(self, count: int) -> list[Unit]:
        """At most ``count`` units with a picture, evenly over the layer."""
        return spread_evenly([unit for unit in self.units if unit.pictures], count)

    def beyond(self, sign: int) -> tuple[int, int] | None:
        """How many first pictures go beyond all photographs, and of how many; None without photographs."""
        firsts = [p for unit in self.units if (p := unit.first(sign)) and p.standing is not None]
        return (sum(p.standing in (0, 100) for p in firsts), len(firsts)) if firsts else None

    def reached(self, sign: int) -> tuple[int, int] | None:
        """How many gates the first pictures of a sign open, or shut, and of how many."""
        values = [p.figures["gate"] for u in self.units if (p := u.first(sign)) and "gate" in p.figures]
        return (sum(v >= OPEN if sign > 0 else v <= SHUT for v in values), len(values)) if values else None

    def alike(self, unit: Unit) -> list[Neighbour]:
        """The units that are most like ``unit``, as far as the gallery shows them; opposite ones are not like it."""
        found = [(self.by_number.get(number), how, similarity) for number, how, similarity in unit.alike]
        return [Neighbour(other, how, similarity) for other, how, similarity in found if other and similarity > 0]


@final
@dataclass(frozen=True, eq=False)
class Atlas:
    """A whole gallery. ``size`` is that of its tiles, ``photograph`` that of its photographs, as (height, width)."""

    model: str
    recipe: Mapping[str, Any]
    about: Mapping[str, Any]
    layers: Sequence[Layer]
    size: tuple[int, int]
    photograph: tuple[int, int]

    @property
    def planned(self) -> int:
        return sum(layer.planned for layer in self.layers)

    @property
    def done(self) -> int:
        return sum(layer.done for layer in self.layers)

    @property
    def count(self) -> int:
        """How many units it shows."""
        return sum(len(layer.units) for layer in self.layers)
