"""Writes golden.json: what renders of the embedded network give, for test_golden.py to compare with.

    python -m tests.rendering.make_golden

Run it only when pictures are meant to change, and say in the commit why they do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kornia
import torch
from torch import Tensor

import featureviz as fv

FILE = Path(__file__).with_name("golden.json")
SITE = "features.9.block.2"


def goals() -> dict[str, Any]:
    direction = torch.randn(40, generator=torch.Generator().manual_seed(3))
    natural = fv.lab.natural_gates()
    return {
        "channel": fv.Channel("features.6", [3, 17]),
        "neuron": fv.Neuron("features.6", 5),
        "direction": fv.Direction("features.6", direction, 2.0),
        "sum": 2 * fv.Channel("features.6", 17) - 0.5 * fv.Channel("features.3", 4),
        "gate": fv.Gate(SITE, [3, 7]),
        "-gate": -fv.Gate(SITE, 3),
        "quadrant": fv.Quadrant(SITE, 3, natural, content="high", gate="shut"),
        "logit": fv.Logit("golden retriever"),
    }


VARIANTS: dict[str, dict[str, Any]] = {
    "pixel": {"image": fv.PixelImage},
    "no transforms": {"transforms": []},
    "kornia": {"transforms": [kornia.augmentation.RandomAffine(10.0, p=1.0)]},
    "views": {"views": 2},
    "bfloat16": {"runtime": fv.Runtime(precision="bfloat16")},
    "odd size": {"size": (49, 71)},
    "clear": fv.clear(4),
}


def cases() -> dict[str, tuple[Any, dict[str, Any]]]:
    plain = {name: (goal, {}) for name, goal in goals().items()}
    return plain | {f"gate, {name}": (fv.Gate(SITE, [3, 7]), options) for name, options in VARIANTS.items()}


def summarize(model: fv.TappedModel, goal: Any, options: dict[str, Any]) -> dict[str, list[float]]:
    """Scores of the first and last step, held-out scores, and mean and spread of each image's channels."""
    made = fv.render(model, goal, **fv.plain(4) | {"size": 64, "seed": 5, "progress": False} | options)
    pixels = made.images.flatten(2)
    numbers: dict[str, Tensor] = {
        "first score": made.scores[0], "last score": made.scores[-1], "held out": made.held_out.scores.mean(0),
        "mean": pixels.mean(2), "spread": pixels.std(2),
    }  # fmt: skip
    return {name: [round(v, 6) for v in values.flatten().tolist()] for name, values in numbers.items()}


def main() -> None:
    model = fv.load("embedded")
    golden = {name: summarize(model, goal, options) for name, (goal, options) in cases().items()}
    FILE.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
