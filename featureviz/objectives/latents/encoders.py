"""Dictionaries: encoders of sparse autoencoders, which read many latents from one layer."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from featureviz.checks import choice, entries, finite, holds_numbers, instance, show, whole
from featureviz.errors import InvalidInput
from featureviz.naming import quote_layer
from featureviz.network.model import TappedModel, tapped
from featureviz.objectives.leaves import Direction

PREFIX = "sae:"  # of the layer that a dictionary reads, in ``TappedModel``
Activation = Literal["relu", "topk", "jumprelu"]


@final
class Dictionary(nn.Module):
    """The encoder of a sparse autoencoder: ``f(z)`` with ``z = W (x - centre) + b`` for activations x of C channels.

    Args:
        weight: W, ``[K,C]``; the rows are the directions of the K latents.
        bias: b, ``[K]``; 0 if left out.
        centre: ``[C]``, which is subtracted first; 0 if left out.
        activation: f: "relu"; "topk", the k largest of the relu (Gao et al. 2024); or "jumprelu", z where it exceeds a
            threshold and 0 elsewhere (Rajamanoharan et al. 2024).
        k: of "topk".
        threshold: of "jumprelu", a number or ``[K]``.

    ``dictionary(x)`` is ``[...,K]`` for ``[...,C]``.

    >>> Dictionary(torch.eye(3), centre=torch.ones(3), activation="topk", k=1)(torch.tensor([3.0, 2.0, 0.0]))
    tensor([2., 0., 0.])

    Raises:
        InvalidInput: the shapes do not fit each other, or numbers are not finite.
    """

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        *,
        centre: Any = None,
        activation: Activation = "relu",
        k: int | None = None,
        threshold: Any = None,
    ) -> None:
        super().__init__()
        w = _floats("weight", weight)
        if w.ndim != 2 or not w.numel():
            raise InvalidInput(f"weight of shape {list(w.shape)} was given; expected [K,C], a row for each latent")
        self.weight = nn.Buffer(w)
        self.bias = nn.Buffer(_row("bias", bias, len(w)))
        self.centre = nn.Buffer(_row("centre", centre, w.shape[1]))
        self.activation = choice("activation", activation, ["relu", "topk", "jumprelu"])
        if (k is not None) != (activation == "topk") or (threshold is not None) != (activation == "jumprelu"):
            raise InvalidInput(
                f"activation={activation!r}, k={show(k)}, threshold={show(threshold)} were given; expected k with"
                " 'topk', threshold with 'jumprelu', and neither with 'relu'"
            )
        self.k = None if k is None else whole("k", k, 1, len(w))
        self.threshold = nn.Buffer(_row("threshold", threshold, len(w)))

    def __len__(self) -> int:
        return len(self.weight)

    def __repr__(self) -> str:
        kind = f"topk of {self.k}" if self.k else self.activation
        return f"Dictionary({len(self):,} latents of {self.weight.shape[1]} channels, {kind}, {self.hash})"

    @property
    def hash(self) -> str:
        """Of all numbers, by which a recipe names it."""
        digest = hashlib.blake2b(digest_size=8)
        for tensor in (self.weight, self.bias, self.centre, self.threshold):
            digest.update(tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    def forward(self, x: Tensor) -> Tensor:
        z = torch.nn.functional.linear(x - self.centre, self.weight, self.bias)
        if self.activation == "jumprelu":
            return torch.where(z > self.threshold, z, 0.0)
        positive = z.relu()
        if self.k is None:
            return positive
        kept = positive.topk(self.k, dim=-1)
        return torch.zeros_like(positive).scatter(-1, kept.indices, kept.values)


def dictionary(model: TappedModel, layer: str, encoder: Dictionary, *, name: str) -> TappedModel:
    """A model like ``model``, in which ``sae:NAME:123`` is latent 123 of ``encoder`` at ``layer``.

    ``model`` itself does not change. The encoder is shared, and a recipe names it by its name and a hash.

    Raises:
        InvalidInput: the layer has another number of channels than the encoder, or the name is taken.
    """
    key, encoder = PREFIX + instance("name", name, str), instance("encoder", encoder, Dictionary)
    if not name or key in tapped(model).dictionaries:
        raise InvalidInput(f"name={name!r} was given; expected a name that no dictionary of this model has yet")
    with torch.no_grad():
        channels = model(model.noise_images(1), [layer]).channels_first(layer).shape[1]
    if channels != encoder.weight.shape[1]:
        raise InvalidInput(
            f"the dictionary {name!r} reads {encoder.weight.shape[1]} channels; layer {layer!r} has {channels}"
        )
    twin = copy.copy(model)
    added = {**model.dictionaries, key: (layer, encoder)}
    twin.__dict__.update(_modules=dict(model._modules), dictionaries=added)
    return twin


def directions(layer: str, array: Any, names: Sequence[str]) -> dict[str, Direction]:
    """An objective for each row of ``array`` ``[K,C]``, by its name: linear probes, or concept vectors (CAVs).

    The ``coef_`` of scikit-learn is such an array. A recipe holds all numbers of the direction.

    >>> directions("features.6", [[1.0, 0.5], [0.0, 2.0]], ["stripes", "dots"])["dots"]
    direction:features.6:[0, 2]

    Raises:
        InvalidInput: there is not one name for each row, or two are equal.
    """
    rows, labels = _floats("array", array), entries("names", names, of="names")
    if rows.ndim != 2 or len(rows) != len(labels) or len(set(labels)) != len(labels):
        raise InvalidInput(
            f"array of shape {list(rows.shape)} and {len(labels)} names were given; expected [K,C], K different names"
        )
    quote_layer(layer)  # checked
    return {label: Direction(layer, row) for label, row in zip(labels, rows, strict=True)}


def _floats(name: str, values: Any) -> Tensor:
    try:
        tensor = torch.as_tensor(values, dtype=torch.float32).detach().cpu().clone()
        if not holds_numbers(tensor):
            raise TypeError("it holds no plain real numbers")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidInput(f"{name}={show(values)} was given; expected numbers: {error}") from None
    if not bool(tensor.isfinite().all()):
        raise InvalidInput(f"{name} was given with numbers that are not finite in float32; expected finite ones")
    return tensor


def _row(name: str, values: Any, count: int) -> Tensor:
    """``[count]``; a single number, or none for 0, stands for equal ones."""
    if values is None or isinstance(values, (int, float)):
        return torch.full((count,), finite(name, values or 0.0))
    row = _floats(name, values)
    if row.shape != (count,):
        raise InvalidInput(f"{name} of shape {list(row.shape)} was given; expected [{count}], as the weight has")
    return row
