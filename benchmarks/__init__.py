"""Measurements: suites of speed, with the contract in README.md, and studies of gates."""
