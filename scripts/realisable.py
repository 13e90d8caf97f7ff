"""Can the gates of a block be shut and opened at all: by pictures, by natural squeezes, by renders?

    python scripts/realisable.py embedded features.9.block.2 --images CROPS --out out
    python scripts/realisable.py torchvision:efficientnet_b0 features.6.0.block.2 --images CROPS --units 3 14 --out out

CROPS is a folder of natural pictures; scripts/natural_crops.py makes one. For each gate: the logits of pictures; the
lowest and highest logit that mixtures of their squeezes can give, and natural squeezes at all (featureviz.lab.bounds);
what renders of -Gate and Gate reach on held-out views, and how far out the squeezes of these lie, 1 being where nature
ends. The verdicts:

    reached               the render shuts the gate (value <= 0.01) or opens it (>= 0.99)
    failed ascent         it does not, and a mixture of pictures' squeezes goes further than it did
    past all pictures     it does not, but goes further than any such mixture
    impossible in nature  it does not, and no natural squeeze would
    past nature           its logit is beyond that of any natural squeeze

Natural is a squeeze within the ellipsoid that holds 99.9 % of those of pictures; whether a picture has it is another
question, and in a block of many channels most of that ellipsoid is far from any. Writes realisable.json and
realisable.png. Without --units: gates from the one that varies most to the one that varies least.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from gate_statistics import add_natural, measured, write_json
from realisable_sheet import OPEN, SHUT, Row, Side, picture
from torch import Tensor

import featureviz as fv
from featureviz.files import check_writable
from featureviz.lab import Bounds, Ellipsoid, GateStatistics, bounds
from featureviz.lab.statistics.natural_range import gate_values
from featureviz.options import add_model_options, load_model, positive_int

BATCH = 16
REACHED, FAILED, BEYOND = "reached", "failed ascent", "past all pictures"
IMPOSSIBLE, PAST = "impossible in nature", "past nature"


@final
class Outness(fv.Objective):
    """How far out the squeeze of a view lies, in radii of the ellipsoid of natural ones."""

    def __init__(self, site: fv.GateSite, ball: Ellipsoid) -> None:
        super().__init__([f"pregate:{site.name}"])
        self.site, self.ball = site, ball

    def forward(self, activations: fv.Activations) -> Tensor:
        return self.ball.distance(self.site.squeezed(activations[self.layers[0]]))


def verdict(value: float, bound_value: float, way: float, mixed: float, *, up: bool) -> str:
    """What a render's gate value, the value at the natural bound and the ways gone amount to."""
    there, possible = ((v >= OPEN if up else v <= SHUT) for v in (value, bound_value))
    if way > 1:
        return PAST
    if there or not possible:
        return REACHED if there else IMPOSSIBLE
    return BEYOND if mixed >= 1 else FAILED


@final
@dataclass(frozen=True)
class Study:
    """A block of a network, with what nature does to it."""

    model: fv.TappedModel
    site: fv.GateSite
    natural: GateStatistics
    found: Bounds

    def rows(self, units: list[int], steps: int, size: int) -> tuple[list[Row], Tensor]:
        """A row a gate, and its renders ``[U,2,3,H,W]``: suppressed, excited."""
        s, (low, high) = self.natural[self.site.name], self.range()
        marks = torch.stack([s.quantiles[0], low, s.logit_mean, high, s.quantiles[-1]], 1)
        (down, dark), (up, light) = (self.driven(units, steps, size, up=up) for up in (False, True))
        rows = [Row(u, marks[u].tolist(), d, e) for u, d, e in zip(units, down, up, strict=True)]
        return rows, torch.stack([dark, light], 1)

    def driven(self, units: list[int], steps: int, size: int, *, up: bool) -> tuple[list[Side], Tensor]:
        """Renders of the gates in one direction ``[U,3,H,W]``, and what they reach on held-out views."""
        sides, images = [], []
        for first in range(0, len(units), BATCH):
            batch = units[first : first + BATCH]
            gate = fv.Gate(self.site, batch)
            made = fv.render(self.model, gate if up else -gate, steps=steps, size=size).images
            seen = fv.evaluate(self.model, gate, made)
            radii = fv.evaluate(self.model, Outness(self.site, self.found.ellipsoid), made).scores.mean(0)
            for i, unit in enumerate(batch):
                (logits,), (values,) = seen.logits[i].values(), seen.gates[i].values()
                sides.append(self.side(unit, float(logits.mean()), float(values.mean()), float(radii[i]), up=up))
            images.append(made)
        return sides, torch.cat(images)

    def side(self, unit: int, logit: float, value: float, radii: float, *, up: bool) -> Side:
        found = self.found
        ends = (found.high, found.hull_high) if up else (found.low, found.hull_low)
        mean, (end, corner) = float(found.mean[unit]), (float(z[unit]) for z in ends)
        at_end = float(self.values(unit, torch.tensor([end]))[0])
        way, mixed = ((logit - mean) / (z - mean) if z != mean else 0.0 for z in (end, corner))
        return Side(corner, end, at_end, logit, value, way, mixed, radii, verdict(value, at_end, way, mixed, up=up))

    def values(self, unit: int, logits: Tensor) -> Tensor:
        """The gate's values at logits ``[L]``."""
        return gate_values(self.model, self.site, self.natural, unit, logits)

    def range(self) -> tuple[Tensor, Tensor]:
        """The logits that 0.1 % and 99.9 % of the pictures stay below."""
        return self.natural.quantile(self.site.name, 0.001), self.natural.quantile(self.site.name, 0.999)


