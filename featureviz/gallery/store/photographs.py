"""The photographs of a gallery: measured once, then kept with all that the pages show of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from featureviz.errors import ModelError
from featureviz.files import PathLike, write_bytes
from featureviz.gallery.planning.choosing import Group
from featureviz.gallery.planning.plan import Plan
from featureviz.gallery.planning.tile import GATE
from featureviz.gallery.store.index import to_text
from featureviz.gallery.store.reading import Photograph
from featureviz.gallery.store.writing import Store
from featureviz.gallery.tiles import encode_jpeg, to_json
from featureviz.lab.statistics.gate_statistics import LEVELS
from featureviz.lab.statistics.pictures import Pictures, Source
from featureviz.lab.statistics.units.neighbours import nearest_units
from featureviz.lab.statistics.units.unit_statistics import UnitStatistics
from featureviz.lab.unit_weights import weight_similarity
from featureviz.network.model import TappedModel, tapped

SHOWN, NEAREST = 6, 6  # photographs at each end; neighbours
QUALITY = 90  # of JPEG


def measure_photographs(
    plan: Plan, model: TappedModel, pictures: Source, out: PathLike, *, most: int = SHOWN, progress: bool = True
) -> None:
    """Measure the units of ``plan`` on ``pictures`` in one pass, and keep in the gallery what its pages show.

    These are the photographs that excite and suppress each unit most, with a box where the unit is strongest, the
    distribution of its score, and the units that are most similar to it. A folder that was measured before for the same
    units is not measured again, as long as the names and sizes of its files are the same.

    Args:
        plan: of this very network.
        model: the network.
        pictures: whatever ``fv.lab.UnitStatistics.measure`` takes; a folder, mostly.
        out: the folder of the gallery.
        most: how many photographs are kept at each end.
        progress: whether to show a bar.
    """
    plan.check(tapped(model))
    source = Pictures(pictures, model.input_size((224, 224))) if isinstance(pictures, str | os.PathLike) else pictures
    units = _list_units(plan)
    about = _describe_source(source, units, plan, most)
    with Store.hold(out, plan) as store:
        if about is not None and store.noted("photographs") == about:
            return
        layers = [g.layer for g in plan.groups if g.kind != GATE]
        gates = [g.layer for g in plan.groups if g.kind == GATE]
        natural = UnitStatistics.measure(
            model, source, layers, gates, units=units, most=most, joint=True, progress=progress
        ).completed()
        store.note("photographs", None)  # first, and for good last, so that what a killed run left is measured again
        store.clear("photographs", "units", "examples", "neighbours")
        _keep_photographs(store, natural, source)
        for group in plan.groups:
            _keep_units(store, natural, group)
            _keep_neighbours(store, model, natural, group)
        store.note("natural", {"count": natural.count, "levels": list(LEVELS), "skipped": len(natural.skipped)})
        store.note("photographs", about)


def _list_units(plan: Plan) -> dict[str, list[int]]:
    """The units of each group, by its title."""
    of_group: dict[tuple[str, str], set[int]] = {}
    for tile in plan.tiles:
        of_group.setdefault(tile.group, set()).add(tile.unit)
    return {group.title: sorted(of_group.get(group.key, ())) for group in plan.groups}


def _describe_source(
    source: Source, units: Mapping[str, Iterable[int]], plan: Plan, most: int
) -> dict[str, Any] | None:
    """What tells that nothing has to be measured again; None for pictures that are no files."""
    if not isinstance(source, Pictures):
        return None
    digest = hashlib.sha256(repr((list(units.items()), plan.fingerprint, most, source.size)).encode("utf-8", "replace"))
    for name, path in zip(source.names, source.paths, strict=True):
        size = path.stat().st_size if path.exists() else -1
        digest.update(f"{name} {size}".encode(errors="surrogatepass"))
    return {"files": len(source), "sha256": digest.hexdigest(), "featureviz": version("featureviz")}


def _keep_photographs(store: Store, natural: UnitStatistics, source: Source) -> None:
    rows = []
    for number, image in natural.load_pictures(source):
        photograph = Photograph(number, natural.names.get(number) or f"picture {number}")
        write_bytes(store.folder / photograph.file, encode_jpeg(image, QUALITY))
        rows.append((number, to_text(photograph.name)))
    store.insert("photographs", rows)


def _keep_units(store: Store, natural: UnitStatistics, group: Group) -> None:
    """The distribution of each unit of a group, and the photographs at its ends."""
    name, units, examples = group.title, list[Any](), list[Any]()
    layer, key = natural[name], (group.kind, to_text(group.layer))
    for column, unit in enumerate(layer.units.tolist()):
        histogram = {
            "start": layer.histogram_start[column], "width": layer.histogram_width[column],
            "counts": layer.histogram_counts[column],
        }  # fmt: skip
        figures = {
            "mean": layer.mean[column], "sd": layer.sd[column], "quantiles": layer.quantiles[:, column],
            "histogram": histogram,
        }  # fmt: skip
        units.append((*key, unit, to_text(to_json(figures))))
        for sign, end in zip((-1, 1), natural.examples(name, unit), strict=True):
            for rank, example in enumerate(end):
                box = to_text([round(side, 4) for side in example.box])
                examples.append((*key, unit, sign, rank, example.image, example.score, box))
    store.insert("units", units)
    store.insert("examples", examples)


def _keep_neighbours(store: Store, model: TappedModel, natural: UnitStatistics, group: Group) -> None:
    name, key = group.title, (group.kind, to_text(group.layer))
    layer, rows = natural[name], list[Any]()
    assert layer.correlation is not None
    similar = {"photographs": layer.correlation}
    with suppress(ModelError):  # units that no single convolution or linear layer makes have no weights to compare
        similar["weights"] = weight_similarity(model, name)[layer.units][:, layer.units]
    for how, similarity in similar.items():
        for column, unit in enumerate(layer.units.tolist()):
            for rank, other in enumerate(nearest_units(similarity[column], layer.units, column, NEAREST)):
                rows.append((*key, unit, how, rank, other.unit, float(f"{other.similarity:.4g}")))
    store.insert("neighbours", rows)
