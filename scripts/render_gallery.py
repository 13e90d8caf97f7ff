"""A gallery of a whole layer, of all gates of a block, or of any list of specs.

    python scripts/render_gallery.py embedded features.6 --out out                   # every channel of a layer
    python scripts/render_gallery.py embedded gate:features.9.block.2 --units 0-31   # gates of a block
    python scripts/render_gallery.py embedded features.6:3 "-gate:features.9.block.2:1"

One batched render a layer; writes tiles with their recipes, sheet.png, report.json and index.html.
"""

from __future__ import annotations

import argparse
import sys

import featureviz as fv
from featureviz.cli import positive, shielded
from featureviz.gallery import render_specs


def expanded(model: fv.TappedModel, text: str, units: range | None) -> list[str]:
    """``text`` if it is a spec; every unit of it if it is a layer or a gated block."""
    layer = text.strip()
    names = {row.name: row.shape for row in fv.layers(model)}
    gates = {f"gate:{name}": (1, site.channels) for name, site in fv.gates(model).items()}
    sizes = names | gates
    if layer.removeprefix("-") not in sizes:
        return [text]
    shape = sizes[layer.removeprefix("-")]
    if len(shape) < 2:
        return [text]
    count = shape[-1] if len(shape) == 3 else shape[1]  # tokens [1,T,C] have their channels last
    return [f"{layer}:{unit}" for unit in (range(count) if units is None else units) if unit < count]


def unit_range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("what", nargs="+", help="layers, gate:BLOCK, or specs")
    parser.add_argument("--units", type=unit_range, default=None, help="of layers: 0-31, or one number")
    parser.add_argument("--out", default="out")
    parser.add_argument("--weights", default="default", help="path to a state dict, or none")
    parser.add_argument("--steps", type=positive, default=128)
    parser.add_argument("--size", type=positive, default=128)
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    args = parser.parse_args(shielded(sys.argv[1:]))
    try:
        model = fv.load(args.model, weights=None if args.weights == "none" else args.weights)
        specs = [spec for text in args.what for spec in expanded(model, text, args.units)]
        if not specs:
            raise fv.FeaturevizError(
                f"--units {args.units} leaves nothing of {', '.join(args.what)}; give lower numbers"
            )
        page = render_specs(
            model,
            specs,
            args.out,
            batch=args.batch,
            steps=args.steps,
            size=args.size,
            seed=args.seed,
            device=args.device,
        )
    except fv.FeaturevizError as error:
        print(f"render_gallery: {error}", file=sys.stderr)
        return 2
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
