"""The ``featureviz`` command."""

from featureviz.cli.command import main

__all__ = ["main"]
