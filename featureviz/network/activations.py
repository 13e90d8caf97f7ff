"""What an objective gets from a forward: tensors by name, and the image that each row is a view of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, final

import torch
from torch import Tensor

from featureviz.checks import instance
from featureviz.errors import InvalidInput, unknown
from featureviz.network.axes import Axes
from featureviz.network.taps import ALPHA

See: TypeAlias = "Callable[[Tensor, slice], Activations]"  # of pictures [n,C,H,W] for the images of a slice


@final
@dataclass(frozen=True)
class Rows:
    """The rows of a batch, image-major: row ``i * views + k`` is view k of image ``images[i]``.

    ``image`` ``[M]`` says the same on the device. It is made once, so that a step copies nothing from the host.
    ``step`` is the number of steps before this one, on the device; None outside an ascent. ``see`` is how
    ``Activations.paired`` sees other pictures through the same draws.
    """

    images: tuple[int, ...]
    views: int
    image: Tensor
    step: Tensor | None = None
    see: See | None = None

    @classmethod
    def make(cls, images: int | Sequence[int], views: int = 1, device: torch.device | str | None = None) -> Rows:
        """Rows for so many images, or for images with these numbers.

        >>> Rows.make(2, views=3).image.tolist()
        [0, 0, 0, 1, 1, 1]
        """
        numbers = tuple(range(images)) if isinstance(images, int) else tuple(images)
        return cls(numbers, views, torch.tensor(numbers, device=device or "cpu").repeat_interleave(views))

    def __len__(self) -> int:
        return len(self.images) * self.views

    def select(self, images: slice) -> Rows:
        """The rows of the images at these places."""
        first, views = images.start, self.views
        see = None if self.see is None else partial(_see_some, self.see, first)
        image = self.image.narrow(0, first * views, (images.stop - first) * views)
        return Rows(self.images[images], views, image, self.step, see)


def _see_some(see: See, first: int, pictures: Tensor, images: slice) -> Activations:
    return see(pictures, slice(first + images.start, first + images.stop))


@final
class Activations(Mapping[str, Tensor]):
    """Tensors ``[M, ...]`` by name, as the network gives them. An unknown name is an error with the nearest ones.

    ``rows`` says which image each row belongs to; ``labels`` are the class names of the model, if it has any. ``axes``
    says which axis of a tensor is what; channels come first where it says nothing. ``channels_first`` gives a tensor in
    one layout, whatever the network's is.

    >>> a = Activations({"conv": torch.zeros(2, 8, 4, 4)}, Rows.make(2))
    >>> a["conv"].shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        rows: Rows,
        labels: Sequence[str] | None = None,
        axes: Mapping[str, Axes] | None = None,
    ) -> None:
        self._tensors: dict[str, Tensor] = dict(instance("tensors", tensors, Mapping))
        self._axes: dict[str, Axes] = {} if axes is None else dict(instance("axes", axes, Mapping))
        self.rows, self.labels = rows, labels

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise unknown("activation", name, self._tensors, "An objective sees the layers it names in `layers` only.")
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def with_alpha(self, alpha: Tensor) -> Activations:
        """With the alpha channel ``[M,1,H,W]`` of the images as ``".alpha"``."""
        return Activations({**self._tensors, ALPHA: alpha}, self.rows, self.labels, self._axes)

    def axes(self, name: str) -> Axes:
        """Which axis of a tensor is what."""
        return self._axes.get(name) or Axes.channels_first(self[name].ndim)

    def views_first(self, name: str) -> Tensor:
        """``[M, ...]``: one row for each view, whatever follows."""
        return self.axes(name).to_rows(self[name], len(self.rows), name)

    def channels_first(self, name: str) -> Tensor:
        """``[M,C,...]``: the views, the channels, the positions."""
        return self.axes(name).to_channels_first(self[name], len(self.rows), name)

    def per_image(self) -> list[Activations]:
        """One ``Activations`` for each image, in order."""
        views, count = self.rows.views, len(self.rows)
        parts = [
            {name: self.axes(name).select(t, i * views, views, count) for name, t in self._tensors.items()}
            for i in range(len(self.rows.images))
        ]
        rows = [self.rows.select(slice(i, i + 1)) for i in range(len(parts))]
        return [Activations(part, own, self.labels, self._axes) for part, own in zip(parts, rows, strict=True)]

    def paired(self, pictures: Tensor) -> Activations:
        """The activations of pictures that are seen through the same draws as the images; no gradient passes.

        Args:
            pictures: ``[1,C,H,W]`` in [0,1] for every image, or ``[N,C,H,W]``, one for each of the N images that the
                objective describes. They are scaled until they cover the image, and cropped at the centre.

        What the draws change is then the same in both, so the difference between them is one of content. It costs a
        forward of the pictures.

        Raises:
            InvalidInput: these activations are not those of a network, or there are fewer pictures than images.
        """
        numbers, see = self.rows.images, self.rows.see
        if see is None:
            raise InvalidInput("activations that no network gave cannot be paired; expected those of model(x, layers)")
        if len(pictures) != 1 and max(numbers) >= len(pictures):
            raise InvalidInput(f"{len(pictures)} pictures were given for image {max(numbers)}; expected one for each")
        one_each = pictures if len(pictures) == 1 else torch.cat([pictures[i : i + 1] for i in numbers])
        return see(one_each.expand(len(numbers), -1, -1, -1), slice(0, len(numbers)))

    def channels(self, name: str, units: Sequence[int], index: Tensor) -> Tensor:
        """Channel ``units[0]`` of every row, or ``units[i]`` of the rows of image i: ``[M, positions]``.

        ``index`` holds ``units`` on the device. N images with N different units are one gather.
        """
        a = self.channels_first(name)
        if max(units) >= a.shape[1] or min(units) < -a.shape[1]:
            worst = max(units, key=lambda u: u if u >= 0 else -u - 1)
            raise InvalidInput(f"channel {worst} of {name!r} was asked for; it has {a.shape[1]}: 0 to {a.shape[1] - 1}")
        index = index.to(a.device)  # an objective that no ascent has prepared may be on another device
        if len(units) == 1:
            return a.index_select(1, index).squeeze(1)
        if max(self.rows.images) >= len(units):
            raise InvalidInput(
                f"{len(units)} units of {name!r} for image {max(self.rows.images)}; expected one for each image"
            )
        return a[torch.arange(len(a), device=a.device), index[self.rows.image]]

    def means(self, name: str, units: Sequence[int], index: Tensor) -> Tensor:
        """The mean of ``channels`` over all positions, if the layer has positions: ``[M]``."""
        a = self.channels(name, units, index)
        return a.flatten(1).mean(1) if a.ndim > 1 else a
