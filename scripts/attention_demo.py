"""What three attentions do to the same feature map: squeeze-and-excitation, spatial attention, CBAM, as colour maps.

    python scripts/attention_demo.py --out docs/attention.png
    python scripts/attention_demo.py --image cat.jpg --layer features.3 --seed 1 --out attention.png

The upper section shows a photograph's map in the embedded network. The lower section shows three channels of 4x4, small
enough to check by hand. The page shows the input, the weights, the output and the difference, with one scale for all
maps and one for all weights. Without --image the photograph is scikit-image's cat.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from activation_grid import read_photograph
from attention_page import Page, Reweighted
from torch import Tensor, nn

import featureviz as fv
from featureviz.files import check_writable, write_bytes
from featureviz.network.taps import INPUT, Tap, hooked
from featureviz.nn import CBAM, SEModule, SpatialAttention
from featureviz.options import run_command
from featureviz.rendering.png import encode_png, name_png

SIDE = 224  # of the photograph, pixels
SMALL_MAPS = (  # three channels with the means 2, 0.5 and 1: a blob, a diagonal, an edge
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
    """``[C,H,W]`` after SE, spatial attention and CBAM; the weights are read at the output of each block's gates."""
    texts = (
        ("Squeeze-and-excitation", "which channels:\nsigmoid(mlp(mean))"),
        ("Spatial attention", "which positions:\nsigmoid(conv(mean, max))"),
        ("CBAM", "channels, by mean and max:\nsigmoid(mlp(mean) + mlp(max)),\nthen positions"),
    )
    results = []
    for (name, formula), block in zip(texts, blocks, strict=True):
        outputs: dict[str, Tensor] = {}
        gates = {n: Tap(n) for n, module in block.named_modules() if isinstance(module, nn.Sigmoid)}
        with hooked(block, gates, outputs.__setitem__):
            y = block(x[None])[0]
        channel = next((gate[0] for gate in outputs.values() if gate.ndim == 2), None)
        position = next((gate[0, 0] for gate in outputs.values() if gate.ndim == 4), None)
        results.append(Reweighted(name, formula, y, channel, position))
    return results


def add_cbam(se: SEModule, spatial: SpatialAttention) -> tuple[SEModule, SpatialAttention, CBAM]:
    """The two blocks, and a CBAM with copies of their layers."""
    cbam = CBAM(se.in_channels, se.reduction, spatial.kernel_size, bias=False)
    cbam.channel.load_state_dict(se.state_dict())
    cbam.spatial.load_state_dict(spatial.state_dict())
    return se, spatial, cbam


def make_random(x: Tensor, seed: int) -> tuple[SEModule, SpatialAttention, CBAM]:
    """Blocks with random layers; the last layer before each gate is scaled so that its logits on x have sd SPREAD.

    The kernels are smooth and sum to zero, because otherwise all positions would get about the same weight.
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
        outputs: dict[str, Tensor] = {}
        with hooked(block, {"logits": Tap(gate, INPUT)}, outputs.__setitem__):
            block(x[None])
        last.weight.mul_(SPREAD / outputs["logits"].std().clamp(min=1e-6))
    return blocks


def make_by_hand() -> tuple[SEModule, SpatialAttention, CBAM]:
    """Blocks with W1 and W2, and with a kernel that compares a position's maximum with those around it."""
    se, spatial = SEModule(3, reduction=3, bias=False), SpatialAttention(3)
    se.fc1.weight.copy_(torch.tensor(W1))
    se.fc2.weight.copy_(torch.tensor(W2))
    spatial.conv.weight.zero_()[0, 1] = torch.tensor(CONTRAST)
    return add_cbam(se, spatial)


# ------------------------------------------------------------------------------------------------------------ page
@torch.no_grad()
def write_page(args: argparse.Namespace) -> None:
    out = name_png(args.out)
    check_writable(out.parent)
    photograph = read_photograph(args.image, SIDE, "chelsea.png")
    model = fv.load("embedded", size=SIDE)
    x = model(photograph[None], [args.layer])[args.layer][0].relu()
    if x.ndim != 3 or x.shape[-1] < 4:
        raise fv.FeaturevizError(f"--layer {args.layer} gives {list(x.shape)}; expected [C,H,W] of 4x4 or larger")
    small = torch.tensor(SMALL_MAPS, dtype=torch.float32)
    page = Page(
        "Three attentions on the same feature map",
        "Each multiplies its input by weights between 0 and 1, of channels, positions, or both.",
    )
    heading = (
        f"A photograph at {args.layer} of the embedded network, rectified. Untrained attention, seed {args.seed},"
        f" logits of standard deviation {SPREAD}"
    )
    page.draw_section(heading, x, photograph, reweight(x, make_random(x, args.seed)))
    heading = "Three channels small enough to check by hand; CBAM has the layers of the two above it"
    page.draw_section(heading, small, BY_HAND, reweight(small, make_by_hand()))
    write_bytes(out, encode_png(page.picture(), palette=True))
    print(out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default=None, help="a photograph (default: scikit-image's cat)")
    parser.add_argument("--layer", default="features.2.block.1", help="a layer of the embedded network")
    parser.add_argument("--seed", type=int, default=0, help="of the random attention layers")
    parser.add_argument("--out", default="attention.png", help="file (default: attention.png)")
    return run_command("attention_demo", lambda: write_page(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
