"""The figures of one picture."""

from __future__ import annotations

import torch
from torch import Tensor

import featureviz as fv
from benchmarks.studies.clarity.nature import Nature, features, observe


def measure_pictures(
    model: fv.TappedModel, layer: str, units: list[int], made: fv.Rendering, nature: Nature,
    observer: fv.TappedModel | None,
) -> list[dict[str, float]]:  # fmt: skip
    """The figures of each picture of a render of some units of a layer."""
    images, held_out = made.images, made.held_out
    own = features(model, [layer], images)[layer]
    seen = None if observer is None else observe(observer, images)
    return [
        {
            "unit": unit, "score": float(held_out.scores[:, i].mean()),
            **{name: float(scores[i]) for name, scores in held_out.unseen.items()},
            "contrast": float(images[i].std()), "clipped": measure_clipping(images[i]),
            "slope": measure_slope(images[i]), "own distance": nature.distance(layer, unit, own[i]),
            **({} if seen is None else {"AUC": nature.auc(layer, unit, seen[i])}),
        }
        for i, unit in enumerate(units)
    ]  # fmt: skip


def measure_clipping(image: Tensor) -> float:
    """The share of pixels with a value that eight bits write as 0 or 255."""
    return float(((255 * image).round() % 255 == 0).any(0).float().mean())


def measure_slope(image: Tensor) -> float:
    """The power p of the amplitude f^-p of grey values; about 1 for photographs."""
    grey = image.mean(0)
    size = grey.shape[-1]
    f = (torch.fft.fftfreq(grey.shape[0])[:, None] ** 2 + torch.fft.rfftfreq(size)[None] ** 2).sqrt()
    amplitude = torch.fft.rfft2(grey - grey.mean()).abs()
    used = (f > 2 / size) & (f < 0.45)
    x, y = f[used].log(), (amplitude[used] + 1e-9).log()
    x, y, weight = x - (x / f[used]).sum() / (1 / f[used]).sum(), y, 1 / f[used]  # each octave counts the same
    return float(-(weight * x * (y - (weight * y).sum() / weight.sum())).sum() / (weight * x * x).sum())
