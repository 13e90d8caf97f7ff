"""The plan of a gallery: every tile, in the batches in which they are rendered; and its manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from featureviz.checks import MOST, entries, whole
from featureviz.errors import InvalidInput
from featureviz.files import read_json, show_path, write_bytes
from featureviz.gallery.planning.choosing import Group, choose_groups, choose_units
from featureviz.gallery.planning.fingerprint import take_fingerprint
from featureviz.gallery.planning.recipe import Recipe
from featureviz.gallery.planning.tile import GATE, Tile, hash_tile
from featureviz.network.model import TappedModel, tapped
from featureviz.objectives.algebra import Objective
from featureviz.objectives.gate_leaves import Gate
from featureviz.objectives.leaves import Channel
from featureviz.objectives.spec import parse

MANIFEST, VERSION = "plan.json", 1
GOAL = "{goal}"
BATCH = 16


@final
@dataclass(frozen=True)
class Plan:
    """An explicit list of tiles.

    Attributes:
        model: the name of the network.
        fingerprint: the hash of the network (``take_fingerprint``).
        recipe: how each tile is rendered.
        groups: the layers and blocks, in the order in which the network runs them.
        tiles: those of a group one after the other.
        batch: how many tiles are rendered together at most. Batches are a part of the plan, because the number of
            images in a batch may change the last digits of a pixel.
    """

    model: str
    fingerprint: str
    recipe: Recipe
    groups: tuple[Group, ...]
    tiles: tuple[Tile, ...]
    batch: int = BATCH

    def __len__(self) -> int:
        return len(self.tiles)

    def batches(self) -> list[tuple[Tile, ...]]:
        """The tiles that are rendered together: of one layer, or of the gates of one block."""
        of_group: dict[tuple[str, str], list[Tile]] = {}
        for tile in self.tiles:
            of_group.setdefault((tile.kind, tile.layer), []).append(tile)
        return [
            tuple(tiles[start : start + self.batch])
            for tiles in of_group.values()
            for start in range(0, len(tiles), self.batch)
        ]

    def write(self, path: Path) -> None:
        """Write the manifest: JSON with one line for each layer and for each tile."""
        head = {
            "featureviz gallery": VERSION, "model": self.model, "fingerprint": self.fingerprint, "batch": self.batch,
            "recipe": self.recipe.to_json(),
        }  # fmt: skip
        text = json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}")
        for name, rows in (("layers", self.groups), ("tiles", self.tiles)):
            lines = ",\n  ".join(json.dumps(row.to_json()) for row in rows)
            text += f',\n "{name}": [\n  {lines}\n ]'
        write_bytes(path, f"{text}\n}}\n".encode())

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan of a manifest.

        Raises:
            InvalidInput: there is no such file, or it is no manifest of this version.
        """
        content = read_json(path)
        if content.get("featureviz gallery") != VERSION:
            raise InvalidInput(
                f"{show_path(path)} is no plan of a gallery that this version of featureviz reads; give another folder"
            )
        try:
            return cls(
                _text(content, "model"), _text(content, "fingerprint"), Recipe.from_json(content.get("recipe")),
                tuple(map(Group.from_json, entries("layers", content.get("layers")))),
                tuple(map(Tile.from_json, entries("tiles", content.get("tiles")))),
                whole("batch", content.get("batch"), 1, MOST),
            )  # fmt: skip
        except InvalidInput as error:
            raise InvalidInput(f"{show_path(path)} is no plan of a gallery: {error}") from error


def plan(
    model: TappedModel,
    *,
    layers: Sequence[str] | str = (),
    gates: Sequence[str] | str = (),
    units: Sequence[int] | None = None,
    signs: Sequence[int] = (1, -1),
    variants: int = 1,
    objective: str = GOAL,
    recipe: str = "clear",
    batch: int = BATCH,
    **options: Any,
) -> Plan:
    """The plan of a gallery: which units are rendered, and how.

    Args:
        model: the network.
        layers: layers of which channels are shown; ``"all"`` for those of the main path.
        gates: squeeze-and-excitation blocks of which gates are shown; ``"all"`` for all of them, which is also what
            is taken if neither layers nor gates are given.
        units: only these of each layer and block, where there are so many; all of them if left out.
        signs: 1 for what excites a unit, -1 for what suppresses it.
        variants: how many pictures of each unit and sign, from different noise.
        objective: a spec in which ``{goal}`` stands for the unit's own, such as
            ``"{goal} + 100*diversity(features.6)"``.
        recipe: the preset: ``"clear"``, ``"fast"``, ``"plain"`` or ``"maco"``.
        batch: how many tiles are rendered together.
        options: those of ``fv.render`` that differ from the preset's: steps, size, views, seed, transforms, optimizer,
            image and runtime.

    Raises:
        UnknownName: there is no such layer or block.
        InvalidInput: a layer has no units, or not one of the given ones.
        ModelError: the network has no gates.

    >>> import featureviz as fv
    >>> made = plan(fv.load("embedded"), layers=["features.6"], units=[3, 5], steps=8)
    >>> [tile.spec for tile in made.tiles]
    ['features.6:3', '-features.6:3', 'features.6:5', '-features.6:5']
    """
    model = tapped(model)
    groups = choose_groups(model, layers, gates if layers or gates else "all")
    chosen = Recipe.make(recipe, **options)
    fingerprint, variants = take_fingerprint(model), whole("variants", variants, 1, MOST)
    signs = _check_signs(signs)
    tiles = list[Tile]()
    for group in groups:
        for unit in choose_units(group, units):
            for sign in signs:
                spec = _write_goal(group, unit, sign, objective).spec
                for variant in range(variants):
                    key = hash_tile(fingerprint, chosen.text, spec, variant)
                    tiles.append(Tile(key, group.kind, group.layer, unit, sign, variant, spec))
    return Plan(model.name, fingerprint, chosen, tuple(groups), tuple(tiles), whole("batch", batch, 1, MOST))


def _write_goal(group: Group, unit: int, sign: int, objective: str) -> Objective:
    goal: Objective = Gate(group.layer, unit) if group.kind == GATE else Channel(group.layer, unit)
    signed = goal if sign > 0 else -goal
    if objective == GOAL:
        return signed
    if not isinstance(objective, str) or GOAL not in objective:
        raise InvalidInput(f"objective={objective!r} was given; expected a spec that holds {GOAL}, the unit's own goal")
    return parse(objective.replace(GOAL, f"({signed.spec})"))


def _check_signs(signs: Iterable[int]) -> list[int]:
    found = list(dict.fromkeys(entries("signs", signs)))
    if not found or not all(type(sign) is int and sign in (1, -1) for sign in found):
        raise InvalidInput(f"signs={signs!r} was given; expected (1, -1), (1,) or (-1,)")
    return found


def _text(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"{name!r} is missing")
    return value
