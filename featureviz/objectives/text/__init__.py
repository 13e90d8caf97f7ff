"""Specs as text: their tokens and values, and the objectives that they may call by name."""
