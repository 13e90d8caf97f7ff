"""The folder of a gallery: tiles as PNG files, an index in SQLite, one writer at a time, and what is there to read."""
