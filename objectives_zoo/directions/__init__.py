"""Directions in the space of a layer's channels, at one position or many."""
