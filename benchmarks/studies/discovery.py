"""Which gates are found in which networks, by which tier of discovery, and with what error they are recomputed.

    python -m benchmarks.studies.discovery [NAME ...] [--onnx FILE]

The weights are random: discovery depends on how a network is written, not on its weights. The ONNX file is a small
MobileNetV3 that classifies the orientation of text: ``ch_ppocr_mobile_v2.0_cls_infer.onnx`` of the PyPI package
rapidocr-onnxruntime 1.4.4. Its row is left out if no file is given.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import featureviz as fv
from benchmarks.harness.record import write_result

C = 32


class TutorialBlock(nn.Module):
    """A squeeze-and-excitation block as tutorials write it."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(C, C // 4, bias=False), nn.ReLU(inplace=True), nn.Linear(C // 4, C, bias=False)]
        self.avg_pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        return x * self.fc(self.avg_pool(x).view(b, c)).view(b, c, 1, 1)


class FunctionalBlock(nn.Module):
    """A squeeze-and-excitation block of functions; ``scale(x, logits)`` applies the gates."""

    def __init__(self, scale: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.reduce, self.expand, self.scale = nn.Conv2d(C, C // 4, 1), nn.Conv2d(C // 4, C, 1), scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))


class InlineBlock(FunctionalBlock):
    """A squeeze-and-excitation block inside a larger block that computes a Swish by hand."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x * torch.sigmoid(x)) * 2


def embed_block(block: nn.Module) -> nn.Module:
    """A small network around ``block``."""
    return nn.Sequential(nn.Conv2d(3, C, 3, 2, 1), nn.BatchNorm2d(C), nn.LeakyReLU(), block, nn.Conv2d(C, C, 3))


def build_torchvision(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, **({"init_weights": False} if name == "googlenet" else {}))


def build_resnet(layer: str) -> nn.Module:
    return timm.create_model("resnet50", pretrained=False, block_args={"attn_layer": layer})


def build_onnx(path: Path) -> nn.Module:
    """Converted by onnx2torch, which needs weights as initializers; this file stores them as constants."""
    import onnx  # pyright: ignore[reportMissingImports]
    import onnx2torch  # pyright: ignore[reportMissingImports]

    network: Any = onnx.load(path)
    for node in [node for node in network.graph.node if node.op_type == "Constant"]:
        tensor = node.attribute[0].t
        tensor.name = node.output[0]
        network.graph.initializer.append(tensor)
        network.graph.node.remove(node)
    return onnx2torch.convert(network)


TORCHVISION = [
    "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "maxvit_t",
]  # fmt: skip
TIMM = [
    "mobilenetv3_large_100", "efficientnet_b0", "seresnet50", "seresnext50_32x4d", "legacy_seresnet50",
    "ese_vovnet19b_dw", "ecaresnet26t", "rexnet_100", "regnety_004",
]  # fmt: skip
NETWORKS: dict[str, Callable[[], nn.Module]] = (
    {f"torchvision {name}": lambda name=name: build_torchvision(name) for name in TORCHVISION}
    | {f"timm {name}": lambda name=name: timm.create_model(name, pretrained=False) for name in TIMM}
    | {
        "timm resnet50, global context gates": lambda: build_resnet("gc"),
        "timm resnet50, CBAM": lambda: build_resnet("cbam"),
        "timm resnet50, light CBAM": lambda: build_resnet("lcbam"),
        "a tutorial's SEBlock": lambda: embed_block(TutorialBlock()),
        "x * torch.sigmoid(z)": lambda: embed_block(FunctionalBlock(lambda x, z: x * torch.sigmoid(z))),
        "x *= z.sigmoid()": lambda: embed_block(FunctionalBlock(lambda x, z: x.mul_(z.sigmoid()))),
        "x * F.hardsigmoid(z, inplace=True)": lambda: embed_block(
            FunctionalBlock(lambda x, z: x * F.hardsigmoid(z, True))
        ),
        "inline in an MBConv": lambda: embed_block(InlineBlock(lambda x, z: torch.sigmoid(z) * x)),
        "x * F.relu6(z + 3) / 6": lambda: embed_block(FunctionalBlock(lambda x, z: x * (F.relu6(z + 3) / 6))),
        "x * torch.exp(-z**2)": lambda: embed_block(FunctionalBlock(lambda x, z: x * torch.exp(-z.square()))),
    }
    | {f"torchvision {name}": lambda name=name: build_torchvision(name) for name in ("resnet50", "convnext_tiny")}
    | {f"torchvision {name}": lambda name=name: build_torchvision(name) for name in ("googlenet", "vit_b_32")}
    | {f"timm {name}": lambda name=name: timm.create_model(name, pretrained=False) for name in ("skresnet18",)}
)
ONNX = "MobileNetV3 from ONNX"


def measure_network(net: nn.Module, size: int | tuple[int, int] = 224) -> dict[str, Any]:
    """The gates that are found in ``net``, and by how much discovery changed its output."""
    model = fv.wrap(net, mean=0.45, std=0.22, size=size)
    start = time.perf_counter()
    sites = fv.gates(model)
    seconds = time.perf_counter() - start
    x = model.noise_images(1)
    with torch.no_grad():
        changed = float((model.net(x) - net.eval()(x)).abs().max())
    return {
        "blocks": len(sites),
        "gates": sum(site.channels for site in sites.channelwise.values()),
        "kinds": dict(Counter(site.kind for site in sites.values())),
        "found": dict(Counter(site.found for site in sites.values())),
        "largest error": max((site.error for site in sites.values()), default=None),
        "output changed by": changed,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks to measure (default: all, and the result is stored)")
    parser.add_argument("--onnx", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"input": 224, "weights": "random, seed 0"}
    for name in args.names or [*NETWORKS, *([ONNX] if args.onnx else [])]:
        torch.manual_seed(0)
        net, size = (build_onnx(args.onnx), (48, 192)) if name == ONNX else (NETWORKS[name](), 224)
        row = measure_network(net, size)
        result.setdefault("networks", {})[name] = row
        tiers = ", ".join(f"{count} {tier}" for tier, count in row["found"].items())
        error = "" if row["largest error"] is None else f"{row['largest error']:.0e}"
        print(
            f"{name:40} {row['blocks']:3} blocks {row['gates']:6} gates  {tiers:40} {error:6} {row['seconds']:6.1f} s"
        )
    if not args.names:
        print(write_result("discovery", result))


if __name__ == "__main__":
    main()
