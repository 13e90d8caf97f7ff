"""The network one can tap: views to activations."""
