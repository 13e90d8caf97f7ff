"""Galleries: a plan of tiles, engines that render it, a folder that keeps them, and pages that open from disk."""

from featureviz.gallery.cards.entry import gate_cards
from featureviz.gallery.engine.cluster import RayEngine
from featureviz.gallery.engine.estimate import Estimate, estimate
from featureviz.gallery.engine.run import render_plan
from featureviz.gallery.gate_demo import render_demo
from featureviz.gallery.planning.fingerprint import take_fingerprint
from featureviz.gallery.planning.plan import Plan, plan
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.specs import expand_specs, render_specs
from featureviz.gallery.store.reading import Gallery

__all__ = [
    "Estimate", "Gallery", "Plan", "RayEngine", "Tile", "estimate", "expand_specs", "gate_cards", "plan", "render_demo",
    "render_plan", "render_specs", "take_fingerprint",
]  # fmt: skip
