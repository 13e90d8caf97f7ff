"""What an objective gets from a forward: tensors by name, and the image that each row is a view of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from featureviz.checks import instance
from featureviz.errors import InvalidInput, unknown
from featureviz.network.axes import Axes
from featureviz.network.taps import ALPHA


@final
@dataclass(frozen=True)
class Rows:
    """The rows of a batch, image-major: row ``i * views + k`` is view k of image ``images[i]``.

    ``image`` ``[M]`` says the same on the device. It is made once, so that a step copies nothing from the host.
    """

    images: tuple[int, ...]
    views: int
    image: Tensor

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
        images = self.rows.image.split(views)
        return [
            Activations(part, Rows((number,), views, images[i]), self.labels, self._axes)
            for i, (number, part) in enumerate(zip(self.rows.images, parts, strict=True))
        ]

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
