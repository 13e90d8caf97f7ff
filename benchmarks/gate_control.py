"""Can gates of a real network be opened and shut? By their logit, and for comparison by their value.

    python -m benchmarks.gate_control WEIGHTS.safetensors

WEIGHTS is a state dict of torchvision's dilated MobileNetV3-Large. 16 gates of the last block, drawn with a fixed seed,
96 steps from noise, 128 px images, 160 px input; figures are means over 16 held-out draws. Both sides do the same work.
"""

from __future__ import annotations

import argparse
from typing import Any, final

import torch
import torchvision
from torch import Tensor
from tqdm import tqdm

import featureviz as fv
from benchmarks.record import write

SITE, COUNT, STEPS, SIZE, INPUT = "features.15.block.2", 16, 96, 128, 160


@final
class Value(fv.Objective):
    """The gate's value itself, for comparison."""

    def __init__(self, site: str, unit: int) -> None:
        super().__init__([f"gate value:{site}"], f"value({site}, {unit})")
        self.unit = unit

    def forward(self, activations: fv.Activations) -> Tensor:
        return activations[self.layers[0]][:, self.unit]


def real_network(path: str) -> fv.TappedModel:
    """MobileNetV3-Large with the weights at ``path``, at 160 px."""
    from safetensors.torch import load_file

    net = torchvision.models.mobilenet_v3_large(weights=None, dilated=True)
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    net.load_state_dict(state, strict=False)  # the classifier is missing, and not needed
    return fv.wrap(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=INPUT, name="mobilenet_v3_large")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    args = parser.parse_args()
    model = real_network(args.weights)
    channels = fv.gates(model)[SITE].channels
    units = torch.randperm(channels, generator=torch.Generator().manual_seed(0))[:COUNT].tolist()
    gates = [fv.Gate(SITE, u) for u in units]
    values = [Value(SITE, u) for u in units]
    goals: dict[str, list[fv.Objective]] = {
        "logit, excited": [*gates],
        "logit, suppressed": [-g for g in gates],
        "value, excited": [*values],
        "value, suppressed": [-v for v in values],
    }
    result: dict[str, Any] = {"site": SITE, "units": units, "steps": STEPS, "image": SIZE, "input": INPUT}
    for name, goal in tqdm(goals.items(), desc="16 gates, 96 steps"):
        made = fv.render(model, goal, steps=STEPS, size=SIZE, progress=False)
        judged = fv.evaluate(model, fv.PerImage(gates), made.images)
        means = [round(float(next(iter(g.values())).mean()), 4) for g in judged.gates]
        reached = sum(m >= 0.99 if "excited" in name else m <= 0.01 for m in means)
        result[name] = {"reached": reached, "of": COUNT, "values": means}
        print(f"{name:18} {reached:2} of {COUNT}")
    print(write("gate_control", result))


if __name__ == "__main__":
    main()
