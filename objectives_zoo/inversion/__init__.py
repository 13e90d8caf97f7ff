"""An image whose activations are those of a picture, or more so."""
