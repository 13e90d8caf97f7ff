"""The laws of image parameterizations: every test runs on all of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from matplotlib import cbook

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.image import color
from featureviz.image.base import check_images
from featureviz.image.picture import as_tensor
from featureviz.rendering.shards import select_images

Make = Callable[..., fv.Parameterization]
PICTURE = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))


def beside(make: Make) -> Make:
    """A family that starts from a picture: from a part of one picture, of the size and the channels asked for."""

    def made(n: int = 1, size: Any = 16, channels: int = 3, **options: Any) -> fv.Parameterization:
        height, width = (size, size) if isinstance(size, int) else size
        options.setdefault("image", PICTURE[:1, :height, :width].repeat(channels, 1, 1))
        return make(n, channels=channels, **options)

    return made


def masked(*args: Any, image: torch.Tensor, **options: Any) -> fv.Parameterization:
    return fv.MaskedImage(*args, image=image, mask=torch.ones_like(image[..., :1, :, :]), **options)


FROM_NOISE: dict[str, Make] = {
    "fourier": fv.FourierImage,
    "fourier, raw colour": lambda *a, **k: fv.FourierImage(*a, decorrelate=False, **k),
    "pixel": fv.PixelImage,
    "pixel, raw colour": lambda *a, **k: fv.PixelImage(*a, decorrelate=False, **k),
    "pyramid": fv.PyramidImage,
    "pyramid of six levels": lambda *a, **k: fv.PyramidImage(*a, levels=6, **k),
    "cppn": lambda *a, **k: fv.CPPNImage(*a, sd=0.1, **k),
    "shared": fv.SharedImage,
    "grey": fv.GreyImage,
    "grey pixels": lambda *a, **k: fv.GreyImage(*a, of=fv.PixelImage, **k),
    "alpha": fv.AlphaImage,
    "maco": fv.MacoImage,
    "ball": beside(fv.BallImage),
    "ball of length": beside(lambda *a, **k: fv.BallImage(*a, norm="2", radius=3.0, **k)),
}
EVERY: dict[str, Make] = {**FROM_NOISE, "masked": beside(masked)}  # it starts from the picture, so no seed moves it
COLOURED = {"maco": (3,), "alpha": (1, 3)}  # how many channels they can have, if not any
LEAST = {"maco": 8}
STARTED = {
    name: make
    for name, make in FROM_NOISE.items()
    if name.split(",")[0] in ("fourier", "pixel", "pyramid", "pyramid of six levels")
}
all_images = pytest.mark.parametrize("family", EVERY)


@all_images
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (9, 6), (1, 5), (33, 32)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_range_shape_and_dtype(family: str, size: tuple[int, int], channels: int) -> None:
    make = EVERY[family]
    if channels not in COLOURED.get(family, (1, 3, 5)) or min(size) < LEAST.get(family, 1):
        with pytest.raises(InvalidInput, match=rf"{make.__name__} was asked for.*expected"):
            make(3, size, channels=channels)
        return
    image = make(3, size, channels=channels)
    out = check_images(image, channels)
    assert out.shape == (3, channels + image.alpha, *size)
    assert len(image) == 3
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1
    for gradient in torch.autograd.grad(image().square().sum(), list(image.parameters())):
        assert torch.isfinite(gradient).all()
    assert all(getattr(image, name) is None or len(getattr(image, name)) == 3 for name in image.rows)


@all_images
def test_every_leaf_moves_the_image(family: str) -> None:
    image = EVERY[family](2, 16)
    weights = torch.rand(image().shape, generator=torch.Generator().manual_seed(3))
    for gradient in torch.autograd.grad((image() * weights).sum(), list(image.parameters())):
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("family", FROM_NOISE)
def test_the_seed_and_the_id_determine_an_image(family: str) -> None:
    make = EVERY[family]
    five, two = make(5, 16, seed=4)(), make(2, 16, seed=4)()
    assert torch.equal(five[:2], two)
    assert not torch.equal(five[0], five[1])
    assert not torch.equal(two, make(2, 16, seed=5)())
    assert torch.equal(make(2, 16, seed=4, image_ids=[3, 1])(), five[[3, 1]])
    assert make is fv.SharedImage or torch.equal(make(1, 16, seed=4, image_ids=[3])(), five[3:4])


@all_images
def test_rows_are_independent(family: str) -> None:
    image = EVERY[family](3, 12)
    gradients = torch.autograd.grad(image()[1].sum(), list(image.parameters()))
    for leaf, gradient in zip(image.parameters(), gradients, strict=True):
        assert image.across_batch or len(leaf) == 3
        if len(leaf) == 3:
            assert gradient[[0, 2]].abs().max() == 0


@all_images
def test_some_images_of_a_batch_are_a_batch(family: str) -> None:
    """What several devices share: rows of leaves, and of the buffers that have rows."""
    make = EVERY[family]
    for options in ({}, {"image": torch.rand(4, 3, 16, 16)}) if family in STARTED else ({},):
        image = make(4, None if options else 16, **options)
        if image.across_batch:
            with pytest.raises(InvalidInput, match="give one device"):
                select_images(image, range(1, 3))
        else:
            assert torch.equal(select_images(image, range(1, 3))(), image()[1:3])


@pytest.mark.parametrize("family", STARTED)
@pytest.mark.parametrize("size", [(24, 24), (17, 30), (31, 9)])
def test_a_starting_image_is_reproduced(family: str, size: tuple[int, int]) -> None:
    make = STARTED[family]
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    picture[0, :, 0], picture[1, :, -1] = 0.0, 1.0
    assert (make(2, image=picture)() - picture).abs().max() < 1e-6
    again = make(4, image=picture[0])()
    assert (again - picture[0]).abs().max() < 1e-6


@all_images
def test_gradcheck(family: str) -> None:
    image = EVERY[family](1, (8, 9) if family in LEAST else (4, 5)).double()
    names = [name for name, _ in image.named_parameters()]
    if family == "cppn":
        names = names[-3:]  # quicker

    def decode(*leaves: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(image, dict(zip(names, leaves, strict=True)), ())

    leaves = [image.get_parameter(name).detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(decode, leaves, fast_mode=True)


FITS = {  # the least PSNR in dB after 300 steps, where it is not 30, and the learning rate where it is not 0.05
    "cppn": (24, 0.005), "maco": (11, 0.5), "grey": (16, 0.05), "grey pixels": (16, 0.05), "ball": (9, 0.05),
    "ball of length": (9, 0.05), "masked": (20, 0.05),
}  # fmt: skip


@pytest.fixture(scope="module")
def photograph() -> torch.Tensor:
    """``[1,3,24,20]``: the face in matplotlib's photograph of Grace Hopper (US Navy, in the public domain)."""
    picture = as_tensor(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False), 3, "image")
    return F.avg_pool2d(picture[None, :, 80:272, 150:310], 8)


