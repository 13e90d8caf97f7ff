"""Images that stay near a picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn

from featureviz.checks import choice, finite
from featureviz.image.base import Parameterization, Size, draw_noise
from featureviz.image.picture import Picture, check_start


@final
class BallImage(Parameterization):
    """Images within ``radius`` of a picture: what the network sees in it, or an adversarial example (Lucid's balls).

    With ``norm="inf"`` no value of a pixel moves by more than the radius: ``picture + radius tanh(x)``. With
    ``norm="2"`` the length of the whole difference is at most the radius: ``picture + radius x / max(1, |x|)``. The
    leaf x is ``[N,C,H,W]``. Where this leads out of [0,1] it is clipped, which brings it nearer to the picture.

    Args:
        n: number of images; by default that of ``image``, or 1.
        size: that of the picture, which is the default.
        image: the picture, or one for each image.
        radius: in units of the image's range, 0 to 1.
        norm: ``"inf"`` or ``"2"``.
        channels: of the picture.
        sd: standard deviation of the difference at the start, as a share of the radius.
        seed: of the difference at the start.
        image_ids: as for ``FourierImage``.

    >>> image = BallImage(2, image=torch.full((3, 8, 8), 0.5), radius=0.1)
    >>> bool((image() - 0.5).abs().max() <= 0.1)
    True
    """

    rows = ("picture",)

    def __init__(
        self,
        n: int | None = None,
        size: Size | None = None,
        *,
        image: Picture,
        radius: float = 0.1,
        norm: str = "inf",
        channels: int = 3,
        sd: float = 0.01,
        seed: int = 0,
        image_ids: Iterable[int] | None = None,
    ) -> None:
        super().__init__()
        picture = check_start(image, n, channels, size).cpu().contiguous()
        self.radius, self.norm = finite("radius", radius, 1e-6, 1e6), choice("norm", norm, ("inf", "2"))
        self.picture, spread = nn.Buffer(picture), 1.0 if norm == "inf" else picture[0].numel() ** -0.5
        self.difference = nn.Parameter(spread * draw_noise(tuple(picture.shape), sd, seed, image_ids))

    def forward(self) -> Tensor:
        if self.norm == "inf":
            moved = torch.tanh(self.difference)
        else:
            length = self.difference.flatten(1).norm(dim=1)[:, None, None, None]
            moved = self.difference / length.clamp(min=1.0)
        return (self.picture + self.radius * moved).clamp(0, 1)
