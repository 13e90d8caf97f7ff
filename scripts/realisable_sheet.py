"""The table and the picture of scripts/realisable.py: a row for each gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from featureviz.lab import OPEN, SHUT
from featureviz.lab.draw.canvas import COOL, FAINT, GREY, INK, PALE, WARM, WHITE, Canvas, Color
from featureviz.lab.gates.reachability_study import GateReach

THUMB, ROW, TOP, LEFT, RIGHT = 92, 110, 132, 236, 884  # pixels; the axis runs from LEFT to RIGHT
TICKS = (0, *(sign * v for v in (1, 3, 10, 30, 100, 300, 1000) for sign in (1, -1)))


def format_table(gates: Sequence[GateReach]) -> str:
    """A line for each gate."""
    side = f"{'logit':>8} {'value':>6} {'radii':>6} {'verdict':20}"
    lines = [
        f"{'':6}  {'pictures':^17}  {'natural squeezes':^17}  {'suppressed':43}  excited",
        f"{'gate':>6}  {'0.1 %':>8} {'99.9 %':>8}  {'lowest':>8} {'highest':>8}  {side}  {side}",
    ]
    for gate in gates:
        ends = (gate.suppressed, gate.excited)
        bounds = f"{gate.pictures[1]:8.2f} {gate.pictures[3]:8.2f}  {ends[0].bound:8.2f} {ends[1].bound:8.2f}"
        cells = [f"{e.logit:8.2f} {e.value:6.3f} {e.radii:6.2f} {e.verdict:20}" for e in ends]
        lines.append(f"{gate.unit:6}  {bounds}  {'  '.join(cells)}")
    return "\n".join(line.rstrip() for line in lines)


@final
class LogitAxis:
    """Logits from left to right, ``asinh(z / 2)``: linear near zero and logarithmic far from it."""

    def __init__(self, gates: Sequence[GateReach]) -> None:
        logits = [z for gate in gates for e in (gate.suppressed, gate.excited) for z in (e.mixture, e.bound, e.logit)]
        logits += [z for gate in gates for z in gate.pictures] + [-4.0, 4.0]
        self.start, self.end = (math.asinh(z / 2) + pad for z, pad in ((min(logits), -0.25), (max(logits), 0.25)))

    def __call__(self, logit: float) -> float:
        return LEFT + (math.asinh(logit / 2) - self.start) / (self.end - self.start) * (RIGHT - LEFT)

    def logits(self) -> Tensor:
        """The logits at the pixels from LEFT to RIGHT."""
        return 2 * torch.sinh(torch.linspace(self.start, self.end, RIGHT - LEFT + 1))


def draw(
    title: str, note: str, gates: Sequence[GateReach], images: Tensor, values: Callable[[Tensor], Tensor]
) -> Canvas:
    """A row for each gate: its renders ``[U,2,3,H,W]`` at the sides, and the axis of its logits between them.

    ``values`` gives the values of a gate for logits ``[L]``.
    """
    sheet, axis = Canvas(LEFT + RIGHT, TOP + ROW * len(gates) + 34), LogitAxis(gates)
    sheet.text(20, 14, title, INK, 19, bold=True)
    sheet.text(20, 42, note, GREY)
    draw_legend(sheet, 76)
    draw_axis(sheet, axis, values)
    for i, gate in enumerate(gates):
        y = TOP + i * ROW
        if i:
            sheet.line([(20, y), (LEFT + RIGHT - 20, y)], PALE)
        draw_gate(sheet, axis, gate, y + ROW / 2)
        for image, x in zip(images[i], (20, LEFT + RIGHT - 20 - THUMB), strict=True):
            sheet.image(image, x, y + (ROW - THUMB) / 2, THUMB)
    return sheet


def draw_legend(sheet: Canvas, y: float) -> None:
    draw_band(sheet, [20, 25, 38, 51, 56], y)
    for x, mixture in ((266, True), (512, False)):
        draw_bracket(sheet, x, y, 1, mixture=mixture)
        draw_bracket(sheet, x + 28, y, -1, mixture=mixture)
    for x, color, hollow in ((698, COOL, False), (712, WARM, False), (884, COOL, True), (898, WARM, True)):
        sheet.dot(x, y, 5.5, color, hollow=hollow)
    for x, text in (
        (64, "pictures: all, 0.1 to 99.9 %, mean"), (302, "mixtures of their squeezes"),
        (548, "natural squeezes"), (724, "renders: shut, open"), (910, "their squeeze is not natural"),
    ):  # fmt: skip
        sheet.text(x, y, text, GREY, 12, "lm")


def draw_axis(sheet: Canvas, axis: LogitAxis, gate: Callable[[Tensor], Tensor]) -> None:
    """The value of a gate along the logits above the rows, the logits below them, and lines through all rows."""
    values, bottom = gate(axis.logits()), sheet.height - 34
    for i, value in enumerate(values.tolist()):
        sheet.box(LEFT + i, TOP - 12, LEFT + i + 1, TOP - 6, mix_colors(PALE, INK, value))
    for level, text in ((SHUT, "0"), (0.5, "0.5"), (OPEN, "1")):
        reached = (values >= level).nonzero()
        if len(reached):
            x = LEFT + int(reached[0])
            for y in range(TOP - 6, bottom, 6):
                sheet.line([(x, y), (x, min(y + 3, bottom))], FAINT)
            sheet.text(x, TOP - 15, text, INK, 12, "md")
    sheet.text(LEFT - 24, TOP - 9, "value of the gate", GREY, 12, "rm")
    sheet.line([(LEFT, bottom), (RIGHT, bottom)], FAINT)
    for tick in (t for t in TICKS if LEFT <= axis(t) <= RIGHT):
        sheet.line([(axis(tick), bottom), (axis(tick), bottom + 4)], FAINT)
        sheet.text(axis(tick), bottom + 6, f"{tick}", GREY, 12, "ma")
    sheet.text(LEFT - 24, bottom + 6, "logit", GREY, 12, "ra")


def draw_gate(sheet: Canvas, axis: LogitAxis, gate: GateReach, y: float) -> None:
    sheet.text((LEFT + RIGHT) / 2, y - ROW / 2 + 9, f"gate {gate.unit}", INK, 13, "ma", bold=True)
    draw_band(sheet, [axis(z) for z in gate.pictures], y)
    ends = ((gate.suppressed, COOL, 1, 20 + THUMB + 12, "l"), (gate.excited, WARM, -1, RIGHT + LEFT - THUMB - 32, "r"))
    for end, color, inward, x, anchor in ends:
        draw_bracket(sheet, axis(end.bound), y, inward)
        draw_bracket(sheet, axis(end.mixture), y, inward, mixture=True)
        sheet.dot(axis(end.logit), y, 6, color, hollow=end.radii > 1)
        sheet.text(axis(end.logit), y + 13, f"{end.logit:.1f}", color, 12, "ma")
        sheet.text(x, y - 20, f"value {end.value:.2f}", color, 13, f"{anchor}m", bold=True)
        sheet.text(x, y, end.verdict, INK, 13, f"{anchor}m")
        sheet.text(x, y + 20, f"{end.radii:.2f} radii out", GREY, 12, f"{anchor}m")


def mix_colors(first: Color, second: Color, share: float) -> Color:
    """The colour at ``share`` of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def draw_band(sheet: Canvas, marks: Sequence[float], y: float) -> None:
    """The range of pictures: least, 0.1 %, mean, 99.9 %, largest."""
    least, low, mean, high, most = marks
    sheet.box(least, y - 1.5, most, y + 1.5, (170, 175, 183))
    sheet.box(low, y - 6, high, y + 6, (170, 175, 183), 3)
    sheet.box(mean - 1, y - 6, mean + 1, y + 6, WHITE)


def draw_bracket(sheet: Canvas, x: float, y: float, inward: int, *, mixture: bool = False) -> None:
    """An end of the range of natural squeezes; a smaller bracket for mixtures of pictures' squeezes."""
    half, color = (7, GREY) if mixture else (11, INK)
    sheet.line([(x + 5 * inward, y - half), (x, y - half), (x, y + half), (x + 5 * inward, y + half)], color, 1.5)
