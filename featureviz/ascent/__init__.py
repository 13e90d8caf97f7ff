"""Gradient ascent: a score to a step."""
