"""Can the gates of a real network be opened and shut? By their logits, and for comparison by their values.

    python -m benchmarks.gate_control WEIGHTS.safetensors --images CROPS

WEIGHTS is a state dict of torchvision's dilated MobileNetV3-Large, CROPS a folder of at least 1,000 photographs
(scripts/natural_crops.py makes one). In each of the 8 blocks 16 gates, drawn with a fixed seed among those that are not
the same on every photograph; 128 steps from noise, 128 px images, 160 px input, both directions. Logits and values are
means over 16 held-out draws. Both ways of driving do the same work. Beside it, what a natural squeeze could do at most
(featureviz.lab.bounds).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, final

import torch
import torchvision
from torch import Tensor
from tqdm import tqdm

import featureviz as fv
from benchmarks.record import RESULTS, write
from featureviz.lab import Bounds, GateStatistics, bounds

COUNT, STEPS, SIZE, INPUT = 16, 128, 128, 160
OPEN, SHUT = 0.99, 0.01
STILL = 1e-4  # a logit that varies by less between photographs does so by rounding


@final
class Value(fv.Objective):
    """The gate's value itself, for comparison."""

    def __init__(self, site: str, unit: int) -> None:
        super().__init__([f"gate value:{site}"], f"value({site}, {unit})")
        self.unit = unit

    def forward(self, activations: fv.Activations) -> Tensor:
        return activations[self.layers[0]][:, self.unit]


def real_network(path: str | Path) -> fv.TappedModel:
    """MobileNetV3-Large with the weights at ``path``, at 160 px."""
    from safetensors.torch import load_file

    net = torchvision.models.mobilenet_v3_large(weights=None, dilated=True)
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(str(path)).items()}
    net.load_state_dict(state, strict=False)  # the classifier is missing, and not needed
    return fv.wrap(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=INPUT, name="mobilenet_v3_large")


def driven(
    model: fv.TappedModel, natural: GateStatistics, gates: list[fv.Gate], sign: int, by: str
) -> list[dict[str, float]]:
    """What each gate is brought to: value, logit, and where that logit stands in nature."""
    goals: list[fv.Objective] = []
    for gate in gates:
        goal = gate if by == "logit" else Value(gate.site_name, gate.units[0])
        goals.append(goal if sign > 0 else -goal)
    made = fv.render(model, goals, steps=STEPS, size=SIZE, runtime=fv.Runtime(redirect=0), progress=False)
    judged = fv.evaluate(model, fv.PerImage(gates), made.images)
    rows = []
    for gate, values, logits in zip(gates, judged.gates, judged.logits, strict=True):
        logit = logits[gate.spec].mean()
        percentile = natural.percentile(gate.site_name, gate.units[0], logit[None])
        rows.append(
            {
                "unit": gate.units[0], "value": round(float(values[gate.spec].mean()), 4),
                "logit": round(float(logit), 3), "percentile": round(float(percentile), 3),
            }
        )  # fmt: skip
    return rows


def counted(up: list[dict[str, float]], down: list[dict[str, float]]) -> dict[str, int]:
    return {
        "beyond": sum(r["percentile"] >= 99.9 for r in up) + sum(r["percentile"] <= 0.1 for r in down),
        "opened": sum(r["value"] >= OPEN for r in up),
        "shut": sum(r["value"] <= SHUT for r in down),
    }


def ceiling(found: Bounds, natural: GateStatistics, site: str, units: list[int]) -> dict[str, Any]:
    """What natural squeezes allow: how many of the units could be opened and shut at all, and how far."""
    reach = 6 * (OPEN - 0.5)  # the logit at which a hard-sigmoid gives 0.99
    return {
        "natural sd": round(float(natural[site].logit_sd[units].median()), 3),
        "hull opens": int((found.hull_high[units] >= reach).sum()),
        "hull shuts": int((found.hull_low[units] <= -reach).sum()),
        "ellipsoid opens": int((found.high[units] >= reach).sum()),
        "ellipsoid shuts": int((found.low[units] <= -reach).sum()),
        "hull highest": [round(v, 2) for v in found.hull_high[units].tolist()],
        "hull lowest": [round(v, 2) for v in found.hull_low[units].tolist()],
        "highest": [round(v, 2) for v in found.high[units].tolist()],
        "lowest": [round(v, 2) for v in found.low[units].tolist()],
    }  # fmt: skip


def measured(
    model: fv.TappedModel, natural: GateStatistics, site: fv.GateSite, before: dict[str, Any] | None
) -> dict[str, Any]:
    """One block; the renders of ``before`` are kept if they are of the same gates."""
    moving = natural[site.name].logit_sd > STILL  # of some gates all weights are 0: no picture moves them
    order = torch.randperm(site.channels, generator=torch.Generator().manual_seed(0))
    units = order[moving[order]][:COUNT].tolist()
    gates = [fv.Gate(site, u) for u in units]
    entry: dict[str, Any] = {"gates": site.channels, "never move": int((~moving).sum()), "units": units}
    for by in ("logit", "value"):
        if before and before["units"] == units:
            entry[by] = before[by]
        else:
            up, down = (driven(model, natural, gates, sign, by) for sign in (1, -1))
            entry[by] = {**counted(up, down), "excited": up, "suppressed": down}
    found = bounds(model, site, natural)
    entry["natural bounds"] = ceiling(found, natural, site.name, units)
    return entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--images", required=True, help="folder of natural images")
    parser.add_argument("--resume", action="store_true", help="keep the renders of the last run's blocks")
    args = parser.parse_args()
    model = real_network(args.weights)
    natural = GateStatistics.measure(model, args.images, progress=True)
    result: dict[str, Any] = {"steps": STEPS, "image": SIZE, "input": INPUT, "natural images": natural.count}
    result["blocks"] = json.loads((RESULTS / "gate_control.json").read_text())["blocks"] if args.resume else {}
    for site in tqdm(fv.gates(model).values(), desc="blocks"):
        entry = measured(model, natural, site, result["blocks"].get(site.name))
        result["blocks"][site.name] = entry
        write("gate_control", result)  # after every block: a long run that is cut short has not been for nothing
        told = {by: {k: entry[by][k] for k in ("beyond", "opened", "shut")} for by in ("logit", "value")}
        tqdm.write(f"{site.name:20} {told}")


if __name__ == "__main__":
    main()
