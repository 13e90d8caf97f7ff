"""The local engine: one batch after the other, in this process."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch

from featureviz.gallery.engine.batch import render_batch
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.writing import Made
from featureviz.network.model import TappedModel


def render_here(
    model: TappedModel, batches: Sequence[Sequence[Tile]], options: Mapping[str, Any]
) -> Generator[list[Made]]:
    """The tiles of each batch, as soon as it is rendered."""
    device = options.get("device")
    if isinstance(device, str | torch.device) and device != "cuda:all":
        model, options = model.on(device), {**options, "device": None}  # copied once, and not for each batch
    for tiles in batches:
        yield render_batch(model, tiles, options)
