"""The tables of the study of recipes, from its stored result."""

from __future__ import annotations

from typing import Any

from benchmarks.report.study_tables import tabulate_gate_control

FIGURES = {
    "score": "held-out", "jpeg": "JPEG", "blur": "blur", "crop": "crop", "contrast": "contrast",
    "own distance": "own distance", "AUC": "AUC",
}  # fmt: skip
PLAIN = "plain"


def tabulate_clarity(result: dict[str, Any]) -> str:
    lines = [f"| network, layer | recipe | pictures | {' | '.join(FIGURES.values())} |", f"|{'---|' * 10}"]
    for network, groups in result["networks"].items():
        for layer, recipes in groups.items():
            for recipe, entry in recipes.items():
                if recipe != PLAIN:
                    cells = [_format_change(entry.get(f"{figure} against plain"), figure) for figure in FIGURES]
                    head = f"{network}, {layer if layer == 'all' else f'`{layer}`'}"
                    lines.append(f"| {head} | {recipe} | {entry['pictures']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tabulate_planted(result: dict[str, Any]) -> str:
    lines = ["| recipe | the template fills the view | the template may be anywhere |", "|---|---|---|"]
    for recipe, kinds in result["planted"].items():
        cells = [f"{sorted(kinds[kind])[len(kinds[kind]) // 2]:.2f}" for kind in ("rigid", "movable")]
        lines.append(f"| {recipe} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tabulate_gate_control_clear(result: dict[str, Any]) -> str:
    return tabulate_gate_control(result, {"logit": "the logit, clear recipe"})


def _format_change(change: list[float] | None, figure: str) -> str:
    if not change:
        return "-"
    sign = "+" if figure in ("own distance", "AUC") else ""
    median, low, high = (f"{value:{sign}.2f}" for value in change)
    return f"{median} ({low}, {high})"
