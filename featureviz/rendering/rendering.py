"""The result of a render: the images, their scores, and the recipe that renders them again."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from featureviz.checks import finite, whole
from featureviz.errors import InvalidInput
from featureviz.files import PathLike
from featureviz.rendering.held_out import HeldOut
from featureviz.rendering.png import encode_png, make_contact_sheet, name_png, over_white, write_image


@final
@dataclass(frozen=True)
class Rendering:
    """N images, their scores and their recipe.

    Attributes:
        images: ``[N,C,H,W]`` float32 in [0,1], on the CPU.
        scores: ``[T,N]``, the score of each image at each step, a mean over its views.
        held_out: scores on 16 views that the ascent did not use, and gate values where the goal holds a gate.
        specs: the goal of each image.
        recipe: spec, seed, steps, sizes, transforms, optimizer and versions, as JSON values.
        snapshots: the images after each step of ``snapshots``.
        interrupted: whether Ctrl-C ended the render early.
        slope: ``[N,H,W]``, how much each pixel mattered in the mean of all steps, for parameterizations that keep it.
    """

    images: Tensor
    scores: Tensor
    held_out: HeldOut
    specs: tuple[str, ...]
    recipe: dict[str, Any]
    snapshots: dict[int, Tensor] = field(default_factory=dict)
    interrupted: bool = False
    slope: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def spec(self) -> str:
        """The objective as an expression."""
        return str(self.recipe["spec"])

    @property
    def seed(self) -> int:
        return int(self.recipe["seed"])

    @property
    def versions(self) -> dict[str, str]:
        """The versions of featureviz and torch."""
        return dict(self.recipe["versions"])

    def __repr__(self) -> str:
        n, _, h, w = self.images.shape
        mean = ", ".join(f"{v:.3g}" for v in self.held_out.scores.mean(0)[:8].tolist())
        return f"Rendering({self.spec}: {n} of {h}x{w}, {len(self.scores)} steps, held-out score {mean})"

    def save(self, path: PathLike) -> list[Path]:
        """Write one PNG an image, with its recipe in the metadata: ``path``, or ``path-0.png`` and so on for several.

        An image with transparency (``fv.AlphaImage``) is a PNG with transparency. One with another number of channels
        than 1 or 3 is a sheet of grey pictures, one a channel, and its values ``[C,H,W]`` are beside it as float32
        (``path.npy``). A file is written whole or not at all. ``read_recipe`` reads the recipe.

        Raises:
            InvalidInput: ``path`` names another format than PNG, or cannot be written to.
        """
        target, count = name_png(path), len(self)
        paths = [target] if count == 1 else [target.with_stem(f"{target.stem}-{i}") for i in range(count)]
        for i, own_path in enumerate(paths):
            write_image(own_path, self.images[i], self.recipe_of(i), alpha=self.alpha)
        return paths

    @property
    def alpha(self) -> bool:
        """Whether the last channel of the images is alpha."""
        return bool(self.recipe.get("alpha", False))

    def transparent(self, share: float = 0.8) -> Tensor:
        """The images with alpha ``[N,C+1,H,W]``: pixels that mattered little are transparent (Fel et al. 2023).

        Alpha is ``slope``, divided by what a ``share`` of the pixels stays below, and clipped at 1. It is a picture of
        the gradients; the ascent did not see it.

        Raises:
            InvalidInput: the parameterization does not keep its slope; ``fv.MacoImage`` does.
        """
        if self.slope is None:
            raise InvalidInput(f"{self.recipe['image']} keeps no slope, from which to see what mattered; use MacoImage")
        most = self.slope.flatten(1).quantile(finite("share", share, 0, 1), dim=1)[:, None, None]
        return torch.cat([self.images, (self.slope / most.clamp(min=1e-30)).clamp(0, 1)[:, None]], 1)

    def completed(self) -> Rendering:
        """Itself, if no Ctrl-C ended it early; otherwise raises ``KeyboardInterrupt``."""
        if self.interrupted:
            raise KeyboardInterrupt
        return self

    def recipe_of(self, i: int) -> dict[str, Any]:
        """The recipe of image i alone, with its own spec, seed and number."""
        i, recipe = whole("i", i, 0, len(self) - 1), dict(self.recipe)
        if seeds := recipe.pop("seeds", None):  # best_of took the images from renders with different seeds
            recipe["seed"] = seeds[i]
        if i in recipe.pop("unmoved", []):
            recipe["unmoved"] = [0]
        return {**recipe, "spec": self.specs[i], "image_ids": [recipe["image_ids"][i]]}

    def _repr_png_(self) -> bytes:
        return encode_png(make_contact_sheet(self.on_white()), self.recipe)

    def on_white(self) -> Tensor:
        """The images ``[N,C,H,W]``; those with transparency as they look on white."""
        return over_white(self.images) if self.alpha else self.images

    def _repr_html_(self) -> str:
        cells = []
        for image, spec, score in zip(self.on_white(), self.specs, self.held_out.scores.mean(0).tolist(), strict=True):
            data = base64.b64encode(encode_png(image)).decode()
            cells.append(
                f'<figure style="display:inline-block;margin:4px"><img src="data:image/png;base64,{data}" '
                f'style="image-rendering:auto;width:{max(128, image.shape[-1])}px">'
                f'<figcaption style="font:12px monospace">{html.escape(spec)} &nbsp; {score:.3g}</figcaption></figure>'
            )
        return "".join(cells)
