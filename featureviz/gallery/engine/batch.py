"""One batch of tiles, rendered: the files and the figures that a store keeps."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from featureviz.errors import InvalidInput, NonFinite, out_of_memory
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.writing import Made
from featureviz.gallery.tiles import to_json
from featureviz.network.model import TappedModel
from featureviz.objectives.goals import merge_per_image
from featureviz.objectives.spec import parse
from featureviz.rendering.entry import render
from featureviz.rendering.png import encode_png
from featureviz.rendering.rendering import Rendering


def render_batch(model: TappedModel, tiles: Sequence[Tile], options: Mapping[str, Any]) -> list[Made]:
    """Render tiles of one layer together.

    Where a score is not finite, all tiles of the batch are rendered alone, and those that fail keep their last finite
    image, with the error in their figures.

    Raises:
        InvalidInput: the memory is full.
    """
    started, failure = time.perf_counter(), dict[str, Any]()
    try:
        made = _render(model, tiles, options)
    except NonFinite as error:
        if len(tiles) > 1:
            return [one for tile in tiles for one in render_batch(model, [tile], options)]
        made, failure = error.rendering.completed(), {"error": str(error)}
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not out_of_memory(error):
            raise
        raise InvalidInput(
            f"the memory is full with {len(tiles)} tiles of {tiles[0].layer!r} at once; give a smaller batch (--batch),"
            " or smaller images (--size)"
        ) from error
    seconds = (time.perf_counter() - started) / len(tiles)
    return [_describe(tile, made, row, seconds, failure) for row, tile in enumerate(tiles)]


def _render(model: TappedModel, tiles: Sequence[Tile], options: Mapping[str, Any]) -> Rendering:
    goal = merge_per_image([parse(tile.spec) for tile in tiles])
    with warnings.catch_warnings():
        # The figures of each tile say whether it moved, and the pages show it.
        warnings.filterwarnings("ignore", ".* images are still as they started", RuntimeWarning)
        rendering = render(model, goal, image_ids=[tile.variant for tile in tiles], progress=False, **options)
    return rendering.completed()


def _describe(tile: Tile, made: Rendering, row: int, seconds: float, failure: Mapping[str, Any]) -> Made:
    recipe, held_out = made.recipe_of(row), made.held_out
    figures: dict[str, Any] = {"steps": recipe["steps done"], "moved": "unmoved" not in recipe, **failure}
    if len(held_out.scores):
        scores = held_out.scores[:, row]
        unseen = {kind: values[row] for kind, values in held_out.unseen.items()}
        figures |= {"score": scores.mean(), "sd": scores.std(correction=0), "unseen": unseen}
    for name, values in (("gate", held_out.gates[row]), ("logit", held_out.logits[row])):
        if len(values) == 1:
            figures[name] = next(iter(values.values())).mean()
    trace = tuple(made.scores[:, row].tolist())
    return Made(tile.key, encode_png(made.images[row], recipe, alpha=made.alpha), to_json(figures), trace, seconds)