@all_images
def test_fits_a_photograph(family: str, photograph: torch.Tensor) -> None:
    image, (decibels, lr) = EVERY[family](1, (24, 20)), FITS.get(family, (30, 0.05))
    optimizer = torch.optim.Adam(image.parameters(), lr)
    for _ in range(300):
        optimizer.zero_grad()
        (image()[:, :3] - photograph).square().mean().backward()
        optimizer.step()
    assert -10 * (image()[:, :3] - photograph).square().mean().log10() > decibels


def test_fourier_starts_as_lucid_does() -> None:
    """Lucid's fft_image: sd 0.0185 at 128 px, 0.0196 at 224; the scale of DC is 128 * 128 (measured there)."""
    for size, sd, dc in ((128, 0.0185, 16384.0), (224, 0.0196, 50176.0)):
        image = fv.FourierImage(16, size, decorrelate=False)
        signal = torch.logit(image())
        assert signal.std().item() == pytest.approx(sd, rel=0.03)
        assert 4 * image.scale[0, 0].item() == pytest.approx(dc, rel=1e-4)
    pixel = torch.logit(fv.PixelImage(4, 64, decorrelate=False)())
    assert pixel.std().item() == pytest.approx(0.01, rel=0.02)


def test_the_colour_matrix_is_lucids() -> None:
    expected = torch.tensor([[0.5628, 0.1948, 0.0433], [0.5845, 0.0, -0.1082], [0.5845, -0.1948, 0.0649]])
    assert torch.allclose(color.correlation(), expected, atol=5e-5)
    signal = torch.randn(2, 3, 4, 4)
    back = color.to_signal(color.to_image(signal, color.correlation()), color.correlation())
    assert torch.allclose(back, signal, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image": torch.rand(4, 8, 8)}, r"expected \[3,H,W\]"),
        ({"image": torch.rand(3, 8, 8), "size": 9}, "leave size out"),
        ({"image": 255 * torch.rand(3, 8, 8)}, "divide bytes by 255"),
        ({"image": torch.full((3, 8, 8), float("nan"))}, "finite"),
        ({"size": 0}, "at least 1 pixel"),
    ],
)
def test_bad_input_is_explained(given: dict[str, Any], message: str) -> None:
    for make in (fv.FourierImage, fv.PixelImage, fv.PyramidImage):
        with pytest.raises(InvalidInput, match=message):
            make(2, **given)
