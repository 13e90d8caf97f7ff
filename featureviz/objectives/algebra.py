"""Objectives and their algebra: what an image is asked to maximise. The leaves are in ``objectives.py``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.naming import written
from featureviz.network.activations import Activations


class Objective(nn.Module, ABC):
    """A score for every view, higher is better: abstract.

    Args:
        layers: the activations it reads, known before any forward, so that the network can stop there.
        spec: the expression that writes it; ``repr`` prints it.
        n: how many images it describes; 1 stands for any number of images with the same goal.
        across_batch: whether a score depends on the other images, so that a batch must not be split.

    ``forward(activations) -> [M]``, one score a row, row i from row i alone. Objectives are immutable: ``a + b``,
    ``a - b``, ``2 * a``, ``a * b``, ``-a`` and ``a / 2`` make new ones. Target vectors and indices are buffers.

    >>> from featureviz.objectives.leaves import Channel
    >>> 2 * Channel("features.12", 17) - Channel("features.3", 4) / 2
    2*features.12:17 - 0.5*features.3:4
    """

    def __init__(self, layers: Iterable[str], spec: str = "", n: int = 1, *, across_batch: bool = False) -> None:
        super().__init__()
        self.layers = tuple(dict.fromkeys(layers))
        self.spec = spec or f"{type(self).__name__}({', '.join(self.layers)})"
        self.n, self.across_batch = n, across_batch

    @abstractmethod
    def forward(self, activations: Activations) -> Tensor:
        """``[M]`` scores."""

    def leaves(self) -> Iterator[Objective]:
        """The objectives an expression is made of, left to right."""
        yield self

    def select(self, images: Sequence[int]) -> Objective:
        """What the images of those numbers are asked for, as a batch of their own: itself, unless it describes several.

        Whoever describes several images overrides this. One image gets what it would be asked for alone.
        """
        return self

    def goal(self, image: int) -> Objective:
        """What image number ``image`` is asked for."""
        return self.select((image,))

    def __add__(self, other: Objective | float) -> Objective:
        return _linear([(1.0, self), (1.0, other)])

    def __sub__(self, other: Objective | float) -> Objective:
        return _linear([(1.0, self), (-1.0, other)])

    def __radd__(self, other: float) -> Objective:
        return _linear([(1.0, other), (1.0, self)])

    def __rsub__(self, other: float) -> Objective:
        return _linear([(1.0, other), (-1.0, self)])

    def __neg__(self) -> Objective:
        return _linear([(-1.0, self)])

    def __mul__(self, other: Objective | float) -> Objective:
        if isinstance(other, Objective):
            return Product(self, other)
        return _linear([(_number(other), self)])

    def __rmul__(self, other: float) -> Objective:
        return _linear([(_number(other), self)])

    def __truediv__(self, other: float) -> Objective:
        if _number(other) == 0:
            raise InvalidInput(f"({self.spec}) / 0 was given; an objective is divided by a number other than 0")
        return _linear([(1.0 / other, self)])

    def __repr__(self) -> str:
        return self.spec


@final
class Linear(Objective):
    """``constant + sum of weight * objective``: what ``+``, ``-`` and numbers make."""

    def __init__(self, terms: Sequence[tuple[float, Objective]], constant: float = 0.0) -> None:
        parts = [o for _, o in terms]
        super().__init__(_layers(parts), _linear_spec(terms, constant), _images(parts), across_batch=_any(parts))
        self.weights, self.constant = tuple(w for w, _ in terms), constant
        self.terms = nn.ModuleList(parts)

    def forward(self, activations: Activations) -> Tensor:
        total: Tensor | None = None
        for weight, part in zip(self.weights, self.terms, strict=True):
            score = part(activations) if weight == 1 else weight * part(activations)
            total = score if total is None else total + score
        if total is None:
            total = torch.zeros_like(activations.rows.image, dtype=torch.float32)
        return total + self.constant if self.constant else total

    def leaves(self) -> Iterator[Objective]:
        return _leaves(self.terms)

    def select(self, images: Sequence[int]) -> Objective:
        goals = [(w, _objective(p).select(images)) for w, p in zip(self.weights, self.terms, strict=True)]
        return self if self.n == 1 else Linear(goals, self.constant)


@final
class Product(Objective):
    """``a * b``, row by row."""

    def __init__(self, first: Objective, second: Objective) -> None:
        parts = [first, second]
        spec = f"{_factor(first)}*{_factor(second)}"
        super().__init__(_layers(parts), spec, _images(parts), across_batch=_any(parts))
        self.terms = nn.ModuleList(parts)

    def forward(self, activations: Activations) -> Tensor:
        return self.terms[0](activations) * self.terms[1](activations)

    def leaves(self) -> Iterator[Objective]:
        return _leaves(self.terms)

    def select(self, images: Sequence[int]) -> Objective:
        first, second = (_objective(part).select(images) for part in self.terms)
        return self if self.n == 1 else Product(first, second)


@final
class PerImage(Objective):
    """Image i of a batch gets objective i.

    Many units of one layer are one gather, ``Channel("features.12", [3, 14, 15])``; this is for the rest.

    >>> from featureviz.objectives.leaves import Channel
    >>> PerImage([Channel("features.3", 1), -Channel("features.5", 2)])
    [features.3:1, -features.5:2]
    """

    def __init__(self, objectives: Iterable[Objective]) -> None:
        parts = list(objectives)
        if not parts or any(o.n != 1 for o in parts):
            raise InvalidInput(f"PerImage got {parts}; expected at least one objective, each for a single image")
        super().__init__(_layers(parts), f"[{', '.join(o.spec for o in parts)}]", len(parts), across_batch=_any(parts))
        self.terms = nn.ModuleList(parts)

    def forward(self, activations: Activations) -> Tensor:
        numbers = activations.rows.images
        if max(numbers) >= len(self.terms):
            raise InvalidInput(f"PerImage has {len(self.terms)} objectives; image {max(numbers)} has none")
        return torch.cat([self.terms[i](a) for i, a in zip(numbers, activations.per_image(), strict=True)])

    def leaves(self) -> Iterator[Objective]:
        return _leaves(self.terms)

    def select(self, images: Sequence[int]) -> Objective:
        goals = [_objective(self.terms[i]) for i in images]
        return goals[0] if len(goals) == 1 else PerImage(goals)


def sum(objectives: Iterable[Objective]) -> Objective:
    """All of them added up, flat however many there are.

    >>> from featureviz.objectives.leaves import Channel
    >>> sum(Channel("features.3", c) for c in range(3))
    features.3:0 + features.3:1 + features.3:2
    """
    return _linear([(1.0, o) for o in objectives])


def _linear(terms: Iterable[tuple[float, Objective | float]]) -> Linear:
    flat: list[tuple[float, Objective]] = []
    constant = 0.0
    for weight, term in terms:
        if isinstance(term, Linear):
            flat += [(weight * w, _objective(o)) for w, o in zip(term.weights, term.terms, strict=True)]
            constant += weight * term.constant
        elif isinstance(term, Objective):
            flat.append((weight, term))
        else:
            constant += weight * _number(term)
    return Linear(flat, constant)


def _number(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise TypeError(f"an objective cannot be combined with {value!r}; expected an objective or a number")


def _layers(parts: Iterable[Objective]) -> list[str]:
    return [layer for part in parts for layer in part.layers]


def _images(parts: Sequence[Objective]) -> int:
    counts = {o.n for o in parts if o.n != 1}
    if len(counts) > 1:
        described = ", ".join(f"{o.spec} ({o.n})" for o in parts)
        raise InvalidInput(f"objectives for different numbers of images cannot be combined: {described}")
    return counts.pop() if counts else 1


def _any(parts: Iterable[Objective]) -> bool:
    return any(part.across_batch for part in parts)


def _leaves(parts: Iterable[nn.Module]) -> Iterator[Objective]:
    for part in parts:
        yield from _objective(part).leaves()


def _objective(part: nn.Module) -> Objective:
    assert isinstance(part, Objective)  # a ModuleList does not know what it holds
    return part


def _linear_spec(terms: Sequence[tuple[float, Objective]], constant: float) -> str:
    parts = [(w, o.spec if w == 1 else _factor(o) if w == -1 else f"{written(abs(w))}*{_factor(o)}") for w, o in terms]
    if constant or not terms:
        parts.append((constant, written(abs(constant))))
    first, *rest = parts
    return ("-" if first[0] < 0 else "") + first[1] + "".join(f" {'-' if w < 0 else '+'} {text}" for w, text in rest)


def _factor(o: Objective) -> str:
    """``o`` where it is multiplied: a sum or a product in parentheses, so that it is read back as it was."""
    return f"({o.spec})" if isinstance(o, (Linear, Product)) else o.spec
