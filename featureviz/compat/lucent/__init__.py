"""Lucent's spelling, where it differs from Lucid's: layers joined by ``_``, cosine directions, any ``nn.Module``."""
