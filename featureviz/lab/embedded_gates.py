"""The natural statistics of the embedded network's gates, which ship inside the package."""

from __future__ import annotations

from importlib.resources import as_file, files

from featureviz.lab.statistics.gate_statistics import GateStatistics


def natural_gates() -> GateStatistics:
    """How the gates of the embedded network behave on natural pictures that it was never trained on.

    How they were measured is told in ``docs/embedded.md``.

    >>> natural_gates().count > 5000
    True
    """
    with as_file(files("featureviz.models") / "embedded_gates.pt") as path:
        return GateStatistics.load(path)
