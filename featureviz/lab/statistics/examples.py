"""The natural images at the ends of a gate's range, loaded again, and an even sample of a source of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.lab.statistics.gate_statistics import Example, GateStatistics
from featureviz.lab.statistics.pictures import Pictures, Source, batches, load_pictures
from featureviz.network.model import TappedModel
from featureviz.objectives.gate_leaves import Gate

TOLERANCE = 0.05  # natural sd: the same image read by other decoders and machines differs by less


@final
@dataclass(frozen=True)
class ExampleImage:
    """A natural image ``[3,H,W]``, its number and name in the statistics, and the gate's logit and value on it."""

    image: int
    name: str | None
    logit: float
    value: float
    picture: Tensor


def load_examples(
    model: TappedModel, natural: GateStatistics, site: str, unit: int, source: Source, most: int = 8
) -> tuple[list[ExampleImage], list[ExampleImage]]:
    """The images with the lowest and with the highest logits of a gate, the most extreme first.

    ``source`` are the images that were measured; images that it does not contain are left out. There are at most
    ``most`` images at each end, and at most half of all images.

    Raises:
        InvalidInput: an image has another logit than in the statistics, so these are of another network or source.
    """
    gate = Gate(site, unit)
    low, high = natural.examples(site, unit, min(most, natural.count // 2))
    return _load(model, natural, gate, source, low), _load(model, natural, gate, source, high)


def _load(
    model: TappedModel, natural: GateStatistics, gate: Gate, source: Source, examples: Sequence[Example]
) -> list[ExampleImage]:
    found = dict(load_pictures(source, {e.image: e.name for e in examples}, model.input_size((224, 224))))
    pairs = [(e, found[e.image]) for e in examples if e.image in found]
    if not pairs:
        return []
    with torch.no_grad():
        images = torch.stack([p for _, p in pairs]).to(model.device)
        activations = model(images, [*gate.layers, gate.value_layer])
    logits, values = gate(activations).float().cpu().tolist(), gate.value(activations).float().cpu().tolist()
    tolerance = TOLERANCE * float(natural[gate.site_name].logit_sd[gate.units[0]]) + 1e-3
    loaded: list[ExampleImage] = []
    for (example, picture), logit, value in zip(pairs, logits, values, strict=True):
        if not abs(logit - example.logit) <= tolerance:
            raise InvalidInput(
                f"image {example.name or example.image} brings {gate.spec} to {logit:.3f}, but the statistics say"
                f" {example.logit:.3f}: they are of another network or other pictures; measure again"
            )
        loaded.append(ExampleImage(example.image, example.name, logit, value, picture))
    return loaded


def sample_evenly(source: Source, size: tuple[int, int], most: int) -> Tensor:
    """At most ``most`` images ``[N,3,H,W]``: evenly spaced ones of a folder or a tensor, otherwise the first ones."""
    if isinstance(source, Pictures):
        source = Pictures([source.paths[i] for i in spaced_indices(len(source), most)], source.size)
    elif isinstance(source, Tensor):
        source = source[spaced_indices(len(source), most)]
    kept: list[Tensor] = []
    for batch in batches(source, size):
        kept.append(batch.images)
        if sum(map(len, kept)) >= most:
            break
    return torch.cat(kept)[:most] if kept else torch.zeros(0, 3, *size)


def spaced_indices(count: int, most: int) -> list[int]:
    """At most ``most`` indices below ``count``, evenly spaced from 0."""
    return [i * count // min(most, count) for i in range(min(most, count))]
