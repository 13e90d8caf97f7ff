"""What one family of images alone does: MACO's amplitudes, tiles, CPPNs of any size, masks, balls, shared parts."""

from collections.abc import Callable

import pytest
import torch

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.image.frequencies.template import natural_amplitude
from featureviz.image.pixels import cppn
from tests.image.test_image import FROM_NOISE


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
    """The energy of pixels: every corner of 32 px, 0.39 % of the area, has less than 1 % in every image.

    That of the signal fluctuates more, by 0.22 % and up to 2 % at any place: it has no mean, and half of it lies in
    waves of more than 200 px. Only its mean over images shows a place that is special.
    """
    image = fv.MacoImage(8, 512)
    pixels, signal = (values.detach().square().sum(1) for values in (image(), image.signal()))  # [N,H,W]
    for dy, dx in ((0, 0), (16, 16), (32, 0), (0, 32), (32, 32)):  # the corner in the place of the origin, wrapped
        in_pixels, in_signal = (
            energy.roll((dy, dx), (1, 2))[:, :32, :32].sum((1, 2)) / energy.sum((1, 2)) for energy in (pixels, signal)
        )
        assert in_pixels.max() < 0.01
        assert in_signal.mean() < 0.01


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


def test_a_large_cppn_is_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pixels and gradients, while the hidden values are not kept."""
    image, kept = fv.CPPNImage(2, (37, 50), sd=0.2), list[int]()
    weights = torch.rand(2, 3, 37, 50)

    def count(values: torch.Tensor) -> torch.Tensor:
        kept[-1] += values.numel()
        return values

    def gradients() -> tuple[torch.Tensor, ...]:
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda values: values):
            images = image()
        return images.detach(), *torch.autograd.grad((images * weights).sum(), list(image.parameters()))

    whole = gradients()
    monkeypatch.setattr(cppn, "PART", 300)
    for one, other in zip(whole, gradients(), strict=True):
        assert (one - other).abs().max() <= 1e-6 * one.abs().max()
    assert kept[1] < kept[0] / 20


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
