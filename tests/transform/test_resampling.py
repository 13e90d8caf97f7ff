"""Views choose how much the image is averaged: none skips pixels, and none is blurred that need not be."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featureviz import Rng
from featureviz.transform import Jitter, Pipeline, Rotate, Scale, Warp
from featureviz.transform.sampling import functional
from featureviz.transform.sampling.resampling import equalise, halve, resample
from tests.host_traffic import HostTraffic


def stripes(size: int, period: int) -> Tensor:
    return ((torch.arange(size) // (period // 2)) % 2).float().expand(1, 3, size, size)


def zooms(*factors: float) -> Tensor:
    factor = torch.tensor(factors)
    return functional.scaling(factor, factor)


class Zoom(Warp):
    """A warp of the user's, which says nothing of its span."""

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        return zooms(5.0).expand(len(rng), -1, -1)


def test_a_crop_of_a_large_canvas_keeps_its_detail() -> None:
    """A fifth of 512 px seen at 96 px: stripes of four pixels have the contrast of direct sampling, 0.412."""
    crop = Pipeline([Zoom(), Jitter(8)])(stripes(512, 4), Rng(0, 1, views=3), (96, 96))
    assert crop.flatten(1).std(1).min() > 0.35
    whole = Pipeline([Jitter(8), Scale(0.9, 1.1)])(stripes(512, 4), Rng(0, 1, views=3), (96, 96))
    assert whole.flatten(1).std(1).max() < 0.01


@pytest.mark.parametrize("factor", [1.0, 2.0, 4.0, 7.0, 16.0])
@pytest.mark.parametrize("size", [(64, 64), (97, 130)])
def test_a_view_reads_the_copy_that_it_needs(factor: float, size: tuple[int, int]) -> None:
    images, small = torch.rand(1, 3, *size), (12, 16)
    shown = resample(images, zooms(factor), small)
    equal = equalise(images, small)
    ratio = max(equal.shape[-2] / 12, equal.shape[-1] / 16) / factor
    level = next(j for j in range(9) if ratio / 2**j < 1.998)
    assert torch.allclose(shown, functional.warp(halve(equal, level), zooms(factor), small), atol=2e-5)


def test_no_pixel_is_skipped_and_no_border_filled() -> None:
    """Stripes of one pixel are grey in each view that shows less than half of their detail; white stays white."""
    matrices = zooms(0.1, 0.3, 0.5, 1.0, 1.5, -1.0) @ functional.rotation(torch.linspace(0, 90, 6), (96, 96))
    views = resample(stripes(96, 2), matrices, (24, 24), (0.0, 10.0), views=6)
    assert (views - 0.5).abs().max() < 0.02
    moved = matrices @ functional.translation(torch.linspace(-3, 9, 6), torch.linspace(5, -1, 6))
    assert torch.allclose(resample(torch.ones(1, 3, 97, 50), moved, (24, 24), (0.0, 10.0), views=6), torch.tensor(1.0))


def test_views_do_not_depend_on_each_other() -> None:
    images, rng = torch.rand(3, 3, 130, 97), Rng(5, 3, views=4)
    pipeline = Pipeline([Scale(0.4, 6.0), Rotate(40), Jitter(30)])
    together = pipeline(images, rng, (20, 24))
    for i in range(3):
        assert torch.equal(pipeline(images[i : i + 1], Rng(5, [i], views=4), (20, 24)), together[4 * i : 4 * i + 4])


def test_gradients_flow_to_every_pixel_of_a_large_image() -> None:
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    matrices = zooms(1.0, 4.0, 0.9, 2.2).double()
    (gradient,) = torch.autograd.grad(resample(images, matrices, (8, 8), views=2).sum(), images)
    assert (gradient != 0).all()
    small = F.avg_pool2d(images[:1, :1], 4).detach().requires_grad_()  # quicker
    assert torch.autograd.gradcheck(lambda x: resample(x, matrices[:2], (5, 4), (0.2, 1.0), views=2), small)


def test_what_chooses_stays_on_the_device() -> None:
    images, rng, pipeline = torch.rand(2, 3, 130, 97), Rng(5, 2, views=4), Pipeline([Scale(0.4, 6.0), Rotate(40)])
    with HostTraffic() as found:
        pipeline(images, rng, (20, 24))
    assert found == []
