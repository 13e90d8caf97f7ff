"""The laws of image parameterizations: every test runs on all of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.image import color
from featureviz.image.base import check_images
from featureviz.image.frequencies.template import natural_amplitude
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
    return fv.MaskedImage(*args, image=image, mask=torch.ones_like(image[..., :1, :, :]), sd=0.01, **options)


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
COLOURED = {"maco": (3,), "alpha": (1, 3)}  # how many channels they can have, if not any
LEAST = {"maco": 8}
STARTED = {
    name: make
    for name, make in FROM_NOISE.items()
    if name.split(",")[0] in ("fourier", "pixel", "pyramid", "pyramid of six levels")
}
all_images = pytest.mark.parametrize("family", FROM_NOISE)


@all_images
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (9, 6), (1, 5), (33, 32)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_range_shape_and_dtype(family: str, size: tuple[int, int], channels: int) -> None:
    make = FROM_NOISE[family]
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
    image = FROM_NOISE[family](2, 16)
    weights = torch.rand(image().shape, generator=torch.Generator().manual_seed(3))
    for gradient in torch.autograd.grad((image() * weights).sum(), list(image.parameters())):
        assert gradient.abs().max() > 0


@all_images
def test_the_seed_and_the_id_determine_an_image(family: str) -> None:
    make = FROM_NOISE[family]
    five, two = make(5, 16, seed=4)(), make(2, 16, seed=4)()
    assert torch.equal(five[:2], two)
    assert not torch.equal(five[0], five[1])
    assert not torch.equal(two, make(2, 16, seed=5)())
    assert torch.equal(make(2, 16, seed=4, image_ids=[3, 1])(), five[[3, 1]])
    assert make is fv.SharedImage or torch.equal(make(1, 16, seed=4, image_ids=[3])(), five[3:4])


@all_images
def test_rows_are_independent(family: str) -> None:
    image = FROM_NOISE[family](3, 12)
    gradients = torch.autograd.grad(image()[1].sum(), list(image.parameters()))
    for leaf, gradient in zip(image.parameters(), gradients, strict=True):
        assert image.across_batch or len(leaf) == 3
        if len(leaf) == 3:
            assert gradient[[0, 2]].abs().max() == 0


@all_images
def test_some_images_of_a_batch_are_a_batch(family: str) -> None:
    """What several devices share: rows of leaves, and of the buffers that have rows."""
    make = FROM_NOISE[family]
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
    image = FROM_NOISE[family](1, (8, 9) if family in LEAST else (4, 5)).double()
    names = [name for name, _ in image.named_parameters()]
    if family == "cppn":
        names = names[-3:]  # quicker

    def decode(*leaves: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(image, dict(zip(names, leaves, strict=True)), ())

    leaves = [image.get_parameter(name).detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(decode, leaves, fast_mode=True)


FITS = {  # the least PSNR in dB after 300 steps, where it is not 30, and the learning rate where it is not 0.05
    "cppn": (20, 0.005), "maco": (8, 0.5), "grey": (12, 0.05), "grey pixels": (12, 0.05), "ball": (9, 0.05),
    "ball of length": (6, 0.05),
}  # fmt: skip


@all_images
def test_fits_a_photograph(family: str) -> None:
    """A parameterization reaches a smooth image with an edge."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 24), torch.linspace(0, 1, 20), indexing="ij")
    target = torch.stack([0.2 + 0.6 * x, 0.3 + 0.4 * y, torch.where(x > 0.5, 0.7, 0.25)])[None]
    image, (decibels, lr) = FROM_NOISE[family](1, (24, 20)), FITS.get(family, (30, 0.05))
    optimizer = torch.optim.Adam(image.parameters(), lr)
    start = (image()[:, :3] - target).square().mean()
    for _ in range(300):
        optimizer.zero_grad()
        loss = (image()[:, :3] - target).square().mean()
        loss.backward()
        optimizer.step()
    end = (image()[:, :3] - target).square().mean()
    assert end < start
    assert -10 * end.log10() > decibels


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


# ------------------------------------------------------------------------------------------ what one family alone does
def test_maco_keeps_the_amplitudes_of_photographs() -> None:
    """After 50 steps of NAdam they are the template's, in the columns too that hold pairs of frequencies."""
    for size in ((64, 64), (45, 64), (64, 45)):
        image = fv.MacoImage(2, size)
        optimizer, goal = torch.optim.NAdam(image.parameters(), lr=1.0), torch.rand(2, 3, *size)
        for _ in range(50):
            optimizer.zero_grad()
            (image() - goal).square().sum().backward()
            optimizer.step()
        found, wanted = torch.fft.rfft2(image.signal()).abs(), natural_amplitude(*size)
        assert torch.allclose(found, wanted.expand_as(found), rtol=1e-4, atol=1e-3)  # of amplitudes from 5 to 800


