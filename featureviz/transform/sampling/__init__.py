"""Points of views, and the pixels that are there: matrices, and resampling in which no pixel is skipped."""
