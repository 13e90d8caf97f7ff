"""Can a channel and its gate be parted? The four quadrants, content high or low and gate open or shut.

    python -m benchmarks.quadrants --images PHOTOGRAPHS [--weights WEIGHTS.safetensors] [--channels 6]

On the embedded network, and with WEIGHTS on the real MobileNetV3-Large of benchmarks.gate_control. In each block some
channels drawn with a fixed seed among those whose content and gate both vary between the natural images; 256 steps from
noise. A channel lands in a quadrant if on 16 held-out draws its mean content and its mean logit lie beyond the 90th or
below the 10th natural percentile, each on the side that was asked for. Natural images: random crops of PHOTOGRAPHS.
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
from benchmarks.gate_control import real_network
from benchmarks.record import write
from featureviz.lab import GateStatistics

STEPS, SIZE, CROPS = 256, 128, 1000
WAYS = [(content, gate) for content in ("high", "low") for gate in ("open", "shut")]


def crops(folder: Path, side: int, count: int) -> Tensor:
    """``[count,3,side,side]`` in [0,1]: random squares of the photographs, from the whole short side to a quarter."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    photographs = [photo for path in paths if (photo := photograph(path)) is not None]
    if not photographs:
        raise SystemExit(f"no photographs in {folder}")
    rng, made = np.random.default_rng(0), []
    for i in range(count):
        photo = photographs[i % len(photographs)]
        square = min(photo.size) * np.exp(rng.uniform(np.log(0.25), 0))
        x, y = (rng.uniform(0, length - square) for length in photo.size)
        cut = photo.resize((side, side), Image.Resampling.BILINEAR, box=(x, y, x + square, y + square), reducing_gap=2)
        made.append(torch.from_numpy(np.array(cut)).permute(2, 0, 1))
    return torch.stack(made)


def photograph(path: Path) -> Image.Image | None:
    """A colour picture that is large enough to cut from and no drawing."""
    picture = Image.open(path)
    if picture.mode not in ("RGB", "RGBA") or min(picture.size) < 96:
        return None
    picture = picture.convert("RGB")
    picture.thumbnail((1024, 1024))
    array = np.asarray(picture)
    return None if (array[:, 1:] == array[:, :-1]).all(-1).mean() > 0.5 else picture


def parted(model: fv.TappedModel, natural: GateStatistics, site: str, units: list[int]) -> list[dict[str, Any]]:
    """For each unit where the four renders land."""
    goals = [fv.Quadrant(site, u, natural, content=c, gate=g) for u in units for c, g in WAYS]
    made = fv.render(model, goals, steps=STEPS, size=SIZE, progress=False)
    each = [u for u in units for _ in WAYS]
    content = fv.evaluate(model, fv.PreGate(site, each), made.images).scores.mean(0)
    logits = fv.evaluate(model, fv.Gate(site, each), made.images).scores.mean(0)
    rows = []
    for i, unit in enumerate(units):
        row: dict[str, Any] = {"unit": unit}
        for k, (c, g) in enumerate(WAYS):
            j = 4 * i + k
            at = float(natural.percentile(site, unit, content[j : j + 1], of="squeeze"))
            opened = float(natural.percentile(site, unit, logits[j : j + 1]))
            landed = (at >= 90 if c == "high" else at <= 10) and (opened >= 90 if g == "open" else opened <= 10)
            row[f"{c}, {g}"] = {"content": round(at, 1), "gate": round(opened, 1), "landed": landed}
        rows.append(row)
    return rows


def measured(model: fv.TappedModel, photographs: Path, channels: int) -> dict[str, Any]:
    side = model.input_size((224, 224))[0]
    natural = GateStatistics.measure(
        model, (batch.float() / 255 for batch in crops(photographs, side, CROPS).split(32))
    )
    blocks: dict[str, list[dict[str, Any]]] = {}
    for site in tqdm(model.gates.channelwise.values(), desc=model.name):
        s = natural[site.name]
        moving = (s.logit_sd > 1e-6) & (s.squeeze_sd > 1e-6)
        order = torch.randperm(site.channels, generator=torch.Generator().manual_seed(0))
        blocks[site.name] = parted(model, natural, site.name, order[moving[order]][:channels].tolist())
    rows = [row for block in blocks.values() for row in block]
    told = {f"{c}, {g}": sum(row[f"{c}, {g}"]["landed"] for row in rows) for c, g in WAYS}
    whole = sum(all(row[f"{c}, {g}"]["landed"] for c, g in WAYS) for row in rows)
    print(f"{model.name}: {whole} of {len(rows)} channels in all four; {told}")
    return {"channels": len(rows), "in all four": whole, "landed": told, "natural crops": CROPS, "blocks": blocks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--weights", help="of the real network; without them only the embedded one is measured")
    parser.add_argument("--channels", type=int, default=6, help="a block (default: 6)")
    args = parser.parse_args()
    models = [fv.load("embedded")] + ([real_network(args.weights)] if args.weights else [])
    result: dict[str, Any] = {"steps": STEPS, "image": SIZE}
    for model in models:
        result[model.name] = measured(model, args.images, args.channels)
        print(write("quadrants", result))


if __name__ == "__main__":
    main()
