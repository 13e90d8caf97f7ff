"""A network of one's own: copies that run in the place of the caller's network."""
