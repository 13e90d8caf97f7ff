"""Objectives: activations to a score for every view."""
