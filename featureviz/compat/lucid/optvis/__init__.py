"""Lucid's ``optvis``: objectives, parameterizations, transforms and ``render_vis``."""
