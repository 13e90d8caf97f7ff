"""What a trained network does with images: measured, so that a render can be held against it."""

from featureviz.lab.statistics import GateStatistics as GateStatistics

__all__ = ["GateStatistics"]
