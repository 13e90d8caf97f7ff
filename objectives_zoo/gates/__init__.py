"""Combinations of gates of a squeeze-and-excitation block."""
