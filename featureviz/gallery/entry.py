"""A whole gallery in one call: photographs, tiles and pages."""

from __future__ import annotations

from pathlib import Path

from featureviz.files import PathLike
from featureviz.gallery.engine.local import render_here
from featureviz.gallery.engine.run import Engine, render_plan
from featureviz.gallery.planning.plan import MANIFEST, Plan
from featureviz.gallery.site.build import build_site
from featureviz.gallery.store.photographs import measure_photographs
from featureviz.lab.statistics.pictures import Source
from featureviz.network.model import TappedModel
from featureviz.rendering.shards import Devices


def render_gallery(
    plan: Plan, model: TappedModel, out: PathLike, *, pictures: Source | None = None, engine: Engine = render_here,
    device: Devices = None, progress: bool = True,
) -> Path:  # fmt: skip
    """Measure the units of ``plan`` on photographs, render its tiles, and build its pages; returns ``out/index.html``.

    What is in the folder already is not done again. After Ctrl-C, which is raised, or an error, the pages show what is
    finished, and the same call goes on.

    Args:
        plan: of ``fv.gallery.plan``.
        model: the network of the plan.
        out: the folder of the gallery.
        pictures: natural pictures: a folder, ``Pictures``, a tensor ``[N,3,H,W]`` in [0,1], or anything else that
            ``fv.lab.UnitStatistics.measure`` takes. The pages show those that excite and suppress each unit most.
        engine: what renders the tiles: ``fv.gallery.render_here``, or workers (``fv.gallery.RayEngine``).
        device: where to work; the model's own by default.
        progress: whether to show bars.

    Raises:
        InvalidInput: as for ``fv.gallery.render_plan``.
    """
    try:
        if pictures is not None:
            measure_photographs(plan, model, pictures, out, progress=progress)
        render_plan(plan, model, out, engine=engine, device=device, progress=progress)
    except KeyboardInterrupt as stop:
        if not (Path(out) / MANIFEST).is_file():  # nothing was begun
            raise
        raise KeyboardInterrupt(f"{build_site(out)} shows what is done; the same command goes on") from stop
    return build_site(out)
