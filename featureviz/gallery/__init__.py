"""Galleries: a plan of tiles, engines that render it, a folder that keeps them, and pages that open from disk."""

from featureviz.gallery.cards.entry import gate_cards
from featureviz.gallery.engine.cluster import RayEngine
from featureviz.gallery.engine.estimate import Estimate, estimate
from featureviz.gallery.engine.local import render_here
from featureviz.gallery.engine.run import Engine, render_plan
from featureviz.gallery.entry import render_gallery
from featureviz.gallery.gate_demo import render_demo
from featureviz.gallery.pictures.poster import poster
from featureviz.gallery.pictures.timelapse import timelapse
from featureviz.gallery.planning.fingerprint import take_fingerprint
from featureviz.gallery.planning.plan import Plan, plan
from featureviz.gallery.planning.tile import Tile
from featureviz.gallery.site.build import build_site
from featureviz.gallery.site.comparison import build_comparison
from featureviz.gallery.specs import expand_specs, render_specs
from featureviz.gallery.store.photographs import measure_photographs
from featureviz.gallery.store.reading import Gallery

__all__ = [
    "Engine", "Estimate", "Gallery", "Plan", "RayEngine", "Tile", "build_comparison", "build_site", "estimate",
    "expand_specs", "gate_cards", "measure_photographs", "plan", "poster", "render_demo", "render_gallery",
    "render_here", "render_plan", "render_specs", "take_fingerprint", "timelapse",
]  # fmt: skip
