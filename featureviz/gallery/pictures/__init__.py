"""Pictures of a gallery: posters and contact sheets; and timelapses of a render."""
