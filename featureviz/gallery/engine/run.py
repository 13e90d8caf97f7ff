"""Filling a gallery: every tile of a plan that is not there yet is rendered and stored."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from typing import Any

import torch

from featureviz.checks import flag, instance
from featureviz.errors import InvalidInput
from featureviz.files import PathLike, show_path
from featureviz.gallery.engine.local import render_here
from featureviz.gallery.planning.plan import Plan
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.store.reading import Gallery
from featureviz.gallery.store.writing import Made, Store
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import postponed_interrupts, progress_bar
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

    After Ctrl-C, which is raised, and after an error, all batches that were finished are there.

    Raises:
        InvalidInput: the plan is of another network; the folder holds another gallery, is in use, or cannot be written.
    """
    progress = flag("progress", progress)
    instance("plan", plan, Plan).check(tapped(model))
    options = plan.recipe.options | {"device": device}
    with Store.hold(out, plan) as store:
        missing = {tile.key for tile in store.missing()}
        # A batch is rendered whole, so that its pixels are the same again; only what is missing is written.
        batches = [tiles for tiles in plan.batches() if any(tile.key in missing for tile in tiles)]
        store.note("run", _describe_run(engine, device))
        try:
            with closing(engine(tapped(model), batches, options)) as finished:  # however it ends, workers are dismissed
                _fill(store, missing, finished, progress and bool(batches))
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(_describe_state(store, missing)) from error
        except InvalidInput as error:
            raise InvalidInput(f"{error}. {_describe_state(store, missing)}") from error
    return Gallery.open(out)


def _fill(store: Store, missing: set[str], batches: Iterable[Sequence[Made]], progress: bool) -> None:
    """Store what is missing of each batch as soon as it is rendered, and take it from ``missing``."""
    planned, name = len(store.plan), ascii(store.plan.model)[1:-1]
    with progress_bar(progress, total=planned, initial=planned - len(missing), desc=name, unit="tile") as bar:
        for made in batches:
            new = [tile for tile in made if tile.key in missing]
            with postponed_interrupts():  # Ctrl-C waits until the batch is stored
                store.add(new)
                missing -= {tile.key for tile in new}
            if bar is not None:
                bar.update(len(new))
    if missing:
        raise InvalidInput(f"the engine ended without {len(missing)} of the tiles that it was given")


def _describe_state(store: Store, missing: set[str]) -> str:
    planned = len(store.plan)
    return f"{show_path(store.folder)} has {planned - len(missing)} of {planned} tiles; the same command goes on"


def _describe_run(engine: Engine, device: Devices) -> dict[str, Any]:
    return {
        "featureviz": version("featureviz"), "torch": torch.__version__,
        "engine": getattr(engine, "__name__", type(engine).__name__),
        "threads": getattr(engine, "threads", None) or torch.get_num_threads(),
        "device": str(device or "the model's own"),
    }  # fmt: skip
