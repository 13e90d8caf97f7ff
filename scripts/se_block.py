"""A squeeze-and-excitation block at a photograph: its maps before and after the gates, its weights, its Jacobian.

    python scripts/se_block.py embedded features.9.block.2 --out out
    python scripts/se_block.py torchvision:efficientnet_b0 features.6.0.block.2 --image picture.jpg --out out

The script writes maps.png, weights.png and jacobian.png (the Jacobian from squeeze to gates). If a block does not have
one of them, the script says so and its exit status is 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from activation_grid import add_options, read_photograph
from torch import Tensor

import featureviz as fv
from featureviz.files import check_writable
from featureviz.lab import gate_jacobian, gate_weights, gated_maps, save_picture
from featureviz.options import load_model, positive_int, run_command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("site", help="a gated block, as `featureviz gates MODEL` lists them")
    parser.add_argument("--channels", type=positive_int, default=14, help="in maps.png, those that change most")
    parser.add_argument("--scale", choices=["each", "shared"], default="each", help="of the colours in maps.png")
    parser.add_argument("--order", choices=["modes", "natural"], default="modes", help="of jacobian.png")
    return run_command("se_block", lambda: write_pictures(parser.parse_args()))


def write_pictures(args: argparse.Namespace) -> None:
    """Draw and write every picture that the block has."""
    out, model = check_writable(args.out), load_model(args)
    maps = gated_maps(model, args.site, read_photograph(args.image, model.size or 224))
    squeeze = maps.x.mean((1, 2))
    pictures: dict[str, Callable[[], Tensor]] = {
        "maps": lambda: maps.picture(args.channels, scale=args.scale),
        "weights": lambda: gate_weights(model, args.site).picture(),
        "jacobian": lambda: gate_jacobian(model, args.site, squeeze).picture(args.order),
    }
    paths, missing = list[Path](), list[str]()
    for name, make_picture in pictures.items():
        try:
            paths.append(save_picture(make_picture(), out / f"{name}.png"))
        except fv.FeaturevizError as error:  # a block of another kind has no two layers, but it has maps
            missing.append(f"{name}.png was not made: {error}")
    print(*paths, sep="\n")
    if missing:
        raise fv.FeaturevizError("; ".join(missing))


if __name__ == "__main__":
    sys.exit(main())
