"""Galleries that are filled without a network: each tile has a colour of its own."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from featureviz.files import write_bytes
from featureviz.gallery import Gallery, Plan, Tile
from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.planning.plan import list_tiles
from featureviz.gallery.planning.recipe import Recipe
from featureviz.gallery.store.index import to_text
from featureviz.gallery.store.reading import Photograph
from featureviz.gallery.store.writing import Made, Store
from featureviz.rendering.png import encode_png

SIZE = (16, 20)
GROUPS = (Group("channel", "conv", "Conv2d", 8, (8, 4, 4)), Group("gate", "se", "SE", 8, ()))


def make_plan(
    groups: Sequence[Group] = GROUPS, units: Sequence[int] = (1, 3, 5), signs: Sequence[int] = (1, -1),
    variants: int = 1, model: str = "tiny",
) -> Plan:  # fmt: skip
    groups = [replace(group, count=max(group.count, max(units) + 1)) for group in groups]
    recipe = Recipe.make("fast", steps=8, size=SIZE)
    goals = [
        (group, unit, sign, f"{'-' * (sign < 0)}{group.title}:{unit}")
        for group in groups for unit in units for sign in signs
    ]  # fmt: skip
    return Plan(model, "tiny", recipe, tuple(groups), list_tiles("tiny", recipe, goals, variants))


def color_of(tile: Tile) -> Tensor:
    """``[3,1,1]``; rounding to 33 levels keeps it."""
    red = (0.25 if tile.kind == "gate" else 0.5) + 0.25 * tile.variant
    return torch.tensor([red, 0.1 * tile.unit, 0.75 if tile.sign > 0 else 0.25])[:, None, None]


def fill(folder: Path, plan: Plan, count: int | None = None) -> Gallery:
    """The gallery of a plan, of which the first ``count`` tiles are finished."""
    made = list[Made]()
    for tile in plan.tiles[:count]:
        gate = {"gate": 0.875 if tile.sign > 0 else 0.125} if tile.kind == "gate" else {}
        png = encode_png(color_of(tile).expand(3, *SIZE), {"spec": "x"})
        made.append(Made(tile.key, png, {"score": 1.0, "moved": True} | gate, (0.0, 1.0), 0.1))
    with Store.hold(folder, plan) as store:
        store.add(made)
    return Gallery.open(folder)


def add_photographs(gallery: Gallery) -> Gallery:
    """Two photographs, white and black, that excite and suppress every unit most."""
    examples = list[tuple[object, ...]]()
    with Store.hold(gallery.folder, gallery.plan) as store:
        for number, color in enumerate(("white", "black")):
            photograph, file = Photograph(number, f"{color}.jpg"), io.BytesIO()
            Image.new("RGB", (40, 30), color).save(file, "JPEG")
            write_bytes(gallery.folder / photograph.file, file.getvalue())
            store.insert("photographs", [(number, to_text(photograph.name))])
            for group in gallery.plan.groups:
                key = (group.kind, to_text(group.layer))
                examples += [(*key, unit, 1 - 2 * number, 0, number, 1.0, to_text([0, 0, 1, 1])) for unit in range(8)]
        store.insert("examples", examples)
        store.note("natural", {"count": 2, "levels": [], "skipped": 0})
    return Gallery.open(gallery.folder)
