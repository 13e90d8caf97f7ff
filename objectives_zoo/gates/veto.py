"""A feature that is there, and is blocked."""

from __future__ import annotations

from featureviz import Gate, GateSite, Objective, PreGate, checks, zoo


@zoo.entry("veto(features.6.block.2, 3)", beside="pregate:features.6.block.2:3")
def veto(site: GateSite | str, unit: int, weight: float = 0.5) -> Objective:
    """A channel up before its gate, while the gate closes.

    ``mean_p x_u - weight z_u`` for channel u of the map x before the gates, and the logit z of its gate. Its spec is
    that sum.

    Source: the quadrants of this library, without the statistics of natural pictures that they need. Weight 0.5: in the
    embedded network a logit moves about twice as far as a mean; with statistics at hand take ``Quadrant``.

    x is a map; a block has one logit for each channel and image.

    >>> veto("features.6.block.2", 3)
    pregate:features.6.block.2:3 - 0.5*gate:features.6.block.2:3
    """
    return PreGate(site, unit) - checks.finite("veto: weight", weight) * Gate(site, unit)
