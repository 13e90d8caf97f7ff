"""Measurements of networks: what gates there are, and what moves them. What measures speed is in ``suites``."""
