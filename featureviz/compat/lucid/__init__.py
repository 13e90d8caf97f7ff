"""Lucid's spelling: ``import featureviz.compat.lucid.optvis.render as render``, and the other modules."""
