"""Objectives: from activations to one score for every view."""
