"""An atlas of the gates of a network: what opens and what closes each one, as pages and as one poster.

    python scripts/gates_atlas.py embedded --out atlas                               # every gate of every block
    python scripts/gates_atlas.py embedded --blocks features.9.block.2 --units 0:32 --out atlas
    python scripts/gates_atlas.py torchvision:efficientnet_b0 --units 0:16 --images PHOTOGRAPHS --out atlas

The same command goes on where it was stopped. OUT is the folder of a gallery, with index.html and poster.jpg.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from featureviz import options
from featureviz.files import check_writable
from featureviz.gallery import plan, poster, render_gallery
from featureviz.rendering.presets import STEPS


def write_atlas(args: argparse.Namespace) -> None:
    check_writable(args.out)  # before a network is downloaded
    model = options.load_model(args)
    made = plan(
        model, gates=args.blocks or "all", units=options.read_units(args), batch=args.batch, steps=args.steps,
        size=args.size, seed=args.seed,
    )  # fmt: skip
    print(render_gallery(made, model, args.out, pictures=args.images, device=args.device))
    shown = {"columns": args.columns, "photographs": args.images is not None, "note": args.note}
    print(poster(args.out, Path(args.out) / "poster.jpg", **shown))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_model_options(parser)
    parser.add_argument("--blocks", nargs="+", default=[], metavar="BLOCK", help="blocks (default: all)")
    options.add_units_option(parser, "only these gates of each block")
    text = "folder of photographs: show those that open and close each gate most"
    parser.add_argument("--images", metavar="DIR", default=None, help=text)
    parser.add_argument("--out", default="atlas", help="folder of the gallery (default: atlas)")
    parser.add_argument("--columns", type=options.positive_int, default=None, help="gates side by side on the poster")
    parser.add_argument("--note", default="", help="a line below the poster's title, such as the source of the weights")
    parser.add_argument("--batch", type=options.positive_int, default=16, help="pictures at a time (default: 16)")
    options.add_device_option(parser)
    options.add_ascent_options(parser, steps=STEPS)
    return options.run_command("gates_atlas", lambda: write_atlas(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
