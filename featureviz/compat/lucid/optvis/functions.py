"""Objectives of functions: of activations, and of Lucid's T, whose layers are learnt when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from featureviz.checks import whole
from featureviz.errors import InvalidInput
from featureviz.image import Parameterization
from featureviz.network.activations import Activations
from featureviz.network.model import TappedModel
from featureviz.objectives.algebra import Linear, Objective, PerImage, Product, combine


@final
class Formula(Objective):
    """A function of activations and of tensors that it needs: ``[M]`` scores."""

    def __init__(
        self,
        name: str,
        layers: Sequence[str],
        function: Callable[..., Tensor],
        *tensors: Tensor,
        across_batch: bool = False,
    ) -> None:
        super().__init__(layers, name, across_batch=across_batch)
        self.function, self.count = function, len(tensors)
        for i, tensor in enumerate(tensors):
            self.register_buffer(f"tensor{i}", tensor)

    def forward(self, activations: Activations) -> Tensor:
        return self.function(activations, *(getattr(self, f"tensor{i}") for i in range(self.count)))


@final
class InImage(Objective):
    """An objective that rewards one image of a batch, by its place."""

    def __init__(self, goal: Objective, place: int) -> None:
        super().__init__(goal.layers, f"({goal.spec} in image {place})", across_batch=True)
        self.goal, self.place = goal, whole("batch", place)

    def forward(self, activations: Activations) -> Tensor:
        if self.place not in activations.rows.images:
            raise InvalidInput(f"batch={self.place} was given; the images are 0 to {max(activations.rows.images)}")
        score = self.goal(activations)
        return torch.where(activations.rows.image == self.place, score, torch.zeros_like(score))


def only(goal: Objective, place: int | None) -> Objective:
    """The objective for one image of a batch, or for all."""
    return goal if place is None else InImage(goal, place)


@final
class FunctionOfT(Objective):
    """A function of Lucid's T, which gives a tensor ``[N,H,W,C]`` for the name of a layer; it returns one number.

    It is called for each image alone. ``bind`` finds out which layers it asks for.
    """

    def __init__(self, function: Callable[[Any], Any], name: str, layers: Sequence[str] = ()) -> None:
        super().__init__(layers, name)
        self.function = function

    def forward(self, activations: Activations) -> Tensor:
        if not self.layers:
            raise InvalidInput(f"{self.spec} has not been bound to a model; render it with render_vis")
        rows = len(activations.rows)
        return torch.stack([self._score(activations, i) for i in range(rows)])

    def _score(self, activations: Activations, row: int) -> Tensor:
        def get(layer: str) -> Tensor:
            if layer not in activations:
                raise _Wanted(layer)
            tensor = activations.channels_first(layer)[row : row + 1]
            return tensor.movedim(1, -1) if tensor.ndim > 2 else tensor

        return torch.as_tensor(self.function(get)).float().mean()

    def bound(self, model: TappedModel, images: Tensor) -> FunctionOfT:
        """The same with its layers, which are learnt from calls on ``images`` until it asks for no other."""
        layers: list[str] = []
        while True:
            try:
                FunctionOfT(self.function, self.spec, layers or ["input"])(model(images, layers or ["input"]))
                return FunctionOfT(self.function, self.spec, layers or ["input"])
            except _Wanted as wanted:
                layers.append(wanted.layer)


class _Wanted(Exception):
    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


def bind(goal: Objective, model: TappedModel, image: Parameterization) -> Objective:
    """The goal with the layers of all functions of T in it."""
    if not any(isinstance(leaf, FunctionOfT) for leaf in _walk(goal)):
        return goal
    with torch.no_grad():
        images = image()[:1, : model.channels].to(model.device)
        images = nn.functional.interpolate(images, model.input_size((images.shape[-2], images.shape[-1])))
        return _bound(goal, model, images)


def _walk(goal: Objective) -> list[Objective]:
    parts = goal.terms if isinstance(goal, (Linear, Product, PerImage)) else []
    inner = [goal.goal] if isinstance(goal, InImage) else []
    return [goal, *(leaf for part in [*parts, *inner] for leaf in _walk(part))]


def _bound(goal: Objective, model: TappedModel, images: Tensor) -> Objective:
    if isinstance(goal, FunctionOfT):
        return goal.bound(model, images)
    if isinstance(goal, Linear):
        terms = [(w, _bound(term, model, images)) for w, term in zip(goal.weights, goal.terms, strict=True)]
        return combine([*terms, (1.0, goal.constant)])
    if isinstance(goal, (Product, PerImage)):
        return type(goal)([_bound(term, model, images) for term in goal.terms])
    return InImage(_bound(goal.goal, model, images), goal.place) if isinstance(goal, InImage) else goal
