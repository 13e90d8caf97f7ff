"""Measurements, each a module to run: same work on both sides, in one process, with the losses shown."""
