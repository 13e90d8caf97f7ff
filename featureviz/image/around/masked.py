"""Pictures of which one region moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor, nn

from featureviz.checks import show
from featureviz.errors import InvalidInput
from featureviz.image.base import Make, Parameterization, Size, make_part
from featureviz.image.frequencies.fourier import FourierImage
from featureviz.image.picture import Picture, as_tensor, check_start


@final
class MaskedImage(Parameterization):
    """A picture in which only a region moves: ``m x + (1 - m) picture``, x a parameterization that starts from it.

    Args:
        n: number of images; by default that of ``image``, or 1.
        size: that of the picture, which is the default.
        image: the picture, or one for each image.
        mask: m, a picture in grey ``[H,W]`` or ``[1,H,W]``: 1 where pixels move, 0 where they stay.
        channels: of the picture.
        of: makes the images that move, such as ``fv.PixelImage``.
        seed: of what moves, if it is random.
        image_ids: as for ``FourierImage``.
        options: of ``of``.

    >>> import numpy as np
    >>> mask = np.zeros((24, 32)); mask[4:12, 4:12] = 1
    >>> MaskedImage(2, image=np.random.rand(24, 32, 3), mask=mask)().shape
    torch.Size([2, 3, 24, 32])
    """

    rows = ("picture",)

    def __init__(
        self,
        n: int | None = None,
        size: Size | None = None,
        *,
        image: Picture,
        mask: Picture,
        channels: int = 3,
        of: Make = FourierImage,
        seed: int = 0,
        image_ids: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        mask = mask[None] if isinstance(mask, Tensor) and mask.ndim == 2 else mask
        picture, region = check_start(image, n, channels, size).cpu(), as_tensor(mask, 1, "mask").cpu()
        if region.ndim != 3 or region.shape[1:] != picture.shape[2:]:
            height, width = picture.shape[2:]
            raise InvalidInput(
                f"mask of shape {list(region.shape)} was given for a picture of {height}x{width}; expected"
                f" [{height},{width}] or [1,{height},{width}]: resize the mask"
            )
        if not bool(region.any()):
            raise InvalidInput(f"mask={show(mask)} is 0 everywhere, so no pixel moves; expected 1 where pixels move")
        self.picture, self.mask = nn.Buffer(picture.contiguous()), nn.Buffer(region.clamp(0, 1))
        self.moving = make_part(
            of, len(picture), image=picture, channels=channels, seed=seed, image_ids=image_ids, **options
        )

    def forward(self) -> Tensor:
        return self.mask * self.moving() + (1 - self.mask) * self.picture
