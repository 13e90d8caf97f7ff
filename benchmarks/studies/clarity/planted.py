"""Planted optima: units whose best picture is known, a photograph, and how near to it a recipe ends."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featureviz as fv
from benchmarks.studies.clarity.nature import read_pictures

SIDE, PART = 64, 40  # of the image; of a template that may be anywhere in it


@final
class Matching(nn.Module):
    """The correlation of each patch ``[3,s,s]`` of the image with templates ``[K,3,s,s]``: ``[N,K,H',W']``.

    A term of 0.05 sd in the norm of the patch keeps grey noise from counting as a match.
    """

    def __init__(self, templates: Tensor) -> None:
        super().__init__()
        centred = templates - templates.mean((1, 2, 3), keepdim=True)
        self.templates = nn.Buffer(centred / centred.flatten(1).norm(dim=1)[:, None, None, None])
        self.ones = nn.Buffer(torch.ones(1, *templates.shape[1:]))

    def forward(self, x: Tensor) -> Tensor:
        count = self.ones.numel()
        total, squares = F.conv2d(x, self.ones), F.conv2d(x * x, self.ones)
        norm = (squares - total**2 / count + count * 0.05**2).clamp(min=1e-6).sqrt()
        return F.conv2d(x, self.templates) / norm


@final
class Best(fv.Objective):
    """The best match of a template anywhere in the image."""

    def __init__(self, unit: int) -> None:
        super().__init__(["matching"], f"best({unit})")
        self.unit = unit

    def forward(self, activations: fv.Activations) -> Tensor:
        return activations["matching"][:, self.unit].flatten(1).amax(1)


def measure_planted(recipes: dict[str, dict[str, Any]], folder: Path, count: int) -> dict[str, Any]:
    """For each recipe the correlations of its pictures with the templates: rigid ones fill the view, movable not."""
    photographs = F.interpolate(read_pictures(folder, count), SIDE, mode="area")
    cut = (SIDE - PART) // 2
    kinds = {"rigid": photographs, "movable": photographs[:, :, cut : cut + PART, cut : cut + PART]}
    result: dict[str, dict[str, list[float]]] = {name: {} for name in recipes}
    for kind, templates in kinds.items():
        matching = Matching(templates)
        model = fv.wrap(nn.Sequential(OrderedDict(matching=matching)), mean=0.0, std=1.0, size=SIDE, name="planted")
        for name, options in recipes.items():
            goals = [Best(i) for i in range(len(templates))]
            made = fv.render(model, goals, size=SIDE, progress=False, **options).completed()
            best = matching(made.images).flatten(2).amax(2).diagonal()
            result[name][kind] = [round(float(v), 4) for v in best]
    return result
