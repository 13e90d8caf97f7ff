"""Pages from templates: of galleries, of gate cards, and of the demo. They open from disk."""
