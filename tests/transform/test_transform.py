"""The laws of transforms: every test runs on all of them. kornia is the reference for the geometry."""

import kornia
import pytest
import torch
from torch import Tensor

from featureviz import Rng
from featureviz.errors import InvalidInput
from featureviz.transform import (
    Blur,
    ColorJitter,
    Crop,
    Flip,
    Homography,
    Jitter,
    Noise,
    NormalizeGradient,
    Pipeline,
    Roll,
    Rotate,
    Scale,
    Transform,
    Until,
    Warp,
    robust,
)
from featureviz.transform.sampling import functional
from tests.host_traffic import HostTraffic

SIZE = (20, 28)
TRANSFORMS: dict[str, Transform] = {
    "jitter": Jitter(8),
    "scale": Scale(0.8, 1.3),
    "rotate": Rotate(30),
    "flip": Flip(),
    "noise": Noise(0.1),
    "until": Until(Noise(0.1), 0.5),
    "crop": Crop(0.3, 0.7),
    "homography": Homography(0.3),
    "roll": Roll(),
    "blur": Blur(0.2, 2.0),
    "colour": ColorJitter(0.3, 0.2),
}
STILL = {
    "jitter": Jitter(0), "scale": Scale(1, 1), "rotate": Rotate(0), "flip": Flip(0), "noise": Noise(0),
    "until": Until(Noise(0), 0.5), "crop": Crop(1, 1), "homography": Homography(0), "blur": Blur(0, 0),
    "colour": ColorJitter(0, 0), "gradient": NormalizeGradient(),
}  # fmt: skip
each = pytest.mark.parametrize("name", TRANSFORMS)


def pictures(n: int = 3, size: tuple[int, int] = SIZE) -> Tensor:
    """Smooth images, so that different resamplings agree."""
    y, x = torch.meshgrid(torch.linspace(0, 5, size[0]), torch.linspace(0, 7, size[1]), indexing="ij")
    return (
        torch.stack([torch.stack([torch.sin(x + i), torch.cos(y * x / 3), torch.sin(x - y)]) for i in range(n)]) / 2
        + 0.5
    )


@pytest.mark.parametrize("name", STILL)
def test_identity_draw_is_identity(name: str) -> None:
    out = Pipeline([STILL[name]])(pictures(), Rng(0, 3), SIZE)
    assert torch.allclose(out, pictures(), atol=1e-5)


@each
def test_transform_is_deterministic_given_its_draw_and_keeps_the_size(name: str) -> None:
    t = TRANSFORMS[name]
    draw = t.draw(Rng(0, 3), SIZE)
    assert all(len(d) == 3 for d in draw)
    first, second = t.transform(pictures(), draw), t.transform(pictures(), draw)
    assert torch.equal(first, second)
    assert first.shape == pictures().shape
    other = t.transform(pictures(), t.draw(Rng(5, 3), SIZE))
    assert not torch.equal(first, other)


@each
def test_every_view_of_every_image_has_its_own_draw(name: str) -> None:
    same = pictures(1).expand(4, -1, -1, -1)
    views = Pipeline([TRANSFORMS[name]])(same, Rng(1, 4, views=5), SIZE)
    distinct = {v.numpy().tobytes() for v in views}
    assert len(distinct) == (2 if name == "flip" else 20)


@each
def test_gradients_flow(name: str) -> None:
    x = pictures().requires_grad_()
    (gradient,) = torch.autograd.grad(Pipeline([TRANSFORMS[name]])(x, Rng(0, 3, views=2), (24, 24)).square().sum(), x)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_a_fused_pipeline_is_the_product_of_its_matrices() -> None:
    stages = [Jitter(6), Scale(0.9, 1.1), Rotate(15), Flip(), Jitter(3)]
    fused = Pipeline(stages)(pictures(), Rng(2, 3), SIZE)
    rng = Rng(2, 3)
    matrices = [t.matrix(rng, SIZE) for t in stages]
    total = torch.linalg.multi_dot(tuple(m[1] for m in matrices))
    expected = functional.warp(pictures()[1:2], total[None], SIZE)
    assert torch.allclose(fused[1:2], expected, atol=1e-5)


def test_one_transform_in_two_places_draws_twice() -> None:
    jitter, noise = Jitter(8), Noise(0.1)
    twice = Pipeline([jitter, noise, jitter, noise])(pictures(), Rng(2, 3), SIZE)
    apart = Pipeline([Jitter(8), Noise(0.1), Jitter(8), Noise(0.1)])(pictures(), Rng(2, 3), SIZE)
    assert torch.equal(twice, apart)


