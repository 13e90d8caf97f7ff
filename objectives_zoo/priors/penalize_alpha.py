"""The opacity of an image with transparency."""

from __future__ import annotations

from featureviz import Channel, Objective, checks, zoo


@zoo.entry("penalize_alpha(features.6:3)", beside="features.6:3")
def penalize_alpha(goal: Objective, weight: float = 1.0) -> Objective:
    """A goal that counts less, the more of the image is opaque: only what the goal needs stays visible.

    ``goal * (1 - weight * mean alpha)`` with the alpha channel of the image, from 0 to 1. Its spec is that product. A
    goal below 0 would be raised by opacity: it should be one that the image makes positive.

    Source: the section on transparency of Mordvintsev et al. 2018, and the notebook of Lucid beside it. Weight 1, from
    0 to 1: at 1 a fully opaque image scores 0, and at 0 opacity costs nothing.

    The image is an ``fv.AlphaImage`` (``--alpha`` on the command line), whose layer ``".alpha"`` it reads. On maps,
    tokens and vectors it means what its goal means there.

    >>> penalize_alpha(Channel("features.6", 3), 0.5)
    features.6:3*(-0.5*.alpha:0 + (1))
    """
    checks.instance("penalize_alpha: goal", goal, Objective)
    return goal * (1 - checks.finite("penalize_alpha: weight", weight, 0, 1) * Channel(".alpha", 0))
