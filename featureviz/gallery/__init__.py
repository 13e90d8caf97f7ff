"""Galleries: renders as tiles, a contact sheet, a report of all figures, and HTML pages that open from disk."""

from featureviz.gallery.cards.entry import gate_cards
from featureviz.gallery.gate_demo import render_demo
from featureviz.gallery.specs import expand_specs, render_specs

__all__ = ["expand_specs", "gate_cards", "render_demo", "render_specs"]
