"""How any units of a network behave on natural images: channels of layers, and gates."""
