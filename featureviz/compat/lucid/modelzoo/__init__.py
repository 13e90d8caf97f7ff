"""Lucid's ``modelzoo``."""
