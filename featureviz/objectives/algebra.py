"""Objectives and their algebra: what an image is optimised for. The leaves are in ``leaves`` and ``gate_leaves``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.errors import InvalidInput
from featureviz.naming import format_value
from featureviz.network.activations import Activations


class Objective(nn.Module, ABC):
    """A score for every view, higher is better: abstract.

    Args:
        layers: the activations it reads, known before any forward, so that the network can stop at the last of them.
        spec: its text as ``fv.parse`` reads it; ``repr`` prints it.
        n: how many images it describes; 1 stands for any number of images with the same goal.
        across_batch: whether a score depends on the other images of the batch; such a batch is never split.

    ``forward(activations) -> [M]``: one score for each view, and score i depends on row i alone. Objectives are
    immutable: ``a + b``, ``a - b``, ``2 * a``, ``a * b``, ``-a`` and ``a / 2`` make new ones. Target vectors and
    indices are buffers.

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
        """The objectives that an expression is made of, from left to right."""
        yield self

    def select(self, images: Sequence[int]) -> Objective:
        """The objective of a batch that holds only the given images of this objective's batch.

        An objective for one image returns itself. An objective for several images overrides this method; for a single
        image it returns that image's own objective, ``objective.select([i])``.
        """
        return self

    def __add__(self, other: Objective | float) -> Objective:
        return _combine([(1.0, self), (1.0, other)])

    __radd__ = __add__

    def __sub__(self, other: Objective | float) -> Objective:
        return _combine([(1.0, self), (-1.0, other)])

    def __rsub__(self, other: float) -> Objective:
        return _combine([(1.0, other), (-1.0, self)])

    def __neg__(self) -> Objective:
        return _combine([(-1.0, self)])

    def __mul__(self, other: Objective | float) -> Objective:
        if isinstance(other, Objective):
            return Product(self, other)
        return _combine([(_to_float(other), self)])

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Objective:
        if _to_float(other) == 0:
            raise InvalidInput(f"({self.spec}) / 0 was given; expected a number other than 0 to divide by")
        return _combine([(1.0 / other, self)])

    def __repr__(self) -> str:
        return self.spec


class _Combination(Objective):
    """An objective that is made of other objectives, its ``terms``: abstract."""

    def __init__(self, terms: Sequence[Objective], spec: str, n: int) -> None:
        layers = [layer for term in terms for layer in term.layers]
        super().__init__(layers, spec, n, across_batch=any(term.across_batch for term in terms))
        self._terms = nn.ModuleList(terms)

    @property
    def terms(self) -> list[Objective]:
        return [term for term in self._terms if isinstance(term, Objective)]

    def leaves(self) -> Iterator[Objective]:
        for term in self.terms:
            yield from term.leaves()


@final
class Linear(_Combination):
    """``constant + sum of weight * objective``: the result of ``+``, ``-`` and of products with numbers."""

    def __init__(self, terms: Sequence[tuple[float, Objective]], constant: float = 0.0) -> None:
        objectives = [objective for _, objective in terms]
        super().__init__(objectives, _format_linear(terms, constant), _count_images(objectives))
        self.weights, self.constant = tuple(weight for weight, _ in terms), constant

    def forward(self, activations: Activations) -> Tensor:
        total: Tensor | None = None
        for weight, term in zip(self.weights, self.terms, strict=True):
            score = term(activations) if weight == 1 else weight * term(activations)
            total = score if total is None else total + score
        if total is None:
            total = torch.zeros_like(activations.rows.image, dtype=torch.float32)
        return total + self.constant if self.constant else total

    def select(self, images: Sequence[int]) -> Objective:
        if self.n == 1:
            return self
        selected = [(weight, term.select(images)) for weight, term in zip(self.weights, self.terms, strict=True)]
        return Linear(selected, self.constant)


@final
class Product(_Combination):
    """``a * b``, view by view."""

    def __init__(self, first: Objective, second: Objective) -> None:
        terms = [first, second]
        super().__init__(terms, f"{_format_factor(first)}*{_format_factor(second)}", _count_images(terms))

    def forward(self, activations: Activations) -> Tensor:
        first, second = self.terms
        return first(activations) * second(activations)

    def select(self, images: Sequence[int]) -> Objective:
        first, second = self.terms
        return self if self.n == 1 else Product(first.select(images), second.select(images))


@final
class PerImage(_Combination):
    """Image i of a batch gets objective i.

    For many units of one layer, ``Channel("features.12", [3, 14, 15])`` is one gather and faster.

    >>> from featureviz.objectives.leaves import Channel
    >>> PerImage([Channel("features.3", 1), -Channel("features.5", 2)])
    [features.3:1, -features.5:2]
    """

    def __init__(self, objectives: Iterable[Objective]) -> None:
        terms = list(objectives)
        if not terms or any(term.n != 1 for term in terms):
            raise InvalidInput(f"PerImage got {terms}; expected at least one objective, each for a single image")
        super().__init__(terms, f"[{', '.join(term.spec for term in terms)}]", len(terms))

    def forward(self, activations: Activations) -> Tensor:
        terms, images = self.terms, activations.rows.images
        if max(images) >= len(terms):
            raise InvalidInput(f"PerImage has {len(terms)} objectives; image {max(images)} has none")
        return torch.cat([terms[i](a) for i, a in zip(images, activations.per_image(), strict=True)])

    def select(self, images: Sequence[int]) -> Objective:
        selected = [self.terms[i] for i in images]
        return selected[0] if len(selected) == 1 else PerImage(selected)


def _combine(terms: Iterable[tuple[float, Objective | float]]) -> Linear:
    """The weighted sum; sums inside it are expanded and numbers are added up."""
    flat: list[tuple[float, Objective]] = []
    constant = 0.0
    for weight, term in terms:
        if isinstance(term, Linear):
            flat += [(weight * w, o) for w, o in zip(term.weights, term.terms, strict=True)]
            constant += weight * term.constant
        elif isinstance(term, Objective):
            flat.append((weight, term))
        else:
            constant += weight * _to_float(term)
    return Linear(flat, constant)


def _to_float(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise TypeError(f"an objective cannot be combined with {value!r}; expected an objective or a number")


def _count_images(terms: Sequence[Objective]) -> int:
    counts = {term.n for term in terms if term.n != 1}
    if len(counts) > 1:
        given = ", ".join(f"{term.spec} ({term.n})" for term in terms)
        raise InvalidInput(f"objectives for different numbers of images cannot be combined: {given}")
    return counts.pop() if counts else 1


def _format_linear(terms: Sequence[tuple[float, Objective]], constant: float) -> str:
    signed = [(weight, _format_term(weight, objective)) for weight, objective in terms]
    if constant or not terms:
        signed.append((constant, format_value(abs(constant))))
    first, *rest = signed
    return ("-" if first[0] < 0 else "") + first[1] + "".join(f" {'-' if w < 0 else '+'} {text}" for w, text in rest)


def _format_term(weight: float, objective: Objective) -> str:
    """The term without its sign."""
    if weight == 1:
        return objective.spec
    return _format_factor(objective) if weight == -1 else f"{format_value(abs(weight))}*{_format_factor(objective)}"


def _format_factor(objective: Objective) -> str:
    """The objective as a factor: a sum or a product in parentheses, so that it is parsed as it was built."""
    return f"({objective.spec})" if isinstance(objective, (Linear, Product)) else objective.spec
