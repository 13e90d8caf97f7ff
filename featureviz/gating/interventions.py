"""Interventions on a network's gates for the length of a ``with`` block: fixed, scaled, shifted, averaged, exchanged.

    with fv.clamp(model, "features.12.block.2", 1.0):
        rendering = fv.render(model, "features.13:7")  # what excites this channel if those gates are always open?

An intervention is a value on a context variable: it affects what this thread starts inside the block. Interventions
nest, and the inner one gets the result of the outer one. A render that starts inside the block names them in its
recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.naming import Units, parse_units
from featureviz.network.in_force import Change, Intervention, intervening
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import GateSite, NaturalGates

Sites = str | GateSite | Iterable[str | GateSite]
Changed = AbstractContextManager[TappedModel]  # the model, changed inside the ``with`` block only


def clamp(model: TappedModel, sites: Sites, value: float | Tensor, units: Units | None = None) -> Changed:
    """Set gates to ``value``: a number, or ``[C]`` of them. The gates then no longer depend on the image.

    Args:
        sites: a gated block, or several.
        value: of the gates; 1 passes a channel on unchanged, 0 removes it.
        units: the channels to set; None for all.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> with clamp(model, "features.9.block.2", 0.5):
    ...     values = model(torch.rand(1, 3, 64, 64), ["gate value:features.9.block.2"])
    >>> values["gate value:features.9.block.2"].unique()
    tensor([0.5000])
    """

    def change(gates: Tensor) -> Tensor:
        return _to_row(value, gates).expand_as(gates)

    return _intervene(model, sites, units, change, "clamp", _describe(value))


def scale(model: TappedModel, sites: Sites, factor: float | Tensor, units: Units | None = None) -> Changed:
    """Multiply gates by ``factor``, a number or ``[C]``: 0 removes the block's channels, 1 changes nothing."""
    return _intervene(model, sites, units, lambda gates: gates * _to_row(factor, gates), "scale", _describe(factor))


def shift(model: TappedModel, sites: Sites, amount: float | Tensor, units: Units | None = None) -> Changed:
    """Add ``amount``, a number or ``[C]``, to the gates' logits, as another bias would; they still see the image."""
    return _intervene(
        model, sites, units, lambda logits: logits + _to_row(amount, logits), "shift", _describe(amount), logits=True
    )


@contextmanager
def mean_ablate(
    model: TappedModel, sites: Sites, natural: NaturalGates, units: Units | None = None
) -> Iterator[TappedModel]:
    """Set gates to their mean over natural images, so that they no longer react to the image."""
    with ExitStack() as stack:
        for site in _resolve(model, sites):
            stack.enter_context(clamp(model, site, natural[site.name].value_mean, units))
        yield model


def resample(model: TappedModel, sites: Sites, order: Sequence[int], units: Units | None = None) -> Changed:
    """Give image i of a batch the gates of image ``order[i]``: ``[1, 0]`` exchanges those of two images.

    The batch must hold ``len(order)`` images, each with the same number of views.
    """
    order = tuple(order)
    if not order or any(not 0 <= i < len(order) for i in order):
        raise InvalidInput(f"order={list(order)} was given; expected an image from 0 to {len(order) - 1} for each")

    def change(gates: Tensor) -> Tensor:
        if len(gates) % len(order):
            raise InvalidInput(
                f"resample got an order of {len(order)} images; a batch of {len(gates)} views cannot be divided among"
                " them"
            )
        images = gates.unflatten(0, (len(order), -1))
        return torch.stack([images[i] for i in order]).flatten(0, 1)

    return _intervene(model, sites, units, change, "resample", str(list(order)))


def stop_gradient(model: TappedModel, sites: Sites, units: Units | None = None) -> Changed:
    """Keep the gates' values but stop their gradient, so that gradients flow through the map x alone."""
    return _intervene(model, sites, units, Tensor.detach, "stop_gradient")


@contextmanager
def _intervene(
    model: TappedModel,
    sites: Sites,
    units: Units | None,
    change: Change,
    kind: str,
    detail: str = "",
    logits: bool = False,
) -> Iterator[TappedModel]:
    """Inside the block ``change`` is applied to the values, or to the logits, of ``units``."""
    suffix = "" if units is None else f":{parse_units(units, kind)[1]}"
    interventions = [
        Intervention(
            model.key, site.gate, change, f"{kind} {site.name}{suffix} {detail}".strip(),
            None if units is None else _mask(site, units, model.device), logits,
        )
        for site in _resolve(model, sites)
    ]  # fmt: skip
    with intervening(interventions):
        yield model


def _to_row(value: float | Tensor, gates: Tensor) -> Tensor:
    """``[1,1]`` or ``[1,C]`` like the gates."""
    if not isinstance(value, Tensor):
        return torch.full((1, 1), value, dtype=gates.dtype, device=gates.device)
    if value.numel() not in (1, gates.shape[1]):
        raise InvalidInput(
            f"{value.numel()} numbers were given for a block of {gates.shape[1]} gates; expected one, or one each"
        )
    return value.to(gates).flatten()[None]


def _resolve(model: TappedModel, sites: Sites) -> list[GateSite]:
    return [tapped(model).gates.resolve(s) for s in ([sites] if isinstance(sites, (str, GateSite)) else sites)]


def _mask(site: GateSite, units: Units, device: torch.device) -> Tensor:
    """``[1,C]``: True for the channels in ``units``."""
    numbers, _ = parse_units(units, f"gate {site.name!r}")
    if site.spatial or max(numbers) >= site.channels:
        size = "one gate for each position" if site.spatial else f"{site.channels} channels: 0 to {site.channels - 1}"
        raise InvalidInput(f"units={units} of {site.name!r} were given; it has {size}")
    mask = torch.zeros(1, site.channels, dtype=torch.bool, device=device)
    mask[0, list(numbers)] = True
    return mask


def _describe(value: float | Tensor) -> str:
    return f"{value:g}" if not isinstance(value, Tensor) else f"{value.numel()} numbers"
