"""Medians with intervals, and sheets of the pictures."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.studies.clarity.recipes import PLAIN
from featureviz.lab import draw_sheet
from featureviz.lab.draw.sheet import join_row
from featureviz.rendering.png import write_image

RATIOS = ("score", "jpeg", "blur", "crop", "contrast", "seconds")
DIFFERENCES = ("own distance", "AUC", "clipped", "slope")
RESAMPLES = 2000


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For each group of layers, recipe and figure: the median, and the median change to the plain recipe of each unit.

    A change is ``[median, low, high]``, with the 95 % interval of the median by bootstrap over units.
    """
    groups = {"all": rows} | {
        layer: [r for r in rows if r["layer"] == layer] for layer in {r["layer"]: 0 for r in rows}
    }
    return {name: _summarise_group(group) for name, group in groups.items()}


def _summarise_group(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    by_recipe: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
    for row in rows:
        by_recipe.setdefault(row["recipe"], {})[row["layer"], row["unit"]] = row
    plain, result = by_recipe.get(PLAIN, {}), dict[str, Any]()
    for recipe, of in by_recipe.items():
        entry: dict[str, Any] = {"pictures": len(of)}
        for figure in (*RATIOS, *DIFFERENCES):
            if not all(figure in row for row in of.values()):
                continue
            entry[figure] = _rounded(float(np.median([row[figure] for row in of.values()])))
            pairs = [(row[figure], plain[key][figure]) for key, row in of.items() if key in plain]
            if recipe != PLAIN and pairs:
                entry[f"{figure} against plain"] = compare(pairs, ratio=figure in RATIOS)
        result[recipe] = entry
    return result


def compare(pairs: Sequence[tuple[float, float]], *, ratio: bool) -> list[float]:
    """The median change and its 95 % interval by bootstrap, ``[median, low, high]``; only pairs that have a ratio."""
    changes = np.array([a / b if ratio else a - b for a, b in pairs if not ratio or b > 0])
    if not len(changes):
        return []
    picks = np.random.default_rng(0).integers(0, len(changes), (RESAMPLES, len(changes)))
    low, high = np.quantile(np.median(changes[picks], 1), [0.025, 0.975])
    return [_rounded(float(v)) for v in (np.median(changes), low, high)]


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def write_sheets(rows: Sequence[dict[str, Any]], work: Path, name: str, args: Namespace) -> None:
    """A sheet for each layer: a row of pictures for each recipe."""
    for layer in dict.fromkeys(row["layer"] for row in rows):
        panels = list[tuple[str, torch.Tensor]]()
        for recipe in dict.fromkeys(row["recipe"] for row in rows):
            stem = f"{name}-{layer}-{recipe}-{args.units}-{args.steps}-{args.seed}".replace(":", "_").replace(" ", "_")
            images = torch.load(work / f"{stem}.pt").float() / 255
            panels.append((recipe, join_row(list(images))))
        write_image(work / f"{name}-{layer.replace(':', '_')}.png", draw_sheet(panels, 1, left=True, gap=4), {})
