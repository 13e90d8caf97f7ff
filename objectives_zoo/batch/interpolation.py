"""A series of images between two objectives."""

from __future__ import annotations

from featureviz import InvalidInput, Objective, PerImage, checks, zoo


@zoo.entry("interpolation(features.6:3, features.6:17, 4)", beside="[features.6:3, features.6:17]")
def interpolation(first: Objective, second: Objective, n: int) -> Objective:
    """A series of n images from ``first`` to ``second``.

    Image i maximises ``(1 - t) first + t second`` with t = i / (n - 1). Its spec is that sum, one for each image.

    Source: Lucid's ``channel_interpolate``, here of any two objectives. It has no weight of its own; add ``alignment``
    to keep neighbours alike, or the series jumps. It means on tokens and vectors what the two objectives mean there.

    >>> from featureviz import Channel
    >>> interpolation(Channel("features.6", 1), Channel("features.6", 2), 3)
    [features.6:1, 0.5*features.6:1 + 0.5*features.6:2, features.6:2]
    """
    for goal in (first, second):
        if checks.instance("interpolation", goal, Objective).n != 1:
            raise InvalidInput(f"interpolation got {goal}, which is for {goal.n} images; expected one for each end")
    count = checks.whole("interpolation: n", n, 1, 1 << 16)
    mixes = [i / max(1, count - 1) for i in range(count)]
    return PerImage([first if t == 0 else second if t == 1 else (1 - t) * first + t * second for t in mixes])
