"""The text of a poster, and how text is made to fit."""

from __future__ import annotations

from featureviz.gallery.planning.tile import GATE
from featureviz.gallery.store.reading import Gallery
from featureviz.lab.draw.canvas import measure_text
from featureviz.naming import shorten


def introduce(gallery: Gallery, photographs: bool, note: str, width: float) -> list[tuple[str, int]]:
    """The title and the lines below it, each with the size of its text."""
    plan = gallery.plan
    kinds, signs = {group.kind for group in plan.groups}, {tile.sign for tile in plan.tiles}
    nouns = {GATE: "gates", "channel": "channels"}
    verbs = {1: "opens", -1: "closes"} if kinds == {GATE} else {1: "excites", -1: "suppresses"}
    what = " and ".join(verbs[sign] for sign in sorted(signs, reverse=True))
    noun = nouns[kinds.pop()] if len(kinds) == 1 else "units"
    title = _write_out(f"What {what} the {noun} of {plan.model}")
    lines = [
        f"Each picture was made by {plan.recipe.text.get('steps')} steps of gradient ascent. The bold number is that of"
        f" the unit. {_explain_values(gallery)}{_explain_photographs(gallery, photographs)}"
    ]
    tiles = gallery.tiles()
    if not all(stored.figures.get("moved", True) for stored in tiles):
        lines.append("A picture that is all grey was changed by no step: no gradient reaches its unit.")
    if len(tiles) < len(plan):
        lines.append(f"{len(tiles):,} of {len(plan):,} pictures are finished.")
    lines += [note] if note else []
    wrapped = [line for text in lines for line in wrap_text(text, 15, width)]
    size = next((size for size in range(32, 20, -2) if measure_text(title, size) <= width), 20)
    return [(fit_text(title, size, width), size), *((line, 15) for line in wrapped)]


def sign_off(gallery: Gallery) -> str:
    """Versions and recipe, for the foot."""
    recipe, run = gallery.plan.recipe, gallery.about.get("run", {})
    height, width = recipe.text.get("size", ("?", "?"))
    versions = ", ".join(f"{name} {run[name].partition('+')[0]}" for name in ("featureviz", "torch") if name in run)
    how = f"recipe {recipe.preset}: {recipe.text.get('steps')} steps, {height} x {width} px"
    return f"{versions}; {how}" if versions else how


def fit_text(text: str, size: int, width: float) -> str:
    """The text on one line, printable, shortened in its middle until it is at most ``width`` pixels wide.

    >>> fit_text("a" * 100, 13, 100)
    'aaaaaaaa...aaaa'
    """
    text = _write_out(text)
    kept = len(text)
    while kept > 1 and measure_text(shorten(text, kept), size) > width:
        kept = min(kept - 1, round(kept * 0.95))
    return shorten(text, kept)


def wrap_text(text: str, size: int, width: float) -> list[str]:
    """The text in lines that are at most ``width`` pixels wide; a word that is wider is shortened."""
    lines = [""]
    for word in text.split():
        word = fit_text(word, size, width)
        longer = f"{lines[-1]} {word}".strip()
        if measure_text(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _write_out(text: str) -> str:
    """The text on one line, with what cannot be printed as numbers."""
    text = " ".join(text.encode(errors="backslashreplace").decode().split())
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)[:1000]


def _explain_values(gallery: Gallery) -> str:
    if not any(group.kind == GATE for group in gallery.plan.groups):
        return ""
    return "Coloured numbers are the values of the gate, 0 to 1, on views of the pictures that the ascent did not use."


def _explain_photographs(gallery: Gallery, photographs: bool) -> str:
    if not photographs:
        return ""
    signs, count = {tile.sign for tile in gallery.plan.tiles}, gallery.about.get("natural", {}).get("count")
    of = f", of {count:,} photographs," if isinstance(count, int) else ""
    if signs == {1, -1}:
        return f" Above and below stand{of or ' photographs:'} the ones that excite and suppress the unit most."
    place, verb = ("Above", "excites") if signs == {1} else ("Below", "suppresses")
    return f" {place} it stands{of or ' a photograph:'} the one that {verb} the unit most."