def test_maco_starts_without_a_bright_corner() -> None:
    """No place is special: of 0.4 % of the area, each corner has less than 1 % of the energy in a mean image."""
    energy = fv.MacoImage(8, 512).signal().square().sum(1)  # [N,H,W]
    for dy, dx in ((0, 0), (16, 16), (32, 0), (0, 32), (32, 32)):  # the corner in the place of the origin, wrapped
        corner = energy.roll((dy, dx), (1, 2))[:, :32, :32].sum((1, 2))
        assert (corner / energy.sum((1, 2))).mean() < 0.01


@pytest.mark.parametrize("family", ["fourier", "maco"])
def test_images_of_frequencies_are_tiles(family: str) -> None:
    """The step over the edge is like any other, in both directions: the image wraps."""
    image = FROM_NOISE[family](4, (40, 56))()
    for axis in (2, 3):
        steps = (image - image.roll(1, axis)).abs().mean((0, 1, 5 - axis))
        assert steps[0] < 1.5 * steps.mean()
    wrapped = image.roll((9, 30), (2, 3))
    assert torch.allclose(wrapped.roll((-9, -30), (2, 3)), image)


def test_a_cppn_draws_the_same_image_at_any_size() -> None:
    image = fv.CPPNImage(2, 24, sd=0.2)
    small, large = image(), image.draw((70, 70))
    assert torch.allclose(small, large[:, :, ::3, ::3], atol=1e-5)
    wide = image.draw((24, 48))
    assert wide.shape == (2, 3, 24, 48)


def test_what_is_outside_of_the_mask_stays() -> None:
    mask = torch.zeros(16, 20)
    mask[4:9, 3:12] = 1
    picture = torch.rand(3, 16, 20)
    image = fv.MaskedImage(2, image=picture, mask=mask.numpy())
    for leaf in image.parameters():
        leaf.data += 0.3
    assert torch.equal(image()[:, :, mask == 0], picture[:, mask == 0].expand(2, -1, -1))
    assert (image()[:, :, mask == 1] != picture[:, mask == 1]).all()


@pytest.mark.parametrize(("norm", "radius"), [("inf", 0.05), ("2", 1.5)])
def test_a_ball_is_never_left(norm: str, radius: float) -> None:
    picture = torch.rand(2, 3, 16, 20)
    image = fv.BallImage(image=picture, radius=radius, norm=norm)
    (leaf,) = image.parameters()
    for scale in (0.0, 0.1, 10.0, 1e4):
        leaf.data = scale * torch.randn(leaf.shape)
        length = (image() - picture).flatten(1).norm(p=float(norm), dim=1)
        assert (length <= radius * (1 + 1e-5)).all()


def test_shared_images_share_their_coarse_parts() -> None:
    image = fv.SharedImage(3, 32)
    image.spectrum.data.zero_()
    assert torch.equal(image()[0], image()[2])
    assert image()[0].std() > 0
    assert not torch.equal(image()[0], fv.SharedImage(3, 32, seed=1)()[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fv.MaskedImage(image=torch.rand(3, 8, 8), mask=torch.ones(1, 9, 8)), r"a picture of 8x8; expected"),
        (lambda: fv.MaskedImage(image=torch.rand(3, 8, 8), mask=torch.zeros(1, 8, 8)), "no pixel moves"),
        (lambda: fv.MaskedImage(2, image=torch.rand(3, 3, 8, 8), mask=torch.ones(1, 8, 8)), "one, or one each"),
        (lambda: fv.BallImage(size=9, image=torch.rand(3, 8, 8)), "leave size out"),
        (lambda: fv.BallImage(image=torch.rand(3, 8, 8), norm="1"), "'inf' or '2'"),
        (lambda: fv.BallImage(image=torch.rand(3, 8, 8), radius=0), "radius"),
        (lambda: fv.AlphaImage(1, 16, channels=6), "expected 1 or 3"),
        (lambda: fv.AlphaImage(image=torch.rand(3, 8, 8)), r"expected \[4,H,W\]"),
        (lambda: fv.PyramidImage(1, 16, levels=0), "levels=0"),
        (lambda: fv.SharedImage(1, 16, factors=[0]), "factors"),
    ],
)
def test_what_a_family_cannot_do_is_explained(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()
