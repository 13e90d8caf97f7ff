"""What three attentions do to the same feature map: squeeze-and-excitation, spatial attention, CBAM, as heat maps.

    python scripts/attention_demo.py --out docs/attention.png
    python scripts/attention_demo.py --image cat.jpg --layer features.3 --seed 1 --out attention.png

Above, a photograph's map in the embedded network; below, three channels of 4x4 small enough to check by hand. Draws
what comes in, the weights, what comes out and what was taken away, all of one kind on one scale. Without --image it
takes a cat from scikit-image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from attention_page import Page, Reweighted, compact
from PIL import Image, ImageOps
from torch import Tensor, nn

import featureviz as fv
from featureviz.network.taps import INPUT, Tap, hooked
from featureviz.nn import CBAM, SEModule, SpatialAttention

SIDE = 224  # of the photograph, pixels
MEANS_2_HALF_1 = (  # channels whose averages are 2, 0.5 and 1: a blob, a diagonal, an edge
    ((1, 2, 2, 1), (2, 5, 4, 1), (2, 4, 3, 1), (1, 1, 1, 1)),
    ((2, 0, 0, 0), (0, 2, 0, 0), (0, 0, 2, 0), (0, 0, 0, 2)),
    ((0, 0, 1, 3), (0, 0, 1, 3), (0, 0, 1, 3), (0, 0, 1, 3)),
)
W1, W2 = ((0.2, 0.4, 0.1),), ((0.5,), (1.0,), (-0.5,))
CONTRAST = ((-0.125, -0.125, -0.125), (-0.125, 1.0, -0.125), (-0.125, -0.125, -0.125))
BY_HAND = (
    "mlp, no biases:\n  W1 = (0.2, 0.4, 0.1)\n  W2 = (0.5, 1, -0.5)\nconv 3x3, on the maximum:\n  1, around it -1/8"
)
SPREAD = 1.5


# ------------------------------------------------------------------------------------------------------- attention
def reweight(x: Tensor, blocks: Sequence[nn.Module]) -> list[Reweighted]:
    """``[C,H,W]`` under SE, spatial attention and CBAM; the weights are read where each block's gates put them out."""
    texts = (
        ("Squeeze-and-excitation", "which channels:\nsigmoid(mlp(mean))"),
        ("Spatial attention", "which positions:\nsigmoid(conv(mean, max))"),
        ("CBAM", "channels, by mean and max:\nsigmoid(mlp(mean) + mlp(max)),\nthen positions"),
    )
    made = []
    for (name, formula), block in zip(texts, blocks, strict=True):
        seen: dict[str, Tensor] = {}
        gates = {n: Tap(n) for n, module in block.named_modules() if isinstance(module, nn.Sigmoid)}
        with hooked(block, gates, seen.__setitem__):
            y = block(x[None])[0]
        channel = next((gate[0] for gate in seen.values() if gate.ndim == 2), None)
        position = next((gate[0, 0] for gate in seen.values() if gate.ndim == 4), None)
        made.append(Reweighted(name, formula, y, channel, position))
    return made


def with_cbam(se: SEModule, spatial: SpatialAttention) -> tuple[SEModule, SpatialAttention, CBAM]:
    """The two, and a CBAM made of copies of their layers."""
    cbam = CBAM(se.in_channels, se.reduction, spatial.kernel_size, bias=False)
    cbam.channel.load_state_dict(se.state_dict())
    cbam.spatial.load_state_dict(spatial.state_dict())
    return se, spatial, cbam


