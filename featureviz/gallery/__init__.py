"""Galleries: many renders as tiles, a contact sheet, a report and one page that opens from disk."""

from featureviz.gallery.cards.cards import gate_cards as gate_cards
from featureviz.gallery.demo import demo as demo
from featureviz.gallery.specs import render_specs as render_specs

__all__ = ["demo", "gate_cards", "render_specs"]
