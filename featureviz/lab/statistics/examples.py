"""The natural images at the ends of a gate's range, seen again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.lab.statistics.pictures import Batch, Pictures, Source, batches, read_picture
from featureviz.network.model import TappedModel
from featureviz.objectives.gate_leaves import Gate

if TYPE_CHECKING:
    from featureviz.lab.statistics.gate_statistics import Example, GateStatistics

TOLERANCE = 0.05  # natural sd: decoders and machines differ by less


@final
@dataclass(frozen=True)
class Sight:
    """A natural image ``[3,H,W]``, its number and name in the statistics, and the gate's logit and value on it."""

    image: int
    name: str | None
    logit: float
    value: float
    picture: Tensor


def sights(
    model: TappedModel, natural: GateStatistics, site: str, unit: int, source: Source, most: int = 8
) -> tuple[list[Sight], list[Sight]]:
    """The images that a gate is shut on most, and open on most, outermost first; none that ``source`` does not hold.

    Args:
        model: the network that was measured.
        natural: its statistics.
        site: the block.
        unit: the gate.
        source: where the images came from: ``Pictures``, or a tensor; of other sources none is found.
        most: so many of each, at most half of the images.

    Raises:
        InvalidInput: an image is there but has another logit: the statistics are of another network or other images.

    >>> import featureviz as fv
    >>> model, images = fv.load("embedded"), torch.rand(4, 3, 64, 64)
    >>> natural = fv.lab.GateStatistics.measure(model, images)
    >>> low, high = sights(model, natural, "features.9.block.2", 7, images)
    >>> len(low), low[0].logit < low[1].logit < high[1].logit < high[0].logit
    (2, True)
    """
    low, high = natural.examples(site, unit, min(most, natural.count // 2))
    return _seen(model, natural, Gate(site, unit), source, low), _seen(model, natural, Gate(site, unit), source, high)


def _seen(
    model: TappedModel, natural: GateStatistics, gate: Gate, source: Source, examples: Sequence[Example]
) -> list[Sight]:
    pairs = [(e, p) for e in examples if (p := _picture(source, e)) is not None]
    if not pairs:
        return []
    site, unit = gate.site_name, gate.units[0]
    with torch.no_grad():
        taken = model(torch.stack([p for _, p in pairs]).to(model.device), [*gate.layers, gate.value_layer])
    logits, values = gate(taken).float().cpu().tolist(), gate.value(taken).float().cpu().tolist()
    slack = TOLERANCE * float(natural[site].logit_sd[unit]) + 1e-3
    for (example, _), logit in zip(pairs, logits, strict=True):
        if not abs(logit - example.logit) <= slack:
            raise InvalidInput(
                f"image {example.name or example.image} brings {gate.spec} to {logit:.3f}, but the statistics say"
                f" {example.logit:.3f}: they are of another network or other pictures; measure again"
            )
    return [
        Sight(e.image, e.name, logit, value, picture)
        for (e, picture), logit, value in zip(pairs, logits, values, strict=True)
    ]


def _picture(source: Source, example: Example) -> Tensor | None:
    if isinstance(source, Tensor):
        return source[example.image].float() if example.image < len(source) else None
    if not isinstance(source, Pictures) or example.name not in source.names:
        return None
    path = source.paths[source.names.index(example.name)]
    try:
        return read_picture(path, source.size)
    except Exception:  # decoders raise whatever they like; it could be read when it was measured
        return None


def spread_over(source: Source, size: tuple[int, int], most: int) -> Tensor:
    """At most ``most`` images ``[N,3,H,W]``, evenly spaced in a folder or a tensor, else the first."""
    if isinstance(source, Pictures):
        keep = _spaced(len(source), most)
        source = Pictures([source.paths[i] for i in keep], source.size)
    elif isinstance(source, Tensor):
        source = source[_spaced(len(source), most)]
    taken: list[Batch] = []
    for batch in batches(source, size):
        taken.append(batch)
        if sum(len(b.images) for b in taken) >= most:
            break
    return torch.cat([b.images for b in taken])[:most] if taken else torch.zeros(0, 3, *size)


def _spaced(count: int, most: int) -> list[int]:
    return [i * count // min(most, count) for i in range(min(most, count))]
