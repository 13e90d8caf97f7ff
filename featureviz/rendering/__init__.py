"""The easy entry: objectives to images."""