def by_chance(x: Tensor, seed: int) -> tuple[SEModule, SpatialAttention, CBAM]:
    """Random layers, the last one before each gate scaled so that its logits on x have standard deviation SPREAD.

    The kernels are smooth and sum to zero, else all positions would be weighted alike.
    """
    generator = torch.Generator().manual_seed(seed)
    se, spatial = SEModule(len(x), reduction=16, bias=False), SpatialAttention(7)
    nn.init.normal_(se.fc1.weight, generator=generator)
    nn.init.normal_(se.fc2.weight, generator=generator)
    coarse = torch.randn(1, 2, 3, 3, generator=generator)
    kernel = nn.functional.interpolate(coarse, size=7, mode="bicubic", align_corners=True)
    spatial.conv.weight.copy_(kernel - kernel.mean((2, 3), keepdim=True))
    blocks = se, spatial, cbam = with_cbam(se, spatial)
    for block, gate, last in (
        (se, "gate", se.fc2),
        (spatial, "gate", spatial.conv),
        (cbam, "channel.gate", cbam.channel.fc2),
        (cbam, "spatial.gate", cbam.spatial.conv),
    ):
        seen: dict[str, Tensor] = {}
        with hooked(block, {"logits": Tap(gate, INPUT)}, seen.__setitem__):
            block(x[None])
        last.weight.mul_(SPREAD / seen["logits"].std().clamp(min=1e-6))
    return blocks


def by_hand() -> tuple[SEModule, SpatialAttention, CBAM]:
    """W1 and W2 as in the example, and a kernel that compares a position's maximum with those around it."""
    se, spatial = SEModule(3, reduction=3, bias=False), SpatialAttention(3)
    se.fc1.weight.copy_(torch.tensor(W1))
    se.fc2.weight.copy_(torch.tensor(W2))
    spatial.conv.weight.zero_()[0, 1] = torch.tensor(CONTRAST)
    return with_cbam(se, spatial)


# ----------------------------------------------------------------------------------------------------------- input
def photograph(path: str | None) -> Image.Image:
    """The middle square of the picture at ``path``, or of scikit-image's cat."""
    try:
        if path is None:
            from skimage import data  # pyright: ignore[reportMissingImports]

            picture = Image.fromarray(data.chelsea())
        else:
            picture = Image.open(path).convert("RGB")
    except ImportError as error:
        raise fv.FeaturevizError("scikit-image is not installed, so there is no picture; give --image PATH") from error
    return ImageOps.fit(picture, (SIDE, SIDE))


@torch.no_grad()
def drawn(args: argparse.Namespace) -> Image.Image:
    photo = photograph(args.image)
    model = fv.load("embedded", size=SIDE)
    pixels = torch.from_numpy(np.array(photo)).movedim(-1, 0)[None] / 255
    x = model(pixels, [args.layer])[args.layer][0].relu()
    if x.ndim != 3 or x.shape[-1] < 4:
        raise fv.FeaturevizError(f"--layer {args.layer} gives {list(x.shape)}; expected [C,H,W] of 4x4 or larger")
    small = torch.tensor(MEANS_2_HALF_1, dtype=torch.float32)
    page = Page(
        "Three attentions on the same feature map",
        "Each multiplies its input by weights between 0 and 1, of channels, positions, or both.",
    )
    head = (
        f"A photograph at {args.layer} of the embedded network, rectified. Untrained attention, seed {args.seed},"
        f" logits of standard deviation {SPREAD}"
    )
    page.section(head, x, photo, reweight(x, by_chance(x, args.seed)))
    head = "Three channels small enough to check by hand; CBAM has the layers of the two above it"
    page.section(head, small, BY_HAND, reweight(small, by_hand()))
    return compact(page.finished(), photo)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default=None, help="a photograph; scikit-image's cat if left out")
    parser.add_argument("--layer", default="features.2.block.1", help="of the embedded network")
    parser.add_argument("--seed", type=int, default=0, help="of the attention layers above")
    parser.add_argument("--out", default="attention.png")
    args = parser.parse_args(argv)
    try:
        page = drawn(args)
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        page.save(args.out, "PNG", optimize=True)
    except (fv.FeaturevizError, OSError) as error:
        print(f"attention_demo: {error}", file=sys.stderr)
        return 2
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
