"""What changes in the network, or in a render, when gates are changed."""
