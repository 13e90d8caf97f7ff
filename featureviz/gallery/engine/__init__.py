"""From a plan to a filled store: batches of tiles are rendered here, or by workers."""
