"""Parameterizations of the caller's: those that keep the contract are taken, others are named with what is wrong."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.image.base import check_images


class Own(fv.Parameterization):
    """Two images of 3 x 4 x 5 with leaves and a decoder that are given."""

    def __init__(self, decode: Callable[[Tensor], object], *shapes: tuple[int, ...], **options: bool) -> None:
        super().__init__()
        self.decode = decode
        for i, shape in enumerate(shapes or [(2, 3, 4, 5)]):
            self.register_parameter(f"leaf{i}", nn.Parameter(torch.zeros(shape), **options))

    def forward(self) -> Tensor:
        return self.decode(self.leaf0)  # type: ignore


@pytest.mark.parametrize(
    "image",
    [
        Own(torch.sigmoid),
        Own(lambda x: x.sigmoid().expand(2, 3, 4, 5), (2, 1, 1, 1)),
        Own(lambda x: x.unflatten(1, (3, 4, 5)).sigmoid(), (2, 60), (2,)),
        Own(lambda x: (x + 0.5).clamp(0, 1)),
        fv.FourierImage(2, (4, 5)),
        fv.PixelImage(2, (4, 5)),
    ],
)
def test_what_keeps_the_contract_is_taken(image: fv.Parameterization) -> None:
    images = check_images(image, 3)
    assert images.shape == (2, 3, 4, 5)
    assert not images.requires_grad
    with torch.no_grad():
        assert torch.equal(check_images(image, 3), images)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Own(torch.sigmoid, (3, 4, 5)), r"Own.forward\(\) gave \[3, 4, 5\]"),
        (Own(lambda x: x.sigmoid(), (2, 3, 4, 5), (3, 1)), r"Own.leaf1 is \[3, 1\] for 2 images; expected one row"),
        (Own(lambda x: x.sigmoid(), (2, 3, 4, 5), ()), r"Own.leaf1 is \[\] for 2 images"),
        (Own(lambda x: x.sigmoid(), ()), "Own has a first parameter without rows"),
        (Own(lambda x: x.sigmoid()[:1]), r"gave \[1, 3, 4, 5\].*expected \[2,3,H,W\]"),
        (Own(lambda x: x.sigmoid()[:, :1]), r"gave \[2, 1, 4, 5\]"),
        (Own(lambda x: x.sigmoid().movedim(1, -1)), r"gave \[2, 4, 5, 3\]"),
        (Own(lambda x: x.sigmoid()[:, :, :0]), r"gave \[2, 3, 0, 5\]"),
        (Own(lambda x: x.sigmoid().double()), "of torch.float64"),
        (Own(lambda x: x.sigmoid().half()), "of torch.float16"),
        (Own(lambda x: (255 * x.sigmoid()).byte()), "of torch.uint8"),
        (Own(lambda x: x.sigmoid().detach()), "does not depend on a parameter"),
        (Own(torch.sigmoid, requires_grad=False), "does not depend on a parameter"),
        (Own(lambda x: x.sigmoid().to("meta")), "gave images on meta, its leaves are on cpu"),
        (Own(lambda x: x.sigmoid().tolist()), r"gave <list>; expected"),
        (Own(lambda x: None), "gave None"),
        (Own(lambda x: 255 * x.sigmoid()), "gave values from 128 to 128; .*end with a sigmoid"),
        (Own(lambda x: x.tanh() - 0.1), "gave values from -0.1"),
        (Own(lambda x: x / x), "gave values from nan"),
    ],
)
def test_what_breaks_the_contract_is_named(image: fv.Parameterization, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_images(image, 3)


def test_an_image_without_leaves_is_named() -> None:
    class Still(fv.Parameterization):
        def forward(self) -> Tensor:
            return torch.rand(1, 3, 8, 8)

    with pytest.raises(InvalidInput, match=r"Still has no parameters; expected leaves \[N, ...\]"):
        check_images(Still(), 3)
