"""What a network does on natural images, measured."""
