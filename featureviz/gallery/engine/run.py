"""Filling a gallery: every tile of a plan that is not there yet is rendered and stored."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from typing import Any

import torch

from featureviz.errors import InvalidInput
from featureviz.files import PathLike
from featureviz.gallery.engine.local import render_here
from featureviz.gallery.planning.fingerprint import take_fingerprint
from featureviz.gallery.planning.plan import Plan
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.reading import Gallery
from featureviz.gallery.store.writing import Made, Store
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import progress_bar
from featureviz.rendering.shards import Devices

Engine = Callable[[TappedModel, Sequence[Sequence[Tile]], Mapping[str, Any]], Generator[list[Made]]]


def render_plan(
    plan: Plan, model: TappedModel, out: PathLike, *, engine: Engine = render_here, device: Devices = None,
    progress: bool = True,
) -> Gallery:  # fmt: skip
    """Render every tile of ``plan`` that is not in the folder ``out``, and store it as soon as its batch is done.

    A run may end at any moment, also by SIGKILL: the same call goes on where it stopped. A file that was changed or
    removed is rendered again. The pixels of a tile are the same whatever was there before and whichever engine renders
    it, on one machine with one number of threads.

    Args:
        plan: of this very network.
        model: the network.
        out: the folder of the gallery.
        engine: what renders the batches, in any order: ``render_here``, or workers (``RayEngine``).
        device: where to render; the model's own by default.
        progress: whether to show a bar with the time left.

    Raises:
        InvalidInput: the plan is of another network; the folder holds another gallery, is in use, or cannot be written.
    """
    model = tapped(model)
    if take_fingerprint(model) != plan.fingerprint:
        raise InvalidInput(
            f"the plan is of another network than {model.name}, or of other weights or interventions; make a new plan"
        )
    options = plan.recipe.options | {"device": device}
    with Store.hold(out, plan) as store:
        missing = {tile.key for tile in store.missing()}
        batches = [tiles for tiles in plan.batches() if any(tile.key in missing for tile in tiles)]
        store.note("run", _describe_run(engine, device))
        with (
            progress_bar(
                progress and bool(batches),
                total=len(plan),
                initial=len(plan) - len(missing),
                desc=plan.model,
                unit="tile",
            ) as bar,
            closing(engine(model, batches, options)) as finished,
        ):  # however this ends, workers are dismissed
            for made in finished:
                # A batch is rendered whole, so that its pixels are the same again; only what is missing is written.
                new = [tile for tile in made if tile.key in missing]
                store.add(new)
                if bar is not None:
                    bar.update(len(new))
    return Gallery.open(out)


def _describe_run(engine: Engine, device: Devices) -> dict[str, Any]:
    return {
        "featureviz": version("featureviz"), "torch": torch.__version__,
        "engine": getattr(engine, "__name__", type(engine).__name__),
        "threads": getattr(engine, "threads", None) or torch.get_num_threads(),
        "device": str(device or "the model's own"),
    }  # fmt: skip
