"""What a render gives back: the images, how they scored, and the recipe that makes them again."""

from __future__ import annotations

import base64
import html
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from torch import Tensor

from featureviz.rendering.held_out import HeldOut
from featureviz.rendering.png import contact_sheet, png, write_bytes

RECIPE_KEY = "featureviz"


@final
@dataclass(frozen=True)
class Rendering:
    """N images and everything known about them.

    Attributes:
        images: ``[N,C,H,W]`` float32 in [0,1], on the CPU.
        scores: ``[T,N]``, the score of each step, averaged over its views; NaN after the last step of an image.
        held_out: scores under 16 draws that the ascent never saw, and gate values where a gate was the goal.
        specs: what each image was asked for.
        recipe: spec, seed, steps, sizes, transforms, optimizer, versions: all of it JSON.
        snapshots: images by step, where asked for.
        interrupted: whether Ctrl-C ended it early.
    """

    images: Tensor
    scores: Tensor
    held_out: HeldOut
    specs: tuple[str, ...]
    recipe: dict[str, Any]
    snapshots: dict[int, Tensor] = field(default_factory=dict)
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @property
    def spec(self) -> str:
        """The objective's expression."""
        return str(self.recipe["spec"])

    @property
    def seed(self) -> int:
        return int(self.recipe["seed"])

    @property
    def versions(self) -> dict[str, str]:
        """Of featureviz and torch."""
        return dict(self.recipe["versions"])

    def __repr__(self) -> str:
        n, _, h, w = self.images.shape
        mean = ", ".join(f"{v:.3g}" for v in self.held_out.scores.mean(0)[:8].tolist())
        return f"Rendering({self.spec}: {n} of {h}x{w}, {len(self.scores)} steps, held-out score {mean})"

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Write PNGs with the recipe in their metadata: ``path`` for one image, ``path-0.png`` and so on for several.

        Whole files only: each is written beside its place and moved there. ``read_recipe`` reads the recipe.
        """
        place = Path(path)  # "out/features.6" has no suffix to replace
        target = place if place.suffix.lower() == ".png" else place.with_name(f"{place.name}.png")
        count = len(self)
        paths = [target] if count == 1 else [target.with_stem(f"{target.stem}-{i}") for i in range(count)]
        for i, place in enumerate(paths):
            write_bytes(place, png(self.images[i], self.recipe_of(i)))
        return paths

    def recipe_of(self, i: int) -> dict[str, Any]:
        """What makes image i again, alone: its own spec and number in the place of all."""
        recipe = dict(self.recipe)
        if seeds := recipe.pop("seeds", None):  # of several renders it was the best
            recipe["seed"] = seeds[i]
        return {**recipe, "spec": self.specs[i], "image_ids": [recipe["image_ids"][i]]}

    def _repr_png_(self) -> bytes:
        return png(contact_sheet(self.images), self.recipe)

    def _repr_html_(self) -> str:
        cells = []
        for image, spec, score in zip(self.images, self.specs, self.held_out.scores.mean(0).tolist(), strict=True):
            data = base64.b64encode(png(image)).decode()
            cells.append(
                f'<figure style="display:inline-block;margin:4px"><img src="data:image/png;base64,{data}" '
                f'style="image-rendering:auto;width:{max(128, image.shape[-1])}px">'
                f'<figcaption style="font:12px monospace">{html.escape(spec)} &nbsp; {score:.3g}</figcaption></figure>'
            )
        return "".join(cells)
