"""The plan of a gallery: every tile, in the batches in which they are rendered; and its manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from featureviz.checks import LARGEST, MOST, entries, show, whole, wholes
from featureviz.errors import InvalidInput, unknown
from featureviz.files import read_json, show_path, write_bytes
from featureviz.gallery.planning.choosing import Group, Units, choose_groups, choose_units
from featureviz.gallery.planning.fingerprint import take_fingerprint
from featureviz.gallery.planning.recipe import Recipe
from featureviz.gallery.planning.tile import GATE, Tile, hash_tile
from featureviz.naming import shorten
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
            of_group.setdefault(tile.group, []).append(tile)
        return [
            tuple(tiles[start : start + self.batch])
            for tiles in of_group.values()
            for start in range(0, len(tiles), self.batch)
        ]

    def check(self, model: TappedModel) -> None:
        """Raise ``InvalidInput`` unless the plan is of this very network, and each key is that of its tile."""
        if take_fingerprint(model) != self.fingerprint:
            raise InvalidInput(
                f"the plan is of another network than {model.name}, or of other weights or interventions; make a new"
                " plan"
            )
        for tile in self.tiles:
            if tile.key != hash_tile(self.fingerprint, self.recipe.text, tile.spec, tile.variant):
                raise InvalidInput(
                    f"the key {tile.key} of the tile {shorten(tile.spec, 100)} does not fit the recipe; was the"
                    " manifest changed by hand? Make a new plan"
                )

    def select(
        self, layers: Sequence[str] | str | None = None, *, units: Sequence[int] | None = None,
        signs: Sequence[int] | None = None,
    ) -> Plan:  # fmt: skip
        """The part of the plan that has only these layers and blocks, units and signs; None stands for all.

        ``"gate:NAME"`` is the block where a layer has the same name.

        Raises:
            UnknownName: the plan has no such layer or block.
            InvalidInput: it has no such tile.
        """
        groups = self.groups if layers is None else _find_groups(self.groups, layers)
        wanted = {group.key for group in groups}
        chosen_units = None if units is None else set(wholes("units", units))
        chosen_signs = (1, -1) if signs is None else _check_signs(signs)
        tiles = tuple(
            tile for tile in self.tiles
            if tile.group in wanted and tile.sign in chosen_signs
            and (chosen_units is None or tile.unit in chosen_units)
        )  # fmt: skip
        if not tiles:
            raise InvalidInput(f"the plan has no tile of units={show(units)} and signs={show(signs)}; leave one out")
        there = {tile.group for tile in tiles}
        return replace(self, groups=tuple(g for g in groups if g.key in there), tiles=tiles)

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
            found = cls(
                _text(content, "model"), _text(content, "fingerprint"), Recipe.from_json(content.get("recipe")),
                tuple(map(Group.from_json, entries("layers", content.get("layers"), of="layers"))),
                tuple(map(Tile.from_json, entries("tiles", content.get("tiles"), of="tiles"))),
                whole("batch", content.get("batch"), 1, MOST),
            )  # fmt: skip
            _check_tiles(found)
        except InvalidInput as error:
            raise InvalidInput(f"{show_path(path)} is no plan of a gallery: {error}") from error
        return found


def plan(
    model: TappedModel,
    *,
    layers: Sequence[str] | str = (),
    gates: Sequence[str] | str = (),
    units: Units = None,
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
        units: only these of each layer and block, where there are so many; or a mapping from layers to their units, in
            which ``"gate:BLOCK"`` stands for the gates of a block; all of them if left out.
        signs: 1 for what excites a unit, -1 for what suppresses it.
        variants: how many pictures of each unit and sign, from different noise.
        objective: a spec in which ``{goal}`` stands for the unit's own, such as
            ``"{goal} - 0.1*l1(input)"``. It looks at each image alone.
        recipe: the preset: ``"clear"``, ``"fast"``, ``"plain"`` or ``"maco"``.
        batch: how many tiles are rendered together.
        options: those of ``fv.render`` that differ from the preset's: steps, size, views, seed, transforms, optimizer,
            image and runtime.

    Raises:
        UnknownName: there is no such layer or block.
        InvalidInput: a layer has no units, or not one of the given ones; or there are more than a million tiles.
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
    signs, batch = _check_signs(signs), whole("batch", batch, 1, MOST)
    chosen_units = choose_units(groups, units)
    count = sum(map(len, chosen_units)) * len(signs) * variants
    if count > MOST:
        raise InvalidInput(f"the plan would have {count:,} tiles; expected at most {MOST:,}: choose fewer layers")
    goals = [
        (group, unit, sign, _write_goal(group, unit, sign, objective).spec)
        for group, own in zip(groups, chosen_units, strict=True)
        for unit in own
        for sign in signs
    ]
    tiles = list_tiles(fingerprint, chosen, goals, variants)
    return Plan(model.name, fingerprint, chosen, tuple(groups), tiles, batch)


def list_tiles(
    fingerprint: str, recipe: Recipe, goals: Iterable[tuple[Group, int, int, str]], variants: int
) -> tuple[Tile, ...]:
    """The tiles of goals, each a group, a unit, a sign and a spec."""
    return tuple(
        Tile(hash_tile(fingerprint, recipe.text, spec, variant), *group.key, unit, sign, variant, spec)
        for group, unit, sign, spec in goals
        for variant in range(variants)
    )


def _check_tiles(made: Plan) -> None:
    """An error if a tile is not of a layer of the plan, or is there twice."""
    counts = {group.key: group.count for group in made.groups}
    for tile in made.tiles:
        if tile.unit >= counts.get(tile.group, 0):
            raise InvalidInput(f"the tile {tile.key} is of a unit that its layers do not have")
    if len({tile.key for tile in made.tiles}) < len(made):
        raise InvalidInput("two of its tiles have the same key")


def _write_goal(group: Group, unit: int, sign: int, objective: str) -> Objective:
    goal: Objective = Gate(group.layer, unit) if group.kind == GATE else Channel(group.layer, unit)
    signed = goal if sign > 0 else -goal
    if objective == GOAL:
        return signed
    if not isinstance(objective, str) or GOAL not in objective:
        raise InvalidInput(f"objective={objective!r} was given; expected a spec that holds {GOAL}, the unit's own goal")
    made = parse(objective.replace(GOAL, f"({signed.spec})"))
    if made.across_batch or made.n != 1:
        raise InvalidInput(f"objective={objective!r} was given; expected one that looks at each image alone")
    return made


def _find_groups(groups: Sequence[Group], names: Sequence[str] | str) -> tuple[Group, ...]:
    wanted = [names] if isinstance(names, str) else entries("layers", names, of="names")
    of_name: dict[str, list[Group]] = {}
    for group in groups:
        of_name.setdefault(group.layer, []).append(group)
        if group.kind == GATE:
            of_name.setdefault(group.title, []).append(group)
    for name in wanted:
        if not isinstance(name, str) or name not in of_name:
            raise unknown("layer in the plan", name, of_name)
    chosen = [group for name in wanted for group in of_name[name]]
    return tuple(group for group in groups if group in chosen)


def _check_signs(signs: Iterable[int]) -> list[int]:
    found = list(dict.fromkeys(wholes("signs", signs, -LARGEST)))
    if not found or not set(found) <= {1, -1}:
        raise InvalidInput(f"signs={signs!r} was given; expected (1, -1), (1,) or (-1,)")
    return found


def _text(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"{name!r} is missing")
    return value
