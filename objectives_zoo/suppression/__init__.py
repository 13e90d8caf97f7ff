"""One unit up and the rest of its layer held down."""
