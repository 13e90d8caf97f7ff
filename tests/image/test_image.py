"""The laws of image parameterizations: every test runs on all of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.image import color

Make = Callable[..., fv.Parameterization]
IMAGES: dict[str, Make] = {
    "fourier": fv.FourierImage,
    "fourier, raw colour": lambda *a, **k: fv.FourierImage(*a, decorrelate=False, **k),
    "pixel": fv.PixelImage,
    "pixel, raw colour": lambda *a, **k: fv.PixelImage(*a, decorrelate=False, **k),
}
all_images = pytest.mark.parametrize("make", IMAGES.values(), ids=IMAGES.keys())


@all_images
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (9, 6), (1, 5), (33, 32)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_range_shape_and_dtype(make: Make, size: tuple[int, int], channels: int) -> None:
    image = make(3, size, channels=channels)
    out = image()
    assert out.shape == (3, channels, *size)
    assert len(image) == 3
    assert out.dtype == torch.float32
    assert out.min() > 0
    assert out.max() < 1
    (gradient,) = torch.autograd.grad(out.square().sum(), list(image.parameters()))
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


@all_images
def test_the_seed_and_the_id_determine_an_image(make: Make) -> None:
    five, two = make(5, 16, seed=4)(), make(2, 16, seed=4)()
    assert torch.equal(five[:2], two)
    assert not torch.equal(five[0], five[1])
    assert not torch.equal(two, make(2, 16, seed=5)())


@all_images
def test_rows_are_independent(make: Make) -> None:
    image = make(3, 12)
    (gradient,) = torch.autograd.grad(image()[1].sum(), list(image.parameters()))
    assert gradient[1].abs().max() > 0
    assert gradient[[0, 2]].abs().max() == 0


@all_images
@pytest.mark.parametrize("size", [(24, 24), (17, 30), (31, 9)])
def test_a_starting_image_is_reproduced(make: Make, size: tuple[int, int]) -> None:
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    picture[0, :, 0], picture[1, :, -1] = 0.0, 1.0
    assert (make(2, image=picture)() - picture).abs().max() < 1e-3
    again = make(4, image=picture[0])()
    assert (again - picture[0]).abs().max() < 1e-3


@all_images
def test_gradcheck(make: Make) -> None:
    image = make(1, (4, 5)).double()
    (leaf,) = image.parameters()

    def decode(x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(image, {next(iter(dict(image.named_parameters()))): x}, ())

    assert torch.autograd.gradcheck(decode, leaf.detach().clone().requires_grad_())


@all_images
def test_fits_a_photograph(make: Make) -> None:
    """A parameterization reaches a smooth image with an edge in 300 steps."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 24), torch.linspace(0, 1, 20), indexing="ij")
    target = torch.stack([0.2 + 0.6 * x, 0.3 + 0.4 * y, torch.where(x > 0.5, 0.7, 0.25)])[None]
    image = make(1, (24, 20))
    optimizer = torch.optim.Adam(image.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (image() - target).square().mean()
        loss.backward()
        optimizer.step()
    assert (image() - target).square().mean() < 2e-3


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
    for make in (fv.FourierImage, fv.PixelImage):
        with pytest.raises(InvalidInput, match=message):
            make(2, **given)
