"""What natural pictures do: in the network itself at each layer, and in the eyes of another network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

import featureviz as fv
from featureviz.lab.statistics.pictures import Pictures

NEAREST, TOP, CLOSEST = 5, 0.1, 0.02  # neighbours; the share of a unit's natural pictures they are of; of the top ones


@final
@dataclass(frozen=True)
class Nature:
    """Natural pictures as features: of each layer ``[N,C]``, and those of the observer ``[N,D]`` of length 1, if any.

    The feature of a map is its mean over positions.
    """

    layers: dict[str, Tensor]
    observed: Tensor | None

    @classmethod
    def measure(
        cls, model: fv.TappedModel, layers: Sequence[str], folder: Path, count: int, observer: fv.TappedModel | None
    ) -> Nature:
        pictures = read_pictures(folder, count)
        batches = [features(model, layers, part) for part in pictures.split(32)]
        return cls(
            {layer: torch.cat([batch[layer] for batch in batches]) for layer in layers},
            None if observer is None else observe(observer, pictures),
        )

    @classmethod
    def read_or_measure(cls, path: Path, model: fv.TappedModel, layers: Sequence[str], *how: Any) -> Nature:
        """What the file at ``path`` holds, if it has all layers; otherwise measured, and written there."""
        if path.is_file():
            stored = torch.load(path)
            if set(layers) <= set(stored["layers"]):
                return cls({layer: stored["layers"][layer] for layer in layers}, stored["observed"])
        nature = cls.measure(model, layers, *how)
        torch.save({"layers": nature.layers, "observed": nature.observed}, path)
        return nature

    def top(self, layer: str, unit: int, share: float) -> Tensor:
        """The numbers of the pictures that excite the unit most, a share of all."""
        response = self.layers[layer][:, unit]
        return response.topk(max(NEAREST + 1, round(share * len(response)))).indices

    def distance(self, layer: str, unit: int, feature: Tensor) -> float:
        """How far a picture's feature ``[C]`` is from the unit's top natural pictures; 1 is as far as they are.

        The mean distance to the 5 nearest of the unit's top tenth, in features standardised by all natural pictures,
        over the median of the same for each of the tenth.
        """
        natural = self.layers[layer]
        mean, sd = natural.mean(0), natural.std(0)
        scale = sd.clamp(min=1e-3 * float(sd.max()))
        top = ((natural - mean) / scale)[self.top(layer, unit, TOP)]
        own = ((feature - mean) / scale)[None]
        among = torch.cdist(top, top).topk(NEAREST + 1, largest=False).values[:, 1:].mean(1)
        return float(torch.cdist(own, top).topk(NEAREST, largest=False).values.mean() / among.median())

    def auc(self, layer: str, unit: int, seen: Tensor) -> float:
        """Whether likeness to a picture, as the observer sees it ``[D]``, tells the unit's top 2 % from the rest."""
        assert self.observed is not None
        likeness, top = self.observed @ seen, self.top(layer, unit, CLOSEST)
        rest = torch.ones(len(likeness), dtype=torch.bool)
        rest[top] = False
        return float((likeness[top][:, None] > likeness[rest]).float().mean())


def read_pictures(folder: Path, count: int) -> Tensor:
    """``[n,3,224,224]`` in [0,1]: at most ``count`` pictures of the folder, spread evenly over it."""
    pictures = torch.cat([batch.images for batch in Pictures(folder, 224)])
    return pictures[torch.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().long()]


@torch.no_grad()
def features(model: fv.TappedModel, layers: Sequence[str], pictures: Tensor) -> dict[str, Tensor]:
    """For each layer ``[N,C]`` of pictures, resized to the network's input."""
    size = model.input_size((pictures.shape[-2], pictures.shape[-1]))
    views = torch.nn.functional.interpolate(pictures, size, mode="bilinear", antialias=True)
    taken = model(views, layers)
    return {layer: taken[layer].flatten(2).mean(2) if taken[layer].ndim > 2 else taken[layer] for layer in layers}


def observe(observer: fv.TappedModel, pictures: Tensor) -> Tensor:
    """What the observer sees of pictures: its last features ``[N,D]``, each of length 1."""
    seen = [features(observer, ["_conv_head"], part)["_conv_head"] for part in pictures.split(32)]
    return torch.nn.functional.normalize(torch.cat(seen), dim=1)
