"""Interventions on a network's gates for the length of a ``with`` block: fixed, scaled, shifted, averaged, exchanged.

    with fv.clamp(model, "features.12.block.2", 1.0):
        rendering = fv.render(model, "features.13:7")  # what excites this channel if those gates are always open?

An intervention is a value on a context variable: it affects what this thread starts inside the block. Interventions
nest, and the inner one gets the result of the outer one. A render that starts inside the block names them in its
recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featureviz.checks import entries, finite, holds_numbers, show, wholes
from featureviz.errors import InvalidInput, UnknownName
from featureviz.naming import Units, parse_units
from featureviz.network.in_force import Change, Intervention, intervening
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import GateSite, NaturalGates

Value = float | Tensor | np.ndarray | Sequence[float]
Sites = str | GateSite | Iterable[str | GateSite]
Changed = AbstractContextManager[TappedModel]  # the model, changed inside the ``with`` block only


def clamp(model: TappedModel, sites: Sites, value: Value, units: Units | None = None) -> Changed:
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
    row = _to_row("value", value)
    return _intervene(model, sites, units, _change_by(row, _replace), "clamp", _describe(row))


def scale(model: TappedModel, sites: Sites, factor: Value, units: Units | None = None) -> Changed:
    """Multiply gates by ``factor``, a number or ``[C]``: 0 removes the block's channels, 1 changes nothing."""
    row = _to_row("factor", factor)
    return _intervene(model, sites, units, _change_by(row, torch.mul), "scale", _describe(row))


def shift(model: TappedModel, sites: Sites, amount: Value, units: Units | None = None) -> Changed:
    """Add ``amount``, a number or ``[C]``, to the gates' logits, as another bias would; they still see the image."""
    row = _to_row("amount", amount)
    return _intervene(model, sites, units, _change_by(row, torch.add), "shift", _describe(row), logits=True)


def mean_ablate(model: TappedModel, sites: Sites, natural: NaturalGates, units: Units | None = None) -> Changed:
    """Set gates to their mean over natural images, so that they no longer react to the image."""

    def make_change(site: GateSite) -> Change:
        try:
            mean = natural[site.name].value_mean
        except UnknownName:
            raise
        except (TypeError, AttributeError, LookupError) as error:
            raise InvalidInput(f"natural={show(natural)} was given; expected fv.lab.GateStatistics") from error
        return _change_by(_to_row("natural mean", mean), _replace)(site)

    return _intervene(model, sites, units, make_change, "mean_ablate")


def resample(model: TappedModel, sites: Sites, order: Sequence[int], units: Units | None = None) -> Changed:
    """Give image i of a batch the gates of image ``order[i]``: ``[1, 0]`` exchanges those of two images.

    The batch must hold ``len(order)`` images; a batch of another size is an error. It is never split.
    """
    indices = wholes("order", order)
    count = len(indices)
    if not count or max(indices) >= count:
        raise InvalidInput(f"order={show(order)} was given; expected an image from 0 to {count - 1} for each")

    def change(gates: Tensor) -> Tensor:
        if len(gates) % count:
            raise InvalidInput(f"resample got an order of {count} images; {len(gates)} views are no views of so many")
        images = gates.unflatten(0, (count, -1))
        return torch.stack([images[i] for i in indices]).flatten(0, 1)

    return _intervene(model, sites, units, lambda _site: change, "resample", str(indices), images=count)


def stop_gradient(model: TappedModel, sites: Sites, units: Units | None = None) -> Changed:
    """Keep the gates' values but stop their gradient, so that gradients flow through the map x alone."""
    return _intervene(model, sites, units, lambda _site: Tensor.detach, "stop_gradient")


@contextmanager
def _intervene(
    model: TappedModel,
    sites: Sites,
    units: Units | None,
    make_change: Callable[[GateSite], Change],
    kind: str,
    detail: str = "",
    **options: Any,
) -> Iterator[TappedModel]:
    """Inside the block the change of each site is applied to the values, or to the logits, of ``units``."""
    suffix = "" if units is None else f":{parse_units(units, kind)[1]}"
    interventions = [
        Intervention(
            model.key, site.gate, make_change(site), f"{kind} {site.name}{suffix} {detail}".strip(),
            None if units is None else _mask(site, units, model.device), **options,
        )
        for site in _resolve(model, sites)
    ]  # fmt: skip
    with intervening(interventions):
        yield model


def _to_row(name: str, value: Value) -> float | Tensor:
    """The value, checked: a number, or a tensor of some."""
    try:
        several = isinstance(value, (list, tuple, np.ndarray))
        row = torch.as_tensor(np.asarray(value, dtype=np.float64), device="cpu") if several else value
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name}={show(value)} was given; expected a number, or one for each gate") from error
    if not isinstance(row, Tensor) or not (row.ndim or row.requires_grad):
        return finite(name, row)
    if not holds_numbers(row) or row.dtype == torch.bool or not bool(row.isfinite().all()):
        raise InvalidInput(f"{name}={show(value)} was given; expected finite numbers")
    return row


def _change_by(row: float | Tensor, work: Callable[[Tensor, Tensor], Tensor]) -> Callable[[GateSite], Change]:
    """For a site, the change ``work(gates, row)`` with the row as ``[1,1]`` or ``[1,C]``."""

    def make_change(site: GateSite) -> Change:
        count = row.numel() if isinstance(row, Tensor) else 1
        if count != 1 and (site.spatial or count != site.channels):
            has = "one gate for each position" if site.spatial else f"{site.channels} gates"
            raise InvalidInput(
                f"{count} numbers were given for {site.name!r}, a block of {has}; expected one number"
                f"{'' if site.spatial else ', or one for each gate'}"
            )
        return lambda gates: work(gates, _like(row, gates))

    return make_change


def _like(row: float | Tensor, gates: Tensor) -> Tensor:
    """``[1,1]`` or ``[1,C]``; a number does not come from the host."""
    if isinstance(row, Tensor):
        return row.to(gates).flatten()[None]
    return torch.full((1, 1), row, dtype=gates.dtype, device=gates.device)


def _replace(gates: Tensor, row: Tensor) -> Tensor:
    return row.expand_as(gates)


def _resolve(model: TappedModel, sites: Sites) -> list[GateSite]:
    named: list[Any] = [sites] if isinstance(sites, str | GateSite) else entries("sites", sites, of="gated blocks")
    for site in named:
        if not isinstance(site, (str, GateSite)):
            raise InvalidInput(f"sites={show(sites)} was given; expected the name of a gated block, or a list of them")
    return [tapped(model).gates.resolve(site) for site in named]


def _mask(site: GateSite, units: Units, device: torch.device) -> Tensor:
    """``[1,C]``: True for the channels in ``units``."""
    numbers, _ = parse_units(units, f"gate {site.name!r}")
    if site.spatial or max(numbers) >= site.channels:
        size = "one gate for each position" if site.spatial else f"{site.channels} channels: 0 to {site.channels - 1}"
        raise InvalidInput(f"units={units} of {site.name!r} were given; it has {size}")
    mask = torch.zeros(1, site.channels, dtype=torch.bool, device=device)
    mask[0, list(numbers)] = True
    return mask


def _describe(row: float | Tensor) -> str:
    return f"{row:g}" if not isinstance(row, Tensor) else f"{row.numel()} numbers"