def chosen(natural: GateStatistics, site: fv.GateSite, units: Sequence[int] | None, count: int) -> list[int]:
    """The gates asked for, or ``count`` of those that move, from the one that varies most to the one least."""
    if units:
        if not 0 <= min(units) <= max(units) < site.channels:
            raise fv.FeaturevizError(f"--units {units} were given; {site.name} has gates 0 to {site.channels - 1}")
        return list(dict.fromkeys(units))
    sd = natural[site.name].logit_sd
    order = sd.argsort(descending=True, stable=True)[: int((sd > 0).sum())]
    if not len(order):
        raise fv.FeaturevizError(f"no gate of {site.name} varies over the pictures; give --units")
    return order[torch.linspace(0, len(order) - 1, min(count, len(order))).round().long()].tolist()


def table(rows: Sequence[Row]) -> str:
    """A line a gate for the terminal."""
    side = f"{'logit':>8} {'value':>6} {'radii':>6} {'verdict':20}"
    lines = [
        f"{'':6}  {'pictures':^17}  {'natural squeezes':^17}  {'suppressed':43}  excited",
        f"{'gate':>6}  {'0.1 %':>8} {'99.9 %':>8}  {'lowest':>8} {'highest':>8}  {side}  {side}",
    ]
    for row in rows:
        sides = (row.suppressed, row.excited)
        ends = f"{row.pictures[1]:8.2f} {row.pictures[3]:8.2f}  {sides[0].bound:8.2f} {sides[1].bound:8.2f}"
        cells = [f"{s.logit:8.2f} {s.value:6.3f} {s.radii:6.2f} {s.verdict:20}" for s in sides]
        lines.append(f"{row.unit:6}  {ends}  {'  '.join(cells)}")
    return "\n".join(line.rstrip() for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("site", help="a gated block, as `featureviz gates MODEL` lists them")
    add_natural(parser)
    parser.add_argument("--units", type=int, nargs="+", default=None, help="the gates (default: --count of them)")
    parser.add_argument("--count", type=positive_int, default=8, help="(default: 8)")
    parser.add_argument("--steps", type=positive_int, default=96, help="of ascent (default: 96)")
    parser.add_argument("--size", type=positive_int, default=128, help="of the renders in pixels (default: 128)")
    args = parser.parse_args()
    try:
        out, model = check_writable(args.out), load_model(args)
        site = fv.gates(model)[args.site]
        natural = measured(model, args)
        units = chosen(natural, site, args.units, args.count)
        study = Study(model, site, natural, bounds(model, site, natural))
        rows, images = study.rows(units, args.steps, args.size)
        print(table(rows))
        facts = {"model": model.name, "block": site.name, "pictures": natural.count, "steps": args.steps}
        gates = [row._asdict() | {k: getattr(row, k)._asdict() for k in ("suppressed", "excited")} for row in rows]
        report = {**facts, "size": args.size, "input": model.size, "gates": gates}
        write_json(out / "realisable.json", report)
        title = f"What the gates of {site.name} can be brought to"
        note = (
            f"{model.name}, {natural.count:,} pictures, {args.steps} steps, 16 held-out views. Failed ascent: a mixture"
            " goes further; impossible: no natural squeeze would do it"
        )
        sheet = picture(title, note, rows, images, partial(study.values, units[0]))
        print(sheet.save(out / "realisable.png"))
    except fv.FeaturevizError as error:
        print(f"realisable: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
