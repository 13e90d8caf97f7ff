"""A gallery of a whole layer, of all gates of a block, or of any list of specs.

    python scripts/render_gallery.py embedded features.6 --out out                   # every channel of a layer
    python scripts/render_gallery.py embedded gate:features.9.block.2 --units 0:32   # gates of a block
    python scripts/render_gallery.py embedded features.6:3 "-gate:features.9.block.2:1"

Writes tiles with their recipes, sheet.png, report.json and index.html.
"""

from __future__ import annotations

import argparse
import sys

from featureviz import options
from featureviz.gallery import expand_specs, render_specs
from featureviz.gallery.folder import prepare_folder
from featureviz.rendering.presets import STEPS


def write_gallery(args: argparse.Namespace) -> None:
    prepare_folder(args.out)  # before a network is downloaded
    model = options.load_model(args)
    page = render_specs(
        model, expand_specs(model, args.what, options.read_units(args)), args.out,
        batch=args.batch, steps=args.steps, size=args.size, seed=args.seed, device=args.device,
    )  # fmt: skip
    print(page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_model_options(parser)
    parser.add_argument("what", nargs="+", help="layers, gate:BLOCK, or specs")
    options.add_units_option(parser, "only these units of layers")
    parser.add_argument("--out", default="out", help="folder for the tiles and the page (default: out)")
    parser.add_argument("--batch", type=options.positive_int, default=16, help="images at a time (default: 16)")
    options.add_device_option(parser)
    options.add_ascent_options(parser, steps=STEPS)
    return options.run_command(
        "render_gallery", lambda: write_gallery(parser.parse_args(options.protect_specs(sys.argv[1:])))
    )


if __name__ == "__main__":
    sys.exit(main())
