"""The activations of any layers of a network for one photograph, one picture for each layer.

    python scripts/activation_grid.py embedded features.0 features.4 features.9 --out out
    python scripts/activation_grid.py torchvision:convnext_base features.0.0 features.3.0.block.0 \\
        features.5.26.block.0 features.7.2.block.0 --image picture.jpg --out out

The script writes LAYER-HASH.png for each layer. If there are several, it also writes all.png with the photograph and
all layers.
"""

from __future__ import annotations

import argparse
import sys

from examples import find_examples
from torch import Tensor

from featureviz.files import check_writable, make_file_name
from featureviz.image.base import Size
from featureviz.lab import activation_grid, draw_sheet, read_picture, save_picture
from featureviz.lab.draw.sheet import join_column
from featureviz.options import add_model_options, load_model, positive_int, run_command


def read_photograph(path: str | None, size: Size, default: str = "astronaut.png") -> Tensor:
    """The picture at ``path``, or one of scikit-image, ``[3,H,W]`` of the given size."""
    return read_picture(find_examples() / default if path is None else path, size)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The model, the picture and the folder."""
    add_model_options(parser)
    parser.add_argument("--image", default=None, help="a picture file (default: scikit-image's astronaut)")
    parser.add_argument("--out", default="out", help="folder (default: out)")


def write_grids(args: argparse.Namespace) -> None:
    """Draw every layer, then write the pictures."""
    out, model = check_writable(args.out), load_model(args)
    image = read_photograph(args.image, model.size or 224)
    options = {"scale": args.scale, "columns": args.columns, "name": args.colours}
    grids = [activation_grid(model, layer, image, args.channels, **options) for layer in args.layers]
    named = zip(args.layers, grids, strict=True)
    paths = [save_picture(grid, out / make_file_name(layer)) for layer, grid in named]
    if len(grids) > 1:
        photograph = draw_sheet([("the image", image)], smallest=192)
        paths.append(save_picture(join_column([photograph, *grids]), out / "all.png"))
    print(*paths, sep="\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("layers", nargs="+", help="as `featureviz layers MODEL` lists them")
    parser.add_argument("--channels", type=positive_int, default=128, help="the first ones of a layer (default: 128)")
    parser.add_argument("--columns", type=positive_int, default=16, help="(default: 16)")
    parser.add_argument("--scale", choices=["each", "shared"], default="each", help="of the colours (default: each)")
    parser.add_argument("--colours", default="viridis", help="a colour map (default: viridis)")
    return run_command("activation_grid", lambda: write_grids(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
