"""What three attentions do to the same feature map: squeeze-and-excitation, spatial attention, CBAM, as heat maps.

    python scripts/attention_demo.py --out docs/attention.png
    python scripts/attention_demo.py --image cat.jpg --layer features.3 --seed 1 --out attention.png

The upper part shows a photograph's feature map in the embedded network, the lower part three channels of 4x4 that are
small enough to check by hand. Each shows the input, the weights, the output, and the difference of input and output.
Maps of a kind share one colour scale. Without --image the photograph is scikit-image's cat.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from attention_page import Page, Reweighted, compact
from PIL import Image, ImageOps
from torch import Tensor, nn

import featureviz as fv
from featureviz.files import write_bytes
from featureviz.network.taps import INPUT, Tap, hooked
from featureviz.nn import CBAM, SEModule, SpatialAttention
from featureviz.options import run_command

SIDE = 224  # of the photograph, in pixels
EXAMPLE = (  # three channels with the means 2, 0.5 and 1: a blob, a diagonal, an edge
    ((1, 2, 2, 1), (2, 5, 4, 1), (2, 4, 3, 1), (1, 1, 1, 1)),
    ((2, 0, 0, 0), (0, 2, 0, 0), (0, 0, 2, 0), (0, 0, 0, 2)),
    ((0, 0, 1, 3), (0, 0, 1, 3), (0, 0, 1, 3), (0, 0, 1, 3)),
)
W1, W2 = ((0.2, 0.4, 0.1),), ((0.5,), (1.0,), (-0.5,))
CONTRAST = ((-0.125, -0.125, -0.125), (-0.125, 1.0, -0.125), (-0.125, -0.125, -0.125))
BY_HAND = (
    "mlp, no biases:\n  W1 = (0.2, 0.4, 0.1)\n  W2 = (0.5, 1, -0.5)\nconv 3x3, on the maximum:\n  1, around it -1/8"
)
SPREAD = 1.5  # standard deviation of the logits of random attention


# ------------------------------------------------------------------------------------------------------- attention
def reweight(x: Tensor, blocks: Sequence[nn.Module]) -> list[Reweighted]:
    """``[C,H,W]`` under SE, spatial attention and CBAM, with the weights that the gates of each block gave."""
    texts = (
        ("Squeeze-and-excitation", "which channels:\nsigmoid(mlp(mean))"),
        ("Spatial attention", "which positions:\nsigmoid(conv(mean, max))"),
        ("CBAM", "channels, by mean and max:\nsigmoid(mlp(mean) + mlp(max)),\nthen positions"),
    )
    results = []
    for (name, formula), block in zip(texts, blocks, strict=True):
        weights: dict[str, Tensor] = {}
        gates = {n: Tap(n) for n, module in block.named_modules() if isinstance(module, nn.Sigmoid)}
        with hooked(block, gates, weights.__setitem__):
            y = block(x[None])[0]
        channel = next((gate[0] for gate in weights.values() if gate.ndim == 2), None)
        position = next((gate[0, 0] for gate in weights.values() if gate.ndim == 4), None)
        results.append(Reweighted(name, formula, y, channel, position))
    return results


def add_cbam(se: SEModule, spatial: SpatialAttention) -> tuple[SEModule, SpatialAttention, CBAM]:
    """Both blocks, and a CBAM made of copies of their layers."""
    cbam = CBAM(se.in_channels, se.reduction, spatial.kernel_size, bias=False)
    cbam.channel.load_state_dict(se.state_dict())
    cbam.spatial.load_state_dict(spatial.state_dict())
    return se, spatial, cbam


def make_random_blocks(x: Tensor, seed: int) -> tuple[SEModule, SpatialAttention, CBAM]:
    """Blocks with random layers, the last one before each gate scaled so that logits on ``x`` have sd ``SPREAD``.

    The kernels are smooth and sum to zero, because otherwise all positions would have nearly the same weight.
    """
    generator = torch.Generator().manual_seed(seed)
    se, spatial = SEModule(len(x), reduction=16, bias=False), SpatialAttention(7)
    nn.init.normal_(se.fc1.weight, generator=generator)
    nn.init.normal_(se.fc2.weight, generator=generator)
    coarse = torch.randn(1, 2, 3, 3, generator=generator)
    kernel = nn.functional.interpolate(coarse, size=7, mode="bicubic", align_corners=True)
    spatial.conv.weight.copy_(kernel - kernel.mean((2, 3), keepdim=True))
    blocks = se, spatial, cbam = add_cbam(se, spatial)
    for block, gate, last in (
        (se, "gate", se.fc2),
        (spatial, "gate", spatial.conv),
        (cbam, "channel.gate", cbam.channel.fc2),
        (cbam, "spatial.gate", cbam.spatial.conv),
    ):
        taken: dict[str, Tensor] = {}
        with hooked(block, {"logits": Tap(gate, INPUT)}, taken.__setitem__):
            block(x[None])
        last.weight.mul_(SPREAD / taken["logits"].std().clamp(min=1e-6))
    return blocks


def make_example_blocks() -> tuple[SEModule, SpatialAttention, CBAM]:
    """Blocks with the weights W1 and W2, and a kernel that compares the maximum at a position with its neighbours."""
    se, spatial = SEModule(3, reduction=3, bias=False), SpatialAttention(3)
    se.fc1.weight.copy_(torch.tensor(W1))
    se.fc2.weight.copy_(torch.tensor(W2))
    spatial.conv.weight.zero_()[0, 1] = torch.tensor(CONTRAST)
    return add_cbam(se, spatial)


# ----------------------------------------------------------------------------------------------------------- input
def read_photograph(path: str | None) -> Image.Image:
    """The middle square of the picture at ``path``, or of scikit-image's cat."""
    try:
        if path is None:
            from skimage import data  # pyright: ignore[reportMissingImports]

            pixels = data.chelsea()
        else:
            pixels = iio.imread(path, index=0, plugin="pillow", mode="RGB")
    except ImportError as error:
        raise fv.FeaturevizError("scikit-image, which has a picture, is not installed; give --image PATH") from error
    except OSError as error:
        raise fv.FeaturevizError(f"cannot read a picture from {path}: {error}; give another --image") from error
    return ImageOps.fit(Image.fromarray(pixels), (SIDE, SIDE))


