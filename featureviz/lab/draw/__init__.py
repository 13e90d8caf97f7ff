"""Drawing: colours for numbers, a canvas, and sheets of labelled panels."""
