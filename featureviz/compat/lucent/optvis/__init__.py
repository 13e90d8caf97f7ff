"""Lucent's ``optvis``: objectives, parameterizations, transforms and ``render_vis``."""

from featureviz.compat.lucid.optvis import param as param
from featureviz.compat.lucid.optvis import transform as transform
