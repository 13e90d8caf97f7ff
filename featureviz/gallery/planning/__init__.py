"""What a gallery holds: an explicit list of tiles, each with a hash of all that decides its pixels."""
