"""What a render gives back: the images, how they scored, and the recipe that makes them again."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.evaluate import HeldOut

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

        Whole files only: each is written beside its place and moved there. :func:`read_recipe` reads the recipe.
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
        done = self.recipe["steps done"]  # one for all, or each its own
        own = {"steps done": done[i]} if isinstance(done, list) else {}
        return {**self.recipe, "spec": self.specs[i], "numbers": [self.recipe["numbers"][i]], **own}

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


def pixels(image: Tensor) -> np.ndarray:
    """``[C,H,W]`` in [0,1] to bytes ``[H,W,3]`` or ``[H,W]``; of other channel counts, the first one."""
    array = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.moveaxis(array, 0, -1) if len(array) == 3 else array[0]


def png(image: Tensor, recipe: dict[str, Any] | None = None) -> bytes:
    """``[C,H,W]`` in [0,1] as the bytes of a PNG, with ``recipe`` as JSON in a text chunk."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if recipe is not None:
        info.add_itxt(RECIPE_KEY, json.dumps(recipe))
    buffer = io.BytesIO()
    Image.fromarray(pixels(image)).save(buffer, "png", pnginfo=info, optimize=True)
    return buffer.getvalue()


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The recipe that :meth:`Rendering.save` put into a PNG."""
    from PIL import Image

    with Image.open(path) as picture:
        text = picture.info.get(RECIPE_KEY)
    if text is None:
        raise InvalidInput(f"{path} holds no featureviz recipe; only PNGs that Rendering.save wrote do")
    return json.loads(text)


def contact_sheet(images: Tensor, columns: int | None = None, gap: int = 4) -> Tensor:
    """``[N,C,H,W]`` as one picture ``[C, rows, columns]`` on white, nearly square unless ``columns`` is given."""
    n, c, h, w = images.shape
    columns = min(n, columns or round(n**0.5 + 0.49))
    rows = -(-n // columns)
    sheet = torch.ones(c, rows * (h + gap) - gap, columns * (w + gap) - gap)
    for i, image in enumerate(images):
        y, x = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[:, y : y + h, x : x + w] = image
    return sheet


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or none: beside its place first, then moved there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}; give another place") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InvalidInput(f"cannot write {path}: {error.strerror or error}; give another place") from error
        raise
