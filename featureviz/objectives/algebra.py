"""Objectives and their algebra: what an image is optimised for. The leaves are in ``leaves`` and ``gate_leaves``."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from featureviz.checks import finite, show
from featureviz.errors import InvalidInput, WrongType
from featureviz.naming import (
    as_list,
    call_name,
    check_count,
    format_number,
    quote,
    select_entries,
    shorten,
    write_call,
    write_value,
)
from featureviz.network.activations import Activations
from featureviz.network.site import GateSite

DEEPEST = 50  # sums of products of sums...: copying and pickling are recursive


class Objective(nn.Module, ABC):
    """A score for every view, higher is better: abstract.

    Args:
        layers: the activations it reads, known before any forward, so that the network can stop at the last of them.
        spec: its text as ``fv.parse`` reads it; ``repr`` prints it. By default the class's name and the arguments
            that it was made with: ``fv.parse(spec, {"Own": Own})`` makes it again.
        n: how many images it describes; 1 stands for any number of images with the same goal.
        across_batch: whether a score depends on the other images of the batch; such a batch is never split.

    ``forward(activations) -> [M]``: one score for each view, and score i depends on row i alone. Objectives are
    immutable: ``a + b``, ``a - b``, ``2 * a``, ``a * b``, ``-a`` and ``a / 2`` make new ones. Target vectors and
    indices are buffers.

    >>> from featureviz.objectives.leaves import Channel
    >>> 2 * Channel("features.12", 17) - Channel("features.3", 4) / 2
    2*features.12:17 - 0.5*features.3:4
    """

    __array_ufunc__ = None  # a numpy number times an objective is an objective, not an array
    _depth = 0  # of combinations in combinations
    _call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})  # what it is being made with
    layers: tuple[str, ...]
    spec: str
    n: int
    across_batch: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments for the spec until ``__init__`` has written it."""
        made = super().__new__(cls)
        if args or kwargs:
            object.__setattr__(made, "_call", (args, kwargs))
        return made

    def __init__(self, layers: Iterable[str], spec: str = "", n: int = 1, *, across_batch: bool = False) -> None:
        super().__init__()
        args, kwargs = self._call
        if args or kwargs:
            object.__delattr__(self, "_call")
        names = list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else [None]
        if not all(isinstance(name, str) for name in names):
            raise InvalidInput(f"{type(self).__name__} reads layers={show(layers)}; expected a list of names in quotes")
        spec = spec or _describe(type(self), args, kwargs)
        self._set(layers=tuple(dict.fromkeys(names)), spec=spec, n=n, across_batch=across_batch)

    def _set(self, **values: Any) -> None:
        """Set plain attributes, without what ``nn.Module`` does for tensors: a sum may have 10,000 leaves."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

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
        return combine([(1.0, self), (1.0, other)])

    __radd__ = __add__

    def __sub__(self, other: Objective | float) -> Objective:
        return combine([(1.0, self), (-1.0, other)])

    def __rsub__(self, other: float) -> Objective:
        return combine([(1.0, other), (-1.0, self)])

    def __neg__(self) -> Objective:
        return combine([(-1.0, self)])

    def __mul__(self, other: Objective | float) -> Objective:
        if isinstance(other, Objective):
            return Product([self, other])
        return combine([(_to_float(other), self)])

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Objective:
        divisor = _to_float(other)
        if divisor == 0:
            raise InvalidInput(f"({self.spec}) / 0 was given; expected a number other than 0 to divide by")
        return combine([(1.0 / divisor, self)])

    def __repr__(self) -> str:
        return self.spec


class _Combination(Objective):
    """An objective that is made of other objectives, its ``terms``: abstract."""

    def __init__(self, terms: Sequence[Objective], spec: str, n: int) -> None:
        depth = 1 + max((term._depth for term in terms), default=0)
        if depth > DEEPEST:
            raise InvalidInput(f"{shorten(spec, 200)} is nested {depth} deep; expected at most {DEEPEST}")
        layers = [layer for term in terms for layer in term.layers]
        super().__init__(layers, spec, n, across_batch=any(term.across_batch for term in terms))
        self._depth, self._terms = depth, nn.ModuleList(terms)

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
        for number in (constant, *(weight for weight, _ in terms)):
            finite("a weight or a constant", number)  # a product of finite ones may be infinite
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
        return combine([*selected, (1.0, self.constant)])


@final
class Product(_Combination):
    """``a * b * ...``, view by view; products inside it are expanded."""

    def __init__(self, factors: Iterable[Objective]) -> None:
        terms = [term for factor in factors for term in (factor.terms if isinstance(factor, Product) else [factor])]
        super().__init__(terms, "*".join(map(_format_factor, terms)), _count_images(terms))

    def forward(self, activations: Activations) -> Tensor:
        first, *rest = self.terms
        product = first(activations)
        for term in rest:
            product = product * term(activations)
        return product

    def select(self, images: Sequence[int]) -> Objective:
        return self if self.n == 1 else Product([term.select(images) for term in self.terms])


@final
class PerImage(_Combination):
    """Image i of a batch gets objective i.

    For many units of one layer, ``Channel("features.12", [3, 14, 15])`` is one gather and faster.

    >>> from featureviz.objectives.leaves import Channel
    >>> PerImage([Channel("features.3", 1), -Channel("features.5", 2)])
    [features.3:1, -features.5:2]
    """

    def __init__(self, objectives: Iterable[Objective]) -> None:
        terms = as_list(objectives)
        if not terms or any(not isinstance(term, Objective) or term.n != 1 for term in terms):
            raise InvalidInput(
                f"PerImage got {show(objectives)}; expected at least one objective, each for a single image"
            )
        check_count(len(terms))
        super().__init__(terms, f"[{', '.join(term.spec for term in terms)}]", len(terms))

    def forward(self, activations: Activations) -> Tensor:
        terms, images = self.terms, activations.rows.images
        if len(terms) == 1:
            return terms[0](activations)  # one objective is for any number of images
        if max(images) >= len(terms):
            raise InvalidInput(f"PerImage has {len(terms)} objectives; image {max(images)} has none")
        return torch.cat([terms[i](a) for i, a in zip(images, activations.per_image(), strict=True)])

    def select(self, images: Sequence[int]) -> Objective:
        if self.n == 1:
            return self.terms[0]
        selected = select_entries(self.terms, images)
        return PerImage(selected) if isinstance(selected, list) else selected


def combine(terms: Iterable[tuple[float, Objective | float]]) -> Objective:
    """The weighted sum; sums inside it are expanded, numbers are added up, and ``1 * a + 0`` is a."""
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
    return flat[0][1] if len(flat) == 1 and flat[0][0] == 1 and not constant else Linear(flat, constant)


@write_value.register
def _(value: GateSite) -> str:
    return quote(value.name)


@write_value.register
def _(value: Objective) -> str:
    return f"({value.spec})" if value.spec.startswith("[") else value.spec  # brackets alone are a list of values


def _describe(made: type[Objective], args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """The call that makes an objective, with the defaults of the parameters that were left out."""
    bound = inspect.signature(made.__init__).bind_partial(None, *args, **kwargs)
    bound.apply_defaults()
    return write_call(call_name(made), bound.args[1:], bound.kwargs)


def _to_float(value: Any) -> float:
    try:
        return finite("a number", value)
    except InvalidInput:
        what = f"an objective cannot be combined with {show(value)}"
        raise WrongType(f"{what}; expected an objective or a number that is finite") from None


def _count_images(terms: Sequence[Objective]) -> int:
    counts = {term.n for term in terms if term.n != 1}
    if len(counts) > 1:
        given = ", ".join(f"{shorten(term.spec, 100)} ({term.n})" for term in terms[:10])
        raise InvalidInput(f"objectives for different numbers of images cannot be combined: {given}")
    return counts.pop() if counts else 1


def _format_linear(terms: Sequence[tuple[float, Objective]], constant: float) -> str:
    """The sum; its constant is in parentheses, since ``features.6:0-7`` looks like a range."""
    signed = [(weight, _format_term(weight, objective)) for weight, objective in terms]
    if constant or not terms:
        signed.append((constant, f"({format_number(abs(constant))})"))
    first, *rest = signed
    return ("-" if first[0] < 0 else "") + first[1] + "".join(f" {'-' if w < 0 else '+'} {text}" for w, text in rest)


def _format_term(weight: float, objective: Objective) -> str:
    """The term without its sign."""
    if weight == 1:
        return objective.spec
    return _format_factor(objective) if weight == -1 else f"{format_number(abs(weight))}*{_format_factor(objective)}"


def _format_factor(objective: Objective) -> str:
    """The objective as a factor: a sum or a product in parentheses, so that it is parsed as it was built."""
    return f"({objective.spec})" if isinstance(objective, (Linear, Product)) else objective.spec
