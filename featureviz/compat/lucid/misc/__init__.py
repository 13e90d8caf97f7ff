"""Lucid's ``misc``: pictures in and out, and ``ChannelReducer``."""