@torch.no_grad()
def draw_page(args: argparse.Namespace) -> Image.Image:
    photo = read_photograph(args.image)
    model = fv.load("embedded", size=SIDE)
    pixels = torch.from_numpy(np.array(photo)).movedim(-1, 0)[None] / 255
    x = model(pixels, [args.layer])[args.layer][0].relu()
    if x.ndim != 3 or x.shape[-1] < 4:
        raise fv.FeaturevizError(f"--layer {args.layer} gives {list(x.shape)}; expected [C,H,W] of 4x4 or larger")
    small = torch.tensor(EXAMPLE, dtype=torch.float32)
    page = Page(
        "Three attentions on the same feature map",
        "Each multiplies its input by weights between 0 and 1, of channels, positions, or both.",
    )
    head = (
        f"A photograph at {args.layer} of the embedded network, rectified. Untrained attention, seed {args.seed},"
        f" logits of standard deviation {SPREAD}"
    )
    page.section(head, x, photo, reweight(x, make_random_blocks(x, args.seed)))
    head = "Three channels small enough to check by hand; CBAM has the layers of the two above it"
    page.section(head, small, BY_HAND, reweight(small, make_example_blocks()))
    return compact(page.finished(), photo)


def write_page(args: argparse.Namespace) -> None:
    buffer = io.BytesIO()
    draw_page(args).save(buffer, "PNG", optimize=True)
    write_bytes(Path(args.out), buffer.getvalue())
    print(args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default=None, help="a photograph (default: scikit-image's cat)")
    parser.add_argument("--layer", default="features.2.block.1", help="layer of the embedded network")
    parser.add_argument("--seed", type=int, default=0, help="of the random attention layers (default: 0)")
    parser.add_argument("--out", default="attention.png", help="the picture to write (default: attention.png)")
    args = parser.parse_args(argv)
    return run_command("attention_demo", lambda: write_page(args))


if __name__ == "__main__":
    sys.exit(main())
