"""Can images set a channel and its gate independently? The four quadrants: channel high or low, gate open or shut.

    python -m benchmarks.studies.quadrants --images PHOTOGRAPHS [--weights WEIGHTS.safetensors] [--channels 6]

The study measures the embedded network, and with WEIGHTS also the real MobileNetV3-Large of gate_control. In each
block, a fixed seed draws channels whose mean before the gate and whose logit both vary between natural images. Each
quadrant is rendered for 256 steps from noise with the plain recipe, and evaluated by the means over 16 held-out draws.
It is reached if both means are beyond the natural percentiles: above the 90th for high and open, below the 10th for low
and shut. Natural images are random crops of PHOTOGRAPHS.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

import featureviz as fv
from benchmarks.harness.record import write_result
from benchmarks.studies.gate_control import load_real_network
from featureviz.lab import GateStatistics

STEPS, SIZE, CROPS = 256, 128, 1000
QUADRANTS = [(content, gate) for content in ("high", "low") for gate in ("open", "shut")]


def make_crops(folder: Path, side: int, count: int) -> Tensor:
    """``[count,3,side,side]``, bytes: random squares of the photographs, a quarter to all of the short side wide."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    photographs = [photo for path in paths if (photo := read_photograph(path)) is not None]
    if not photographs:
        raise SystemExit(
            f"{folder} has no photographs; expected JPEG or PNG files in colour, at least 96 px wide and high"
        )
    rng, crops = np.random.default_rng(0), []
    for i in range(count):
        photo = photographs[i % len(photographs)]
        square = min(photo.size) * np.exp(rng.uniform(np.log(0.25), 0))
        x, y = (rng.uniform(0, length - square) for length in photo.size)
        crop = photo.resize((side, side), Image.Resampling.BILINEAR, box=(x, y, x + square, y + square), reducing_gap=2)
        crops.append(torch.from_numpy(np.array(crop)).permute(2, 0, 1))
    return torch.stack(crops)


def read_photograph(path: Path) -> Image.Image | None:
    """The picture, or None if it is not in colour, too small, or a drawing with flat areas."""
    picture = Image.open(path)
    if picture.mode not in ("RGB", "RGBA") or min(picture.size) < 96:
        return None
    picture = picture.convert("RGB")
    picture.thumbnail((1024, 1024))
    array = np.asarray(picture)
    return None if (array[:, 1:] == array[:, :-1]).all(-1).mean() > 0.5 else picture


def measure_channels(
    model: fv.TappedModel, natural: GateStatistics, site: str, units: list[int]
) -> list[dict[str, Any]]:
    """For each unit and quadrant the percentiles that its render reaches, and whether that is the quadrant."""
    objectives = [fv.Quadrant(site, u, natural, content=c, gate=g) for u in units for c, g in QUADRANTS]
    rendering = fv.render(model, objectives, **fv.plain(STEPS), size=SIZE, progress=False).completed()
    each = [u for u in units for _ in QUADRANTS]
    content = fv.evaluate(model, fv.PreGate(site, each), rendering.images).scores.mean(0)
    logits = fv.evaluate(model, fv.Gate(site, each), rendering.images).scores.mean(0)
    rows = []
    for i, unit in enumerate(units):
        row: dict[str, Any] = {"unit": unit}
        for k, (c, g) in enumerate(QUADRANTS):
            j = 4 * i + k
            content_percentile = float(natural.percentile(site, unit, content[j : j + 1], of="squeeze"))
            gate_percentile = float(natural.percentile(site, unit, logits[j : j + 1]))
            reached = (content_percentile >= 90 if c == "high" else content_percentile <= 10) and (
                gate_percentile >= 90 if g == "open" else gate_percentile <= 10
            )
            row[f"{c}, {g}"] = {
                "content": round(content_percentile, 1), "gate": round(gate_percentile, 1), "reached": reached,
            }  # fmt: skip
        rows.append(row)
    return rows


def measure_model(model: fv.TappedModel, photographs: Path, channels: int) -> dict[str, Any]:
    """All blocks of ``model``, ``channels`` of each."""
    side = model.input_size((224, 224))[0]
    natural = GateStatistics.measure(
        model, (batch.float() / 255 for batch in make_crops(photographs, side, CROPS).split(32))
    ).completed()
    blocks: dict[str, list[dict[str, Any]]] = {}
    for site in tqdm(model.gates.channelwise.values(), desc=model.name):
        statistics = natural[site.name]
        varying = (statistics.logit_sd > 1e-6) & (statistics.squeeze_sd > 1e-6)
        order = torch.randperm(site.channels, generator=torch.Generator().manual_seed(0))
        blocks[site.name] = measure_channels(model, natural, site.name, order[varying[order]][:channels].tolist())
    rows = [row for block in blocks.values() for row in block]
    reached = {f"{c}, {g}": sum(row[f"{c}, {g}"]["reached"] for row in rows) for c, g in QUADRANTS}
    all_four = sum(all(row[f"{c}, {g}"]["reached"] for c, g in QUADRANTS) for row in rows)
    print(f"{model.name}: {all_four} of {len(rows)} channels reach all four; {reached}")
    return {
        "channels": len(rows),
        "in all four": all_four,
        "reached": reached,
        "natural crops": CROPS,
        "blocks": blocks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--weights", help="of the real network (default: measure only the embedded one)")
    parser.add_argument("--channels", type=int, default=6, help="for each block (default: 6)")
    args = parser.parse_args()
    models = [fv.load("embedded")] + ([load_real_network(args.weights)] if args.weights else [])
    result: dict[str, Any] = {"steps": STEPS, "image": SIZE}
    for model in models:
        result[model.name] = measure_model(model, args.images, args.channels)
        print(write_result("quadrants", result))


if __name__ == "__main__":
    main()