def test_a_fused_pipeline_agrees_with_its_warps_one_by_one() -> None:
    """Order matters: the first transform acts on the image first."""
    smooth = pictures(3, (80, 112))
    stages: list[Warp] = [Jitter(16), Rotate(20), Scale(0.8, 1.25)]
    fused = Pipeline(stages)(smooth, Rng(2, 3), (80, 112))
    rng, stepwise = Rng(2, 3), smooth
    for t in stages:
        stepwise = t.transform(stepwise, t.draw(rng, (80, 112)))
    inside = (slice(None), slice(None), slice(24, -24), slice(32, -32))
    assert (fused[inside] - stepwise[inside]).abs().max() < 0.02  # five resamplings blur a little


@pytest.mark.parametrize("degrees", [0.0, 10.0, -35.0, 90.0])
def test_warp_is_kornias(degrees: float) -> None:
    """Rotation, scale and shift on a non-square image, against kornia's own matrix and resampling."""
    x, (h, w) = pictures(2), SIZE
    angle, zoom = torch.full((2,), degrees), torch.full((2,), 1.2)
    shift = torch.tensor([[3.0, -2.0], [0.0, 5.0]])
    centre = torch.tensor([[(w - 1) / 2, (h - 1) / 2]]).expand(2, -1)
    turn = kornia.geometry.get_rotation_matrix2d(centre, angle, zoom[:, None].expand(-1, 2))
    turn[:, :, 2] += shift
    expected = kornia.geometry.warp_affine(x, turn, SIZE, padding_mode="reflection", align_corners=False)
    # The matrix maps output to input: first undo the shift, then rotate and scale about the centre.
    ours = functional.scaling(zoom, zoom) @ functional.rotation(angle, SIZE)
    ours = ours @ functional.translation(-2 * shift[:, 0] / w, -2 * shift[:, 1] / h)
    assert (functional.warp(x, ours, SIZE) - expected).abs().max() < 1e-5


def test_perspective_is_kornias() -> None:
    x, (h, w) = pictures(2), SIZE
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) + 0.3 * torch.rand(2, 4, 2)
    pixels = (corners + 1) / 2 * torch.tensor([w, h]) - 0.5
    whole = torch.tensor([[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]]).expand(2, -1, -1)
    matrix = kornia.geometry.get_perspective_transform(pixels, whole)
    expected = kornia.geometry.warp_perspective(x, matrix, SIZE, padding_mode="reflection", align_corners=True)
    ours = functional.warp(x, functional.perspective(corners), SIZE, affine=False)
    inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))  # mirrored about other lines there
    assert (ours[inside] - expected[inside]).abs().max() < 1e-4


def test_a_crop_stays_inside_and_has_the_side_that_is_asked_for() -> None:
    matrix = Crop(0.2, 0.4).matrix(Rng(0, 64), SIZE)
    sides, centres = matrix[:, 0, 0], matrix[:, :2, 2]
    assert sides.min() >= 0.2
    assert sides.max() <= 0.4
    assert (centres.abs().amax(1) + sides <= 1 + 1e-6).all()
    assert (centres.abs().amax(1) + sides > 0.95).any()


def test_a_roll_only_moves_pixels_around() -> None:
    images = torch.rand(1, 3, 7, 9).expand(5, -1, -1, -1)
    rolled = Roll().transform(images, Roll().draw(Rng(3, 5), (7, 9)))
    for i, row in enumerate(rolled):
        assert any(torch.equal(row, images[i].roll((dy, dx), (1, 2))) for dy in range(7) for dx in range(9))


def test_blur_is_kornias() -> None:
    images, sigma = torch.rand(3, 3, 20, 28), torch.tensor([0.5, 1.0, 2.0])
    blurred = Blur(0.5, 2.0).transform(images, (sigma,))
    for image, s, own in zip(images, sigma.tolist(), blurred, strict=True):
        expected = kornia.filters.gaussian_blur2d(image[None], (13, 13), (s, s), border_type="replicate")[0]
        assert torch.allclose(own, expected, atol=1e-5)


def test_colours_vary_as_those_of_photographs_do() -> None:
    """A shift along the first axis changes brightness, along the others colour; a gain leaves grey where it is."""
    jitter, grey = ColorJitter(), torch.full((3, 3, 2, 2), 0.5)
    moved = jitter.transform(grey, (torch.ones(3, 3), 0.1 * torch.eye(3)))[:, :, 0, 0] - 0.5
    assert moved[0].std() < 0.01 * 3
    assert moved.norm(dim=1).tolist() == sorted(moved.norm(dim=1).tolist(), reverse=True)
    assert torch.allclose(jitter.transform(grey, (torch.rand(3, 3), torch.zeros(3, 3))), grey, atol=1e-6)


