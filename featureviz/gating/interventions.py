"""Holding a network's gates: to a value, to their natural mean, to another image's, for as long as a block lasts.

    with fv.clamp(model, "features.12.block.2", 1.0):
        picture = fv.render(model, "features.13:7")  # what would it look for, were those gates always open?

Each one is a value on a context variable: it counts for what this thread begins while the block lasts. They nest, and
the later one sees what the earlier one left. Renders made meanwhile name them in their recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.naming import Units, as_units
from featureviz.network.in_force import Change, Intervention, intervening
from featureviz.network.model import TappedModel, tapped
from featureviz.network.site import GateSite, NaturalGates

Sites = str | GateSite | Iterable[str | GateSite]


@contextmanager
def clamp(model: TappedModel, sites: Sites, value: float | Tensor, units: Units | None = None) -> Iterator[TappedModel]:
    """Hold gates at ``value``: a number, or ``[C]`` of them; they no longer look at the image.

    Args:
        model: the network; changed for as long as the block lasts.
        sites: a gated block, or several.
        value: of the gates; 1 lets everything pass, 0 nothing.
        units: the channels to hold; all of them if left out.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> with clamp(model, "features.9.block.2", 0.5):
    ...     values = model(torch.rand(1, 3, 64, 64), ["gate value:features.9.block.2"])
    >>> values["gate value:features.9.block.2"].unique()
    tensor([0.5000])
    """
    with _values(model, sites, units, "clamp", _told(value), partial(_held, value)):
        yield model


@contextmanager
def scale(
    model: TappedModel, sites: Sites, factor: float | Tensor, units: Units | None = None
) -> Iterator[TappedModel]:
    """Multiply gates by ``factor``, a number or ``[C]``: at 0 the block's channels are gone, at 1 nothing happens."""
    with _values(model, sites, units, "scale", _told(factor), partial(_scaled, factor)):
        yield model


@contextmanager
def shift(
    model: TappedModel, sites: Sites, amount: float | Tensor, units: Units | None = None
) -> Iterator[TappedModel]:
    """Add ``amount``, a number or ``[C]``, to the gates' logits: they still look at the image, from another bias."""
    with _values(model, sites, units, "shift", _told(amount), partial(_shifted, amount), logits=True):
        yield model


@contextmanager
def mean_ablate(
    model: TappedModel, sites: Sites, natural: NaturalGates, units: Units | None = None
) -> Iterator[TappedModel]:
    """Hold gates at their mean over natural images: what is left is the network without their reaction."""
    with ExitStack() as stack:
        for site in _chosen(model, sites):
            stack.enter_context(clamp(model, site, natural[site.name].value_mean, units))
        yield model


@contextmanager
def resample(
    model: TappedModel, sites: Sites, order: Sequence[int], units: Units | None = None
) -> Iterator[TappedModel]:
    """Give image i of a batch the gates of image ``order[i]``: ``[1, 0]`` exchanges two.

    The batch must hold ``len(order)`` images, each with the same number of views.
    """
    if not order or any(not 0 <= i < len(order) for i in order):
        raise InvalidInput(f"order={list(order)} was given; expected an image from 0 to {len(order) - 1} for each")
    with _values(model, sites, units, "resample", str(list(order)), partial(_swapped, tuple(order))):
        yield model


@contextmanager
def stop_gradient(model: TappedModel, sites: Sites, units: Units | None = None) -> Iterator[TappedModel]:
    """Let gates act, but no gradient pass through them: what remains is what flowed through the content."""
    with _values(model, sites, units, "stop_gradient", "", Tensor.detach):
        yield model


@contextmanager
def _values(
    model: TappedModel, sites: Sites, units: Units | None, kind: str, told: str, change: Change, logits: bool = False
) -> Iterator[None]:
    """While it lasts, ``change`` is done to the values, or the logits, of ``units``."""
    of = "" if units is None else f":{as_units(units, kind)[1]}"
    with intervening(
        [
            Intervention(
                model.key, site.gate, change, f"{kind} {site.name}{of} {told}".strip(),
                None if units is None else _index(site, units, model.device), logits,
            )
            for site in _chosen(model, sites)
        ]
    ):  # fmt: skip
        yield


def _held(value: float | Tensor, flat: Tensor) -> Tensor:
    return _like(value, flat).expand_as(flat)


def _scaled(factor: float | Tensor, flat: Tensor) -> Tensor:
    return flat * _like(factor, flat)


def _shifted(amount: float | Tensor, flat: Tensor) -> Tensor:
    return flat + _like(amount, flat)


def _swapped(order: tuple[int, ...], flat: Tensor) -> Tensor:
    if len(flat) % len(order):
        raise InvalidInput(f"swap has an order of {len(order)} images; a batch of {len(flat)} views was given")
    images = flat.unflatten(0, (len(order), -1))
    return torch.stack([images[i] for i in order]).flatten(0, 1)


def _like(value: float | Tensor, flat: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        return torch.full((1, 1), value, dtype=flat.dtype, device=flat.device)
    if value.numel() not in (1, flat.shape[1]):
        raise InvalidInput(
            f"{value.numel()} numbers were given for a block of {flat.shape[1]} gates; expected one, or one each"
        )
    return value.to(flat).flatten()[None]


def _chosen(model: TappedModel, sites: Sites) -> list[GateSite]:
    several = [sites] if isinstance(sites, (str, GateSite)) else list(sites)
    return [tapped(model).gates.at(s) for s in several]


def _index(site: GateSite, units: Units, device: torch.device) -> Tensor:
    """``[1,C]``: which channels are meant."""
    numbers, _ = as_units(units, f"gate {site.name!r}")
    if site.spatial or max(numbers) >= site.channels:
        held = "one value a position" if site.spatial else f"{site.channels} channels: 0 to {site.channels - 1}"
        raise InvalidInput(f"units={units} of {site.name!r} were given; it has {held}")
    index = torch.zeros(1, site.channels, dtype=torch.bool, device=device)
    index[0, list(numbers)] = True
    return index


def _told(value: float | Tensor) -> str:
    return f"{value:g}" if not isinstance(value, Tensor) else f"{value.numel()} numbers"
