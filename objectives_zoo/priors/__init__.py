"""Costs of the image itself: use them on the layer "input", with a negative weight."""
