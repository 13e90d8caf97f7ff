"""Which pixels a score rests on."""
