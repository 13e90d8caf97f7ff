"""One page for each gate."""