def test_a_normalised_gradient_has_length_one_for_each_view() -> None:
    images = pictures(3).requires_grad_()
    out = NormalizeGradient().transform(images, ())
    weights = torch.tensor([1e-6, 3.0, 0.0]).view(3, 1, 1, 1)
    (gradient,) = torch.autograd.grad((out * weights).sum(), images)
    assert torch.allclose(gradient.flatten(1).norm(dim=1), torch.tensor([1.0, 1.0, 0.0]))


def test_no_border_is_filled() -> None:
    """A white image stays white under the largest warps."""
    white = torch.ones(2, 3, 32, 32)
    out = Pipeline([Homography(0.4), Jitter(64), Scale(0.3, 0.5), Rotate(180)])(white, Rng(0, 2, views=16), (24, 24))
    assert torch.allclose(out, torch.ones_like(out))


def test_views_have_the_requested_size() -> None:
    for stages in ([], robust(), [Noise()]):
        assert Pipeline(stages)(pictures(), Rng(0, 3, views=2), (15, 33)).shape == (6, 3, 15, 33)
    assert torch.equal(Pipeline([])(pictures(), Rng(0, 3), SIZE), pictures())


def test_strong_shrinking_averages() -> None:
    """One-pixel stripes become grey at every phase, so no pixel is skipped."""
    stripes = (torch.arange(96) % 2).float().expand(1, 3, 96, 96)
    out = Pipeline([Jitter(4)])(stripes, Rng(0, 1, views=8), (24, 24))
    assert (out - 0.5).abs().max() < 1e-5


def test_pixelwise_transforms_do_not_break_the_fusion_and_barriers_do() -> None:
    count = 0

    class Barrier(Transform):
        def draw(self, rng: Rng, size: tuple[int, int]) -> tuple[Tensor, ...]:
            return (rng.uniform(),)

        def transform(self, images: Tensor, draw: tuple[Tensor, ...]) -> Tensor:
            return images

    original = functional.warp

    def counted(*args: object, **options: bool) -> Tensor:
        nonlocal count
        count += 1
        return original(*args, **options)  # pyright: ignore[reportArgumentType]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "warp", counted)
        Pipeline([Jitter(2), Noise(), Rotate(5), Scale(0.9, 1.1)])(pictures(), Rng(0, 3), SIZE)
        assert count == 1
        Pipeline([Jitter(2), Barrier(), Rotate(5)])(pictures(), Rng(0, 3), SIZE)
        assert count == 3


@pytest.mark.parametrize("inner", [Jitter(8), Noise(0.1), kornia.augmentation.RandomErasing(p=1.0)])
def test_a_transform_until_a_share_is_itself_before_and_absent_after(inner: torch.nn.Module) -> None:
    def views(stages: list[torch.nn.Module], done: float) -> Tensor:
        return Pipeline(stages)(pictures(), Rng(3, 3, views=2), SIZE, done)

    scheduled: list[torch.nn.Module] = [Rotate(9), Until(inner, 0.6), Noise(0.2)]
    with_it, without = views([Rotate(9), inner, Noise(0.2)], 0.0), views([Rotate(9), Noise(0.2)], 0.0)
    assert torch.equal(views(scheduled, 0.0), with_it)
    assert torch.equal(views(scheduled, 0.59), with_it)
    assert torch.equal(views(scheduled, 0.6), without)
    assert torch.equal(views(scheduled, 1.0), without)
    assert torch.equal(Pipeline(scheduled)(pictures(), Rng(3, 3, views=2), SIZE), with_it)
    assert torch.equal(views([Rotate(9), Until(inner, 0), Noise(0.2)], 0.0), without)
    nested: list[torch.nn.Module] = [Rotate(9), Until(Until(inner, 0.6), 0.8), Noise(0.2)]
    assert torch.equal(views(nested, 0.5), with_it)
    assert torch.equal(views(nested, 0.7), without)


