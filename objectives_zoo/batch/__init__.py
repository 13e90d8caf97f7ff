"""Objectives that compare the images of a batch; all others treat each image as if it were alone."""
