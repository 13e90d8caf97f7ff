"""Weighted sums of the channels of a layer."""
