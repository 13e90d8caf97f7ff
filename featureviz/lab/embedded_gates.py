"""The natural statistics of the embedded network's gates, which the package contains."""

from __future__ import annotations

from importlib.resources import as_file, files

from featureviz.lab.statistics.gate_statistics import GateStatistics


def natural_gates() -> GateStatistics:
    """How the gates of the embedded network behave on natural pictures that were not used in its training.

    ``docs/embedded.md`` describes the measurement.

    >>> natural_gates().count > 5000
    True
    """
    with as_file(files("featureviz.models") / "embedded_gates.pt") as path:
        return GateStatistics.load(path)
