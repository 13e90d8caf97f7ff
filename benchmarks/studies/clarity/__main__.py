"""Which recipe makes pictures that one can read? Recipes at equal steps, compared on the same units.

    python -m benchmarks.studies.clarity --images CROPS [--weights WEIGHTS.safetensors] [--quick]

Each unit is rendered with each recipe, from the same noise, with the same steps of one view. The figures of a picture
are its score on held-out views and on kinds of views that no ascent uses (JPEG, blur, crops), its contrast, clipped
pixels and spectral slope. Two more compare it with the unit's top natural pictures. One is the distance of its features
in the network itself. The other is whether another network, EfficientNet-Lite0, finds it like them (AUC).
Planted optima, whose
best picture is known, are found or not. The table has medians over units of the ratio or difference to the plain
recipe, with 95 % intervals. CROPS is a folder of at least 1,000 photographs (scripts/natural_crops.py makes one).

Pictures and figures are kept in ``out/clarity`` as they are made, so an interrupted run goes on where it stopped.
``--quick`` takes two units and few steps, to show that the study runs.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import featureviz as fv
from benchmarks.harness.record import RESULTS, write_result
from benchmarks.studies.clarity.figures import measure_pictures
from benchmarks.studies.clarity.nature import Nature
from benchmarks.studies.clarity.networks import LAYERS, MISSING, draw_units, load_lite0, load_networks
from benchmarks.studies.clarity.planted import measure_planted
from benchmarks.studies.clarity.recipes import list_recipes
from benchmarks.studies.clarity.report import summarise, write_sheets

STEPS, UNITS, SIZE, PICTURES, SEED = 128, 8, 128, 1000, 23


def study_network(
    name: str, model: fv.TappedModel, recipes: dict[str, dict[str, Any]], nature: Nature,
    observer: fv.TappedModel | None, work: Path, args: argparse.Namespace,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row of figures for each picture; what ``work`` already holds is not made again."""
    rows = list[dict[str, Any]]()
    layers = [layer for layer in LAYERS[name] if layer in nature.layers]
    for layer, (recipe, options) in tqdm(list(product(layers, recipes.items())), desc=name):
        stem = f"{name}-{layer}-{recipe}-{args.units}-{args.steps}-{args.seed}".replace(":", "_").replace(" ", "_")
        path = work / f"{stem}.json"
        if not path.is_file():
            units = draw_units(model, layer, args.units, args.seed)
            started = time.perf_counter()
            made = fv.render(model, [f"{layer}:{u}" for u in units], size=SIZE, progress=False, **options).completed()
            seconds = (time.perf_counter() - started) / len(units)
            figures = measure_pictures(model, layer, units, made, nature, observer)
            shared = {"network": name, "layer": layer, "recipe": recipe, "seconds": seconds}
            torch.save((255 * made.images).round().byte(), path.with_suffix(".pt"))
            path.write_text(json.dumps([shared | row for row in figures]))
        rows += json.loads(path.read_text())
    return rows


def main() -> None:
    args = parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    recipes = {n: r for n, r in list_recipes(args.steps).items() if not args.recipes or n in args.recipes}
    observer = load_lite0()
    if observer is None:
        print(MISSING)
    result: dict[str, Any] = {
        "steps": args.steps, "image": SIZE, "units": args.units, "seed": args.seed, "networks": {},
        "observer": "none" if observer is None else observer.name,
    }  # fmt: skip
    for name, load in load_networks(args.networks, args.weights).items():
        model = load()
        if model is None:
            print(f"{name} is left out: it wants --weights, or a package that is not installed")
            continue
        watched = None if name == "lite0" else observer
        layers = [layer for layer in LAYERS[name] if not args.layers or layer in args.layers]
        nature = Nature.read_or_measure(work / f"nature-{name}.pt", model, layers, args.images, args.pictures, watched)
        rows = study_network(name, model, recipes, nature, watched, work, args)
        result["networks"][name] = summarise(rows)
        write_sheets(rows, work, name, args)
    result["planted"] = measure_planted(recipes, args.images, args.planted)
    print(json.dumps(result, indent=1))
    print(write_result("clarity", result, out=work if args.quick or args.recipes or args.layers else RESULTS))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--weights", help="of the real network (default: leave it out)")
    parser.add_argument("--networks", nargs="+", choices=list(LAYERS), default=list(LAYERS))
    parser.add_argument("--layers", nargs="+", default=[], help="(default: all)")
    parser.add_argument("--recipes", nargs="+", default=[], help="(default: all)")
    parser.add_argument("--units", type=int, default=UNITS, help=f"of each layer (default: {UNITS})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"(default: {STEPS})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"draws the units (default: {SEED})")
    parser.add_argument("--work", type=Path, default=Path("out/clarity"), help="(default: out/clarity)")
    parser.add_argument("--quick", action="store_true", help="two units, few steps and pictures")
    args = parser.parse_args()
    args.pictures, args.planted = PICTURES, 16
    if args.quick:
        args.units, args.steps, args.pictures, args.planted = 2, 8, 64, 2
    return args


if __name__ == "__main__":
    main()
