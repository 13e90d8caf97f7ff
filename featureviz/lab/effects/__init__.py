"""What changes when gates are changed."""
