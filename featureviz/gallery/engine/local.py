"""The local engine: one batch after the other, in this process."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from featureviz.gallery.engine.batch import render_batch
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.writing import Made
from featureviz.network.model import TappedModel


def render_here(
    model: TappedModel, batches: Sequence[Sequence[Tile]], options: Mapping[str, Any]
) -> Generator[list[Made]]:
    """The tiles of each batch, as soon as it is rendered."""
    for tiles in batches:
        yield render_batch(model, tiles, options)
