"""What a gate does, what drives it, and how far it can be brought."""
