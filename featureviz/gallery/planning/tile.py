"""A tile: one picture of a gallery, and the hash of all that decides its pixels."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

from featureviz.checks import show
from featureviz.errors import InvalidInput
from featureviz.files import make_file_name

CHANNEL, GATE = "channel", "gate"
KINDS = (CHANNEL, GATE)
FOLDER = "tiles"
_KEY = 24  # hexadecimal digits, 96 bits: two of a billion tiles share one with a chance of 1e-11


@final
@dataclass(frozen=True)
class Tile:
    """One picture to render.

    Attributes:
        key: the hash of the network's fingerprint, the recipe, the spec and the variant.
        kind: ``"channel"`` for a unit of a layer, ``"gate"`` for a gate of a squeeze-and-excitation block.
        layer: the name of the layer or of the block.
        unit: the number of the channel.
        sign: 1 for what excites the unit, -1 for what suppresses it.
        variant: the number of the picture among those of the same unit and sign. It is the number of the image, so it
            decides the noise from which the ascent starts.
        spec: the objective.
    """

    key: str
    kind: str
    layer: str
    unit: int
    sign: int
    variant: int
    spec: str

    @property
    def group(self) -> tuple[str, str]:
        """The key of its ``Group``: kind and layer."""
        return self.kind, self.layer

    @property
    def file(self) -> str:
        """The path of the picture in the folder of the gallery; no two tiles share one."""
        folder = make_file_name(f"{self.kind} {self.layer}", "")
        return f"{FOLDER}/{folder}/{make_file_name(f'{self.spec} {self.variant}', key=self.key)}"

    def to_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, entry: Any) -> Tile:
        """The tile of ``to_json``; anything else raises ``InvalidInput``."""
        try:
            tile = cls(**entry)
        except TypeError:
            raise InvalidInput(f"a tile has the fields {[f.name for f in fields(cls)]}") from None
        texts, numbers = (tile.layer, tile.spec), (tile.unit, tile.sign, tile.variant)
        right = (
            isinstance(tile.key, str) and re.fullmatch(rf"[0-9a-f]{{{_KEY}}}", tile.key) and tile.kind in KINDS
            and all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)
            and tile.unit >= 0 and tile.sign in (1, -1) and tile.variant >= 0
        )  # fmt: skip
        if not right:
            raise InvalidInput(f"{show(entry)} is no tile")
        return tile


def hash_tile(fingerprint: str, recipe: Mapping[str, Any], spec: str, variant: int) -> str:
    """The key of a tile.

    >>> hash_tile("ab", {"steps": 64}, "features.6:3", 0)
    '192b285361014efbbc98466e'
    """
    text = json.dumps([fingerprint, recipe, spec, variant], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY]