def test_any_kornia_augmentation_is_a_transform() -> None:
    state = torch.get_rng_state()
    pipeline = Pipeline(
        [Jitter(4), kornia.augmentation.RandomErasing(p=1.0), kornia.augmentation.ColorJiggle(0.2, p=1.0)]
    )
    assert [t.capturable for t in pipeline.transforms] == [True, False, False]
    x = pictures(3).clamp(0, 1).requires_grad_()
    out = pipeline(x, Rng(0, 3, views=2), (24, 24))
    assert out.shape == (6, 3, 24, 24)
    alone = pipeline(x[2:], Rng(0, torch.tensor([2]), views=2), (24, 24))
    assert torch.allclose(out[4:], alone)
    assert not torch.equal(out[4], out[5])
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(InvalidInput, match="must keep the size"):
        Pipeline([kornia.augmentation.CenterCrop(8)])(x, Rng(0, 3), (24, 24))


@each
def test_transforms_stay_on_the_device(name: str) -> None:
    rng = Rng(0, 3, views=2)
    pipeline = Pipeline([TRANSFORMS[name], *robust()])
    with HostTraffic() as found:
        pipeline(pictures(), rng, (24, 24))
        rng.advance()
        pipeline(pictures(), rng, (24, 24))
    assert found == []


def test_host_traffic_is_detected() -> None:
    with HostTraffic() as found:
        Pipeline([kornia.augmentation.RandomAffine(10.0, p=1.0)])(pictures(), Rng(0, 3), SIZE)
    assert "tolist" in found


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_noise_is_normal_and_drawn_for_any_channels(channels: int) -> None:
    grey = torch.full((2, channels, 40, 50), 0.5)
    noise = Pipeline([Noise(0.1)])(grey, Rng(4, 2), (40, 50)) - 0.5
    assert torch.equal(noise, 0.1 * Rng(4, 2).normal((channels, 40, 50)) + grey - 0.5)
    assert abs(float(noise.std()) - 0.1) < 0.005
    assert abs(float(noise.mean())) < 0.005


def test_bad_ranges_are_explained() -> None:
    for make in (
        lambda: Jitter(-1),
        lambda: Scale(1.2, 0.8),
        lambda: Scale(0, 1),
        lambda: Rotate(-5),
        lambda: Flip(2),
        lambda: Noise(-1),
        lambda: Until(Noise(), 1.1),
        lambda: Until(torch.nn.ReLU(), 0.5),
        lambda: Crop(0.5, 0.4),
        lambda: Crop(0, 1),
        lambda: Crop(0.5, 2),
        lambda: Homography(0.5),
        lambda: Blur(2, 1),
        lambda: Blur(-1, 1),
        lambda: ColorJitter(-0.1),
    ):
        with pytest.raises(InvalidInput):
            make()
    with pytest.raises(InvalidInput, match=r"kornia\.augmentation"):
        Pipeline([torch.nn.ReLU()])
    assert repr(robust()[1]) == "Scale(0.9, 1.1)"
    assert repr(Until(Scale(0.9, 1.1), 0.75)) == "Until(Scale(0.9, 1.1), 0.75)"


# --------------------------------------------------------------------------------------------- what leaves the image
class Given(Warp):
    """A warp of the user's with a matrix of their own."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.given = torch.nn.Buffer(matrix)

    def matrix(self, rng: Rng, size: tuple[int, int]) -> Tensor:
        return self.given.expand(len(rng), -1, -1)


def with_entry(value: float) -> Tensor:
    matrix = torch.eye(3)
    matrix[0, 2] = value
    return matrix


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e38, -3e38, 1e12])
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 2)])
def test_a_matrix_that_leads_out_of_the_world_gives_nan_and_no_crash(value: float, place: tuple[int, int]) -> None:
    matrices = torch.eye(3).repeat(4, 1, 1)
    matrices[2][place] = value
    x = pictures(1).expand(4, -1, -1, -1).clone().requires_grad_()
    out = functional.warp(x, matrices, (24, 24))
    assert out[2].isnan().all()
    assert torch.equal(out[[0, 1, 3]], functional.warp(x[:3], torch.eye(3).repeat(3, 1, 1), (24, 24)))
    out[[0, 1, 3]].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    "stages",
    [[Given(with_entry(torch.inf))], [Jitter(4), Given(with_entry(torch.nan))], [Scale(1e-3, 1e-3)] * 20,
     [Scale(1e3, 1e3)] * 20, [Jitter(1e6)] * 2000],
)  # fmt: skip
def test_no_pipeline_reads_outside_of_the_image(stages: list[Transform]) -> None:
    out = Pipeline(stages)(pictures(), Rng(0, 3, views=2), (24, 24))
    assert (out.isnan() | (out.abs() <= 1.001)).all()
