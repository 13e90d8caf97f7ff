"""Which pixels a score depends on, and how much of it depends on them through gates."""
