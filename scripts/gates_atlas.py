"""An atlas of the gates of a network: what opens and what closes each one, as pages and as one poster.

    python scripts/gates_atlas.py embedded --out atlas                               # every gate of every block
    python scripts/gates_atlas.py embedded --blocks features.9.block.2 --units 0:32 --out atlas
    python scripts/gates_atlas.py torchvision:efficientnet_b0 --count 16 --images PHOTOGRAPHS --out atlas

The same command goes on where it was stopped. OUT is the folder of a gallery, with index.html and poster.jpg.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import featureviz as fv
from featureviz import options
from featureviz.files import check_writable
from featureviz.gallery import plan, poster, render_gallery
from featureviz.gallery.cards.entry import choose_gates
from featureviz.rendering.presets import STEPS


def write_atlas(args: argparse.Namespace) -> None:
    check_writable(args.out)  # before a network is downloaded
    model = options.load_model(args)
    blocks = args.blocks or list(model.gates.channelwise)
    units = options.read_units(args) if args.count is None else choose_varying(model, blocks, args)
    made = plan(
        model, gates=blocks, units=units, batch=args.batch, steps=args.steps, size=args.size, seed=args.seed
    )  # fmt: skip
    print(render_gallery(made, model, args.out, pictures=args.images, device=args.device))
    shown = {"columns": args.columns, "photographs": args.images is not None, "note": args.note}
    print(poster(args.out, Path(args.out) / "poster.jpg", **shown))


def choose_varying(model: fv.TappedModel, blocks: list[str], args: argparse.Namespace) -> dict[str, list[int]]:
    """Of each block the gates that vary most between the photographs."""
    if args.images is None:
        raise fv.InvalidInput("--count takes the gates that vary most between photographs: give them with --images DIR")
    natural = fv.lab.GateStatistics.measure(model, args.images, progress=True).completed()
    chosen = choose_gates(blocks, natural, args.count * len(blocks))
    return {f"gate:{block}": units for block, units in chosen.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_model_options(parser)
    parser.add_argument("--blocks", nargs="+", default=[], metavar="BLOCK", help="blocks (default: all)")
    which = parser.add_mutually_exclusive_group()
    options.add_units_option(which, "only these gates of each block")
    text = "only so many gates of each block, those that vary most between the photographs"
    which.add_argument("--count", type=options.positive_int, default=None, help=text)
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
