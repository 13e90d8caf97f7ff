"""What a photograph activates in any layers of a network, one picture a layer.

    python scripts/activation_grid.py embedded features.0 features.4 features.9 --out out
    python scripts/activation_grid.py torchvision:convnext_base features.0.0 features.3.0.block.0 \\
        features.5.26.block.0 features.7.2.block.0 --image picture.jpg --out out

Writes LAYER.png for each layer, and all.png with the picture and all layers where there are several.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torch import Tensor

import featureviz as fv
from featureviz.files import check_writable, make_file_name
from featureviz.lab.draw.colormap import below, labelled, save_picture
from featureviz.lab.maps import activation_grid
from featureviz.lab.statistics.pictures import read_picture
from featureviz.options import add_model_options, load_model, positive_int


def photograph(model: fv.TappedModel, path: str | None) -> Tensor:
    """The picture at ``path``, or scikit-image's astronaut, ``[3,H,W]`` of the network's size."""
    if path is None:
        try:
            import skimage  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise fv.FeaturevizError("scikit-image, which has a picture, is not installed; give --image") from error
        path = str(Path(skimage.__path__[0]) / "data" / "astronaut.png")
    try:
        return read_picture(path, model.size or 224)
    except (OSError, ValueError) as error:
        raise fv.FeaturevizError(f"cannot read a picture from {path}: {error}") from error


def add_options(parser: argparse.ArgumentParser) -> None:
    """The model, the picture and the folder."""
    add_model_options(parser)
    parser.add_argument("--image", default=None, help="a picture file (default: scikit-image's astronaut)")
    parser.add_argument("--out", default="out", help="folder (default: out)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("layers", nargs="+", help="as `featureviz layers MODEL` lists them")
    parser.add_argument("--channels", type=positive_int, default=128, help="of each layer, the first (default: 128)")
    parser.add_argument("--columns", type=positive_int, default=16, help="(default: 16)")
    parser.add_argument("--scale", choices=["each", "shared"], default="each", help="of the colours (default: each)")
    parser.add_argument("--colours", default="viridis", help="a colour map (default: viridis)")
    args = parser.parse_args()
    try:
        out = check_writable(args.out)
        model = load_model(args)
        image = photograph(model, args.image)
        grids = [
            activation_grid(
                model, layer, image, args.channels, scale=args.scale, columns=args.columns, name=args.colours
            )
            for layer in args.layers
        ]
        for layer, grid in zip(args.layers, grids, strict=True):
            print(save_picture(grid, out / make_file_name(layer)))
        if len(grids) > 1:
            print(save_picture(below([labelled([("the image", image)], smallest=192), *grids]), out / "all.png"))
    except fv.FeaturevizError as error:
        print(f"activation_grid: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
