"""Reading a gallery, finished or not: its plan, tiles, photographs and figures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, final

from featureviz.files import PathLike, check_path, make_file_name
from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.planning.plan import MANIFEST, Plan
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.index import INDEX, PHOTOGRAPHS, from_text, open_index, telling, to_text, unpack_numbers
from featureviz.gallery.store.inline import draw_inline

_AT_ONCE = 500  # keys in one query


class StoredTile(NamedTuple):
    """A finished tile.

    ``figures`` has ``score``, its mean on held-out views; ``sd``, the spread between these views; ``unseen``, the
    scores as JPEG, blurred and cropped; ``gate`` and ``logit`` where it is of a gate; ``steps``; and ``moved``, which
    is false where no step changed the image. Where a score became infinite or NaN, ``error`` tells it, and the image is
    the last finite one. Figures that are not finite are None. ``trace`` has the score at each step.
    """

    tile: Tile
    figures: dict[str, Any]
    trace: list[float]
    seconds: float


class Photograph(NamedTuple):
    """A photograph of the folder that was measured; ``name`` is its path there."""

    number: int
    name: str

    @property
    def file(self) -> str:
        """The path of its picture in the folder of the gallery."""
        return f"{PHOTOGRAPHS}/{make_file_name(f'{self.number} {self.name}', '.jpg')}"


class Example(NamedTuple):
    """A photograph at an end of a unit's range, the most extreme first.

    ``box`` is where in the picture the unit is strongest, or weakest, as shares (y0, x0, y1, x1).
    """

    sign: int
    photograph: Photograph
    value: float
    box: tuple[float, float, float, float]


class Neighbour(NamedTuple):
    """Another unit of the layer that is similar by ``how``, ``"weights"`` or ``"photographs"``."""

    unit: int
    how: str
    similarity: float


@final
@dataclass(frozen=True)
class Gallery:
    """A gallery in a folder. ``about`` has what concerns all of it: versions, seconds, the folder of photographs."""

    folder: Path
    plan: Plan
    about: dict[str, Any]

    @classmethod
    def open(cls, folder: PathLike) -> Gallery:
        """The gallery in ``folder``.

        Raises:
            InvalidInput: there is none, or its plan or its index cannot be read.
        """
        path = Path(check_path(folder))
        found = Plan.read(path / MANIFEST)
        gallery = cls(path, found, {})
        gallery.about.update({key: from_text(value) for key, value in gallery._read("SELECT key, value FROM about")})
        return gallery

    def select(
        self, layers: Sequence[str] | str | None = None, *, units: Sequence[int] | None = None,
        signs: Sequence[int] | None = None,
    ) -> Gallery:  # fmt: skip
        """The part of the gallery that has only these layers and blocks, units and signs; None stands for all.

        ``"gate:NAME"`` is the block where a layer has the same name. Errors are those of ``Plan.select``.
        """
        return replace(self, plan=self.plan.select(layers, units=units, signs=signs))

    def tiles(self, group: Group | None = None) -> list[StoredTile]:
        """The finished tiles of a group, or all, in the order of the plan."""
        wanted = [t for t in self.plan.tiles if group is None or t.group == group.key]
        rows = dict[str, tuple[Any, Any, float]]()
        with closing(open_index(self.folder)) as connection, telling(self.folder / INDEX):
            for start in range(0, len(wanted), _AT_ONCE):
                keys = [tile.key for tile in wanted[start : start + _AT_ONCE]]
                query = f"SELECT key, figures, trace, seconds FROM tiles WHERE key IN ({', '.join('?' * len(keys))})"
                for key, figures, trace, seconds in connection.execute(query, keys):
                    rows[key] = from_text(figures), unpack_numbers(trace), seconds
        return [StoredTile(tile, *rows[tile.key]) for tile in wanted if tile.key in rows]

    def natural(self, group: Group) -> dict[int, dict[str, Any]]:
        """What was measured of the units of a group on photographs: mean, sd, quantiles and histogram, by unit."""
        rows = self._read("SELECT unit, figures FROM units WHERE kind = ? AND layer = ?", _key(group))
        return {unit: from_text(figures) for unit, figures in rows}

    def examples(self, group: Group) -> dict[int, list[Example]]:
        """The photographs at the ends of the range of each unit of a group."""
        found: dict[int, list[Example]] = {}
        rows = self._read(
            "SELECT unit, sign, number, name, value, box FROM examples JOIN photographs ON photograph = number"
            " WHERE kind = ? AND layer = ? ORDER BY unit, sign DESC, rank",
            _key(group),
        )
        for unit, sign, number, name, value, box in rows:
            photograph = Photograph(number, from_text(name))
            found.setdefault(unit, []).append(Example(sign, photograph, value, tuple(from_text(box))))
        return found

    def neighbours(self, group: Group) -> dict[int, list[Neighbour]]:
        """The units that are most similar to each unit of a group, the most similar first."""
        found: dict[int, list[Neighbour]] = {}
        rows = self._read(
            "SELECT unit, other, how, similarity FROM neighbours WHERE kind = ? AND layer = ? ORDER BY unit, how, rank",
            _key(group),
        )
        for unit, *row in rows:
            found.setdefault(unit, []).append(Neighbour(*row))
        return found

    def _repr_html_(self) -> str:
        """Some units of each layer, for a notebook."""
        return draw_inline(self.folder, self.plan, [(stored.tile, stored.figures) for stored in self.tiles()])

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with closing(open_index(self.folder)) as connection, telling(self.folder / INDEX):
            return connection.execute(query, values).fetchall()


def _key(group: Group) -> tuple[str, str]:
    return group.kind, to_text(group.layer)
