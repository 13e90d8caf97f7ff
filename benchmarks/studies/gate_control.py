"""Can images open and close the gates of a real network? The objective is the logit, for comparison the value.

    python -m benchmarks.studies.gate_control WEIGHTS.safetensors --images CROPS

WEIGHTS is a state dict of torchvision's dilated MobileNetV3-Large, CROPS a folder of at least 1,000 photographs
(scripts/natural_crops.py makes one). In each of the 8 blocks, a fixed seed draws 16 of the gates that vary between
photographs. Each gate is excited and suppressed for 128 steps from noise, with 128 px images and 160 px input. Logits
and values are means over 16 held-out draws. Both objectives take the same steps. The result also holds the bounds that
natural squeezes set (featureviz.lab.reachable_range).

Both climb with the plain recipe. ``--recipe clear`` climbs the logit with the default of fv.render instead, and writes
a result of its own.
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
from benchmarks.harness.record import RESULTS, write_result
from featureviz.lab import GateStatistics, ReachableRange, reachable_range
from featureviz.lab.statistics.measuring import OPEN, SHUT

COUNT, STEPS, SIZE, INPUT = 16, 128, 128, 160
RECIPES = {"plain": fv.plain(STEPS), "clear": fv.clear(STEPS)}
DRIVES = {"plain": ("logit", "value"), "clear": ("logit",)}
ROUNDING = 1e-4  # a smaller standard deviation of a logit between photographs comes from rounding


@final
class GateValue(fv.Objective):
    """The gate's value, for comparison with its logit."""

    def __init__(self, site: str, unit: int) -> None:
        super().__init__([f"gate value:{site}"], f"value({site}, {unit})")
        self.unit = unit

    def forward(self, activations: fv.Activations) -> Tensor:
        return activations[self.layers[0]][:, self.unit]


def load_real_network(path: str | Path, size: int = INPUT) -> fv.TappedModel:
    """MobileNetV3-Large with the weights at ``path``, with an input of 160 px or another size."""
    from safetensors.torch import load_file

    net = torchvision.models.mobilenet_v3_large(weights=None, dilated=True)
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(str(path)).items()}
    net.load_state_dict(state, strict=False)  # the file has no classifier, and none is needed
    return fv.wrap(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=size, name="mobilenet_v3_large")


def render_gates(
    model: fv.TappedModel,
    natural: GateStatistics,
    gates: list[fv.Gate],
    sign: int,
    drive: str,
    recipe: dict[str, Any],
) -> list[dict[str, float]]:
    """For each gate the value and logit that its image reaches, and that logit's percentile among photographs."""
    objectives: list[fv.Objective] = []
    for gate in gates:
        objective = gate if drive == "logit" else GateValue(gate.site_name, gate.units[0])
        objectives.append(objective if sign > 0 else -objective)
    rendering = fv.render(model, objectives, size=SIZE, runtime=fv.Runtime(redirect=0), progress=False, **recipe)
    evaluation = fv.evaluate(model, fv.PerImage(gates), rendering.completed().images)
    rows = []
    for gate, values, logits in zip(gates, evaluation.gates, evaluation.logits, strict=True):
        logit = logits[gate.spec].mean()
        percentile = natural.percentile(gate.site_name, gate.units[0], logit[None])
        rows.append(
            {
                "unit": gate.units[0], "value": round(float(values[gate.spec].mean()), 4),
                "logit": round(float(logit), 3), "percentile": round(float(percentile), 3),
            }
        )  # fmt: skip
    return rows


def count_outcomes(up: list[dict[str, float]], down: list[dict[str, float]]) -> dict[str, int]:
    """How many gates end beyond the natural range, open, and closed."""
    return {
        "beyond": sum(r["percentile"] >= 99.9 for r in up) + sum(r["percentile"] <= 0.1 for r in down),
        "opened": sum(r["value"] >= OPEN for r in up),
        "shut": sum(r["value"] <= SHUT for r in down),
    }


def describe_bounds(limits: ReachableRange, natural: GateStatistics, site: str, units: list[int]) -> dict[str, Any]:
    """The bounds of natural squeezes: how many of the units they can open and close, and each unit's limits."""
    open_logit = 6 * (OPEN - 0.5)  # a hard-sigmoid gives OPEN at this logit
    return {
        "natural sd": round(float(natural[site].logit_sd[units].median()), 3),
        "hull opens": int((limits.hull_high[units] >= open_logit).sum()),
        "hull shuts": int((limits.hull_low[units] <= -open_logit).sum()),
        "ellipsoid opens": int((limits.high[units] >= open_logit).sum()),
        "ellipsoid shuts": int((limits.low[units] <= -open_logit).sum()),
        "hull highest": [round(v, 2) for v in limits.hull_high[units].tolist()],
        "hull lowest": [round(v, 2) for v in limits.hull_low[units].tolist()],
        "highest": [round(v, 2) for v in limits.high[units].tolist()],
        "lowest": [round(v, 2) for v in limits.low[units].tolist()],
    }  # fmt: skip


def measure_block(
    model: fv.TappedModel, natural: GateStatistics, site: fv.GateSite, before: dict[str, Any] | None, recipe: str
) -> dict[str, Any]:
    """The result of one block; ``before``'s renders are kept if they are of the same gates."""
    varying = natural[site.name].logit_sd > ROUNDING  # gates whose weights are all 0 do not vary
    order = torch.randperm(site.channels, generator=torch.Generator().manual_seed(0))
    units = order[varying[order]][:COUNT].tolist()
    gates = [fv.Gate(site, u) for u in units]
    entry: dict[str, Any] = {"gates": site.channels, "never move": int((~varying).sum()), "units": units}
    for drive in DRIVES[recipe]:
        if before and before["units"] == units:
            entry[drive] = before[drive]
        else:
            up, down = (render_gates(model, natural, gates, sign, drive, RECIPES[recipe]) for sign in (1, -1))
            entry[drive] = {**count_outcomes(up, down), "excited": up, "suppressed": down}
    limits = reachable_range(model, site, natural)
    entry["natural bounds"] = describe_bounds(limits, natural, site.name, units)
    return entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--images", required=True, help="folder of photographs")
    parser.add_argument("--resume", action="store_true", help="keep the renders that the stored result holds")
    parser.add_argument("--recipe", choices=list(RECIPES), default="plain", help="(default: plain)")
    args = parser.parse_args()
    name = "gate_control" if args.recipe == "plain" else f"gate_control_{args.recipe}"
    model = load_real_network(args.weights)
    natural = GateStatistics.measure(model, args.images, progress=True).completed()
    result: dict[str, Any] = {"steps": STEPS, "image": SIZE, "input": INPUT, "natural images": natural.count}
    result["blocks"] = json.loads((RESULTS / f"{name}.json").read_text())["blocks"] if args.resume else {}
    for site in tqdm(fv.gates(model).values(), desc="blocks"):
        entry = measure_block(model, natural, site, result["blocks"].get(site.name), args.recipe)
        result["blocks"][site.name] = entry
        write_result(name, result)  # after every block, so that an interrupted run can be resumed
        counts = {drive: {k: entry[drive][k] for k in ("beyond", "opened", "shut")} for drive in DRIVES[args.recipe]}
        tqdm.write(f"{site.name:20} {counts}")


if __name__ == "__main__":
    main()
