"""An image whose statistics, wherever they are, are those of a picture."""
