"""Axes from evidence: what grows with the number of images, what with their size, and where modules have channels."""

from __future__ import annotations

from collections.abc import Mapping

from featureviz.network.axes import Axes
from featureviz.network.survey.passes import Output, Pass

Shape = tuple[int, ...]


def learn_axes(one: Pass, three: Pass, wide: Pass) -> dict[str, Axes]:
    """The axes of each output, from passes of one image, of three, and of one larger image.

    What a layer is not shown by these may be told by its neighbours: the layers before and after it whose channels are
    known often have as many.
    """
    axes: dict[str, Axes] = {}
    left: list[str] = []
    for name, output in one.outputs.items():
        axes[name], sure = _from_growth(
            name, output, three.outputs.get(name), wide.outputs.get(name), one.channels.get(name)
        )
        if not sure:
            left.append(name)
    counts = {n: o.shape[a] for n, o in one.outputs.items() if (a := axes[n].channel) is not None}
    for name in left:
        axes[name] = _from_neighbours(name, one.outputs, axes[name], counts)
    return axes


def explain_axes(name: str, shape: Shape, why: str) -> str:
    """Why axes are not known, and the remedy."""
    letters = {2: "n c", 3: "n t c", 4: "n h w c"}.get(len(shape), "n c d h w")
    return (
        f"its output {list(shape)} for one image does not tell which axis is what: {why}. Say it with"
        f" wrap(net, axes={{{name!r}: {letters!r}}}), n for the batch and c for the channels"
    )


def _from_growth(
    name: str, one: Output, three: Output | None, wide: Output | None, told: int | None
) -> tuple[Axes, bool]:
    """The axes, and whether no neighbour has to be asked; ``told`` is what the modules around say of the channels."""
    shape, ndim = one.shape, len(one.shape)
    batch = _batch_axis(shape, None if three is None else three.shape)
    if batch is None:
        why = "no axis has a row, or rows, for each image"
        return Axes(ndim, None, unclear=explain_axes(name, shape, why)), True
    windows = 1 if shape[batch] == 1 else 0
    others = [axis for axis in range(ndim) if axis != batch]
    comparable = wide is not None and len(wide.shape) == ndim
    grown = {axis for axis in others if comparable and wide is not None and wide.shape[axis] != shape[axis]}
    fixed = [axis for axis in others if axis not in grown]
    if len(others) < 2:
        return Axes(ndim, batch, others[0] if others else None, windows, "" if others else "it has one axis only"), True
    if not fixed:
        why = "every axis grows with the image, so none has channels"
        return Axes(ndim, batch, None, windows, explain_axes(name, shape, why)), True
    if told in fixed:
        return Axes(ndim, batch, told, windows), True
    long = [axis for axis in fixed if shape[axis] > 1] or fixed[:1]
    if told is None and len(long) == 1:
        return Axes(ndim, batch, long[0], windows), True
    why = f"the axes {long} may all have channels"
    return Axes(ndim, batch, None, windows, explain_axes(name, shape, why)), False


def _batch_axis(one: Shape, three: Shape | None) -> int | None:
    """The axis that grows with the images; the first one, of length 1, where three images cannot be run."""
    if three is None:
        return 0 if one and one[0] == 1 else None
    if len(one) != len(three):
        return None
    grown = [axis for axis, (n, m) in enumerate(zip(one, three, strict=True)) if n != m]
    return grown[0] if len(grown) == 1 and three[grown[0]] == 3 * one[grown[0]] else None


def _from_neighbours(name: str, outputs: Mapping[str, Output], axes: Axes, counts: Mapping[str, int]) -> Axes:
    """With the one axis that is as long as the channels of the last known layer before it, or of the next after it."""
    names, shape = list(outputs), outputs[name].shape
    at = names.index(name)
    before = next((counts[n] for n in reversed(names[:at]) if n in counts), 0)
    after = next((counts[n] for n in names[at + 1 :] if n in counts), 0)
    fits = [axis for axis, n in enumerate(shape) if axis != axes.batch and n > 1 and n in (before, after)]
    return Axes(axes.ndim, axes.batch, fits[0], axes.windows) if len(fits) == 1 else axes
