"""How gates behave on natural images."""
