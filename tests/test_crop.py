"""A crop gives the activations and the gradients of the whole view, or there is no crop."""

import kornia
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large

import featureviz as fv
from featureviz.crop import Box, Crop, cropped, field
from featureviz.errors import InvalidInput
from featureviz.objective import Objective
from featureviz.transform import Flip, Jitter, Noise, Pipeline, Rotate, robust
from tests.host_traffic import HostTraffic


def conv(inputs: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, 8, kernel, stride, padding, dilation), nn.ReLU())


class Same(nn.Module):
    """TensorFlow's padding, as EfficientNet's ports have it: how much stands left depends on the size."""

    def forward(self, x: Tensor) -> Tensor:
        down, across = (max((-(-n // 2) - 1) * 2 + 3 - n, 0) for n in x.shape[-2:])
        return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))


NETS = {
    "padded": lambda: nn.Sequential(conv(3, 3, 2, padding=1), conv(8, 3, 2, padding=1), conv(8, 3, 2, padding=1)),
    "valid": lambda: nn.Sequential(conv(3, 3, 2), conv(8, 3, 2), conv(8, 3)),
    "dilated": lambda: nn.Sequential(conv(3, 3, 2, padding=1), conv(8, 3, padding=3, dilation=3)),
    "pooled": lambda: nn.Sequential(conv(3, 5, 2, padding=2), nn.MaxPool2d(3, 2, 1), conv(8, 3, padding=1)),
    "pool rounded up": lambda: nn.Sequential(conv(3, 3), nn.MaxPool2d(3, 2, ceil_mode=True), conv(8, 3, padding=1)),
    "even kernels": lambda: nn.Sequential(conv(3, 2, 2), nn.AvgPool2d(2), conv(8, 4, padding=2)),
    "stride 3": lambda: nn.Sequential(conv(3, 3, 3), conv(8, 3, padding=1)),
    "tensorflow": lambda: nn.Sequential(Same(), conv(3, 3, 2), Same(), conv(8, 3, 2)),
    "mirrored": lambda: nn.Sequential(conv(3, 3, 2, padding=1), nn.ReflectionPad2d(1), conv(8, 3)),
}
FIELDS = {
    "padded": 15, "valid": 15, "dilated": 15, "pooled": 17, "pool rounded up": 9, "even kernels": 16, "stride 3": 9,
    "tensorflow": 7, "mirrored": 7,
}  # fmt: skip


def wrapped(name: str) -> fv.TappedModel:
    torch.manual_seed(1)
    return fv.wrap(NETS[name](), mean=0.4, std=0.3)


def last(model: fv.TappedModel) -> str:
    """The last convolution: no ReLU is behind it, so no neuron of it is dead."""
    return f"{len(list(model.net.children())) - 1}.0"


def smooth(n: int, size: tuple[int, int]) -> Tensor:
    """Images whose views are not all rounding of where they were read."""
    coarse = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    return F.interpolate(coarse, size, mode="bicubic").clamp(0, 1)


def climbed(
    model: fv.TappedModel, objective: Objective, images: Tensor, views: int, size: tuple[int, int], crop: Crop | None
) -> tuple[Tensor, Tensor]:
    """Scores and the gradient in the images, under the default pipeline."""
    images = images.clone().requires_grad_()
    pipeline, rng, rows = Pipeline(robust()), fv.Rng(3, len(images), views), fv.Rows.of(len(images), views)
    seen = pipeline(images, rng, size) if crop is None else crop.views(pipeline, images, rng)
    scores = objective(model(seen, objective.layers, rows))
    return scores.detach(), torch.autograd.grad(scores.sum(), images)[0]


def assert_exact(model: fv.TappedModel, objective: Objective, size: tuple[int, int]) -> Crop:
    crop = cropped(model, objective, size)
    assert crop is not None
    assert crop.box.pixels <= 0.75 * size[0] * size[1]
    images = smooth(objective.n, (size[0] + 3, size[1] - 5))
    scores, slope = climbed(model, objective, images, 3, size, None)
    its_scores, its_slope = climbed(model, crop.objective, images, 3, size, crop)
    assert scores.std() > 0
    torch.testing.assert_close(its_scores, scores, rtol=1e-4, atol=1e-5 * float(scores.abs().max()))
    torch.testing.assert_close(its_slope, slope, rtol=1e-3, atol=1e-4 * float(slope.abs().max()))
    return crop


def test_the_field_of_a_3x3_convolution_is_3x3_around_its_position_and_ends_at_the_border() -> None:
    model = fv.wrap(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)))
    assert field(model, "0", 5, 9, (12, 20)) == Box(4, 7, 8, 11)
    assert field(model, "0", None, None, (12, 20)) == Box(5, 8, 9, 12)
    assert field(model, "0", 0, 19, (12, 20)) == Box(0, 2, 18, 20)
    assert field(model, "1", 2, 3, (12, 20)) == Box(2, 7, 4, 9)
    assert field(model, "input", 2, 3, (12, 20)) == Box(2, 3, 3, 4)


def test_channels_that_cancel_each_other_have_a_field() -> None:
    class Opposites(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, -x], 1)

    model = fv.wrap(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Opposites()))
    assert field(model, "1", 5, 9, (12, 20)) == Box(4, 7, 8, 11)


@pytest.mark.parametrize("size", [(64, 64), (61, 75)], ids=str)
@pytest.mark.parametrize("name", NETS)
def test_a_crop_is_exact_and_as_small_as_the_strides_allow(name: str, size: tuple[int, int]) -> None:
    model = wrapped(name)
    layer = last(model)
    assert field(model, layer, None, None, size).size == (FIELDS[name], FIELDS[name])
    crop = assert_exact(model, fv.Neuron(layer, 2), size)
    assert max(crop.box.size) < FIELDS[name] + 2 * 8


@pytest.mark.parametrize("name", ["padded", "pooled", "valid", "mirrored", "tensorflow"])
def test_at_a_corner_the_box_ends_with_the_picture(name: str) -> None:
    model, size = wrapped(name), (49, 64)
    layer = last(model)
    height, width = model(torch.zeros(1, 3, *size), [layer])[layer].shape[2:]
    crop = assert_exact(model, fv.Neuron(layer, [1, 2, 3], 0, width - 1), size)
    assert crop.box.top == 0
    assert name == "valid" or crop.box.right == 64
    crop = assert_exact(model, fv.Neuron(layer, 1, height - 1, 0), size)
    assert (crop.box.left, name == "valid" or crop.box.bottom == 49) == (0, True)


def test_one_box_holds_the_fields_of_neurons_of_several_layers() -> None:
    model = wrapped("padded")
    mixed = 2 * fv.Neuron("2", 1) - fv.Neuron("0", 3, 14, 20) * fv.Neuron("1", [0, 5, 6], 8, 9) + 1
    crop = assert_exact(model, mixed, (64, 64))
    for layer, y, x in (("2", None, None), ("0", 14, 20), ("1", 8, 9)):
        reached = field(model, layer, y, x, (64, 64))
        assert crop.box | reached == crop.box
    assert (crop.box.top % 8, crop.box.left % 8) == (0, 0)
    assert_exact(model, fv.PerImage([fv.Neuron("2", 1, 3, 3), -fv.Neuron("1", 4, 6, 7)]), (64, 64))


def test_the_objective_given_stays_as_it_was_and_errors_still_speak_of_it() -> None:
    neuron = fv.Neuron("2", 1)
    crop = cropped(wrapped("padded"), neuron, (64, 64))
    assert crop is not None
    assert (neuron.y, neuron.x) == (None, None)
    assert crop.objective.spec == neuron.spec == "2:1@centre"


def test_early_layers_of_the_embedded_network_are_cropped_up_to_the_first_gate(embedded: fv.TappedModel) -> None:
    crop = assert_exact(embedded, fv.Neuron("features.0", [3, 4]), (96, 96))
    assert crop.box.size == (4, 4)
    assert assert_exact(embedded, fv.Neuron("features.1.block.1", 7), (96, 96)).box.size == (8, 8)
    assert assert_exact(embedded, fv.Neuron("content:features.1.block.2", 7, 0, 0), (96, 96)).box.top == 0
    for layer in ("gated:features.1.block.2", "features.1", "features.3"):
        assert field(embedded, layer, None, None, (96, 96)) == Box(0, 96, 0, 96)
        assert cropped(embedded, fv.Neuron(layer, 0), (96, 96)) is None


def test_early_layers_of_mobilenet_v3_large() -> None:
    torch.manual_seed(0)
    model = fv.wrap(mobilenet_v3_large(), size=96)
    fields = {"features.1": 7, "features.2": 11, "features.3": 19, "features.4.block.1": 35}
    for layer, expected in fields.items():
        assert field(model, layer, None, None, (96, 96)).size == (expected, expected)
    assert_exact(model, fv.Neuron("features.3", 5) + fv.Neuron("features.1", 2), (96, 96))
    assert_exact(model, fv.Neuron("features.2", 5, 0, 3), (96, 96))
    assert cropped(model, fv.Neuron("features.4", 0), (96, 96)) is None  # behind its first gate


PIPELINES = {
    "default": robust(),
    "flip": [Flip(1.0), Jitter(3)],
    "none": [],
    "noise": [Jitter(4), Noise(0.1)],
    "barrier": [Rotate(9), kornia.augmentation.RandomGaussianBlur((3, 3), (0.5, 2.0), p=1.0), Jitter(4)],
}


@pytest.mark.parametrize("image", [(40, 56), (64, 64), (200, 150)], ids=["enlarged", "as it is", "shrunk"])
@pytest.mark.parametrize("name", PIPELINES)
def test_views_of_a_crop_are_the_whole_views_inside_its_box(name: str, image: tuple[int, int]) -> None:
    crop = cropped(wrapped("padded"), fv.Neuron("2", 1, 0, 5), (64, 64))
    assert crop is not None
    pipeline, images = Pipeline(PIPELINES[name]), torch.rand(2, 3, *image)
    ours, theirs = fv.Rng(4, 2, views=3), fv.Rng(4, 2, views=3)
    views, whole = crop.views(pipeline, images, ours), pipeline(images, theirs, (64, 64))
    torch.testing.assert_close(views, crop.box.cut(whole), rtol=0, atol=1e-5)
    assert torch.equal(ours.uniform(), theirs.uniform())  # both have drawn the same numbers


def test_views_of_a_crop_do_not_touch_the_host() -> None:
    crop = cropped(wrapped("padded"), fv.Neuron("2", 1), (64, 64))
    assert crop is not None
    images, rng = torch.rand(2, 3, 48, 48), fv.Rng(0, 2, views=2)
    with HostTraffic() as found:
        crop.views(Pipeline(robust()), images, rng)
    assert found == []


def test_redirected_gradients_are_the_same_in_a_crop() -> None:
    dead = nn.Conv2d(8, 8, 3, padding=1)
    model = fv.wrap(nn.Sequential(conv(3, 3, 2, padding=1), dead, nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)))
    crop = cropped(model, fv.Neuron("3", 1), (64, 64))
    assert crop is not None
    assert dead.bias is not None
    nn.init.constant_(dead.bias, -100.0)  # weights are shared: now the second ReLU is dead everywhere
    images = torch.rand(1, 3, 64, 64)
    assert not climbed(model, fv.Neuron("3", 1), images, 1, (64, 64), None)[1].any()
    with fv.redirected(model):
        _, slope = climbed(model, -fv.Neuron("3", 1), images, 1, (64, 64), None)
        _, its = climbed(model, -crop.objective, images, 1, (64, 64), crop)
    assert slope.any()
    torch.testing.assert_close(its, slope, rtol=1e-3, atol=1e-4 * float(slope.abs().max()))


class Told(nn.Module):
    """A local convolution and something that a crop would change although no gradient shows it."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.conv, self.what = nn.Conv2d(3, 4, 3, padding=1), what

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.what == "positions":
            return y + torch.linspace(0, 1, y.shape[-1])
        if self.what == "a constant of the whole":
            return y * y.detach().mean((2, 3), keepdim=True)
        if self.what == "its size" and x.shape[-1] != 32:
            raise ValueError("this network wants 32 pixels")
        return y * 0 if self.what == "nothing" else F.group_norm(y, 2) if self.what == "groups" else y


@pytest.mark.parametrize("what", ["positions", "a constant of the whole", "its size", "nothing", "groups"])
def test_no_crop_of_a_network_that_is_not_local(what: str) -> None:
    model = fv.wrap(nn.Sequential(Told(what), nn.Conv2d(4, 4, 1)))
    assert cropped(model, fv.Neuron("1", 1), (32, 32)) is None


def test_no_crop_without_profit_or_for_anything_but_neurons(tiny: fv.TappedModel) -> None:
    neuron = fv.Neuron("stem", 1)
    assert cropped(tiny, neuron, (24, 24)) is not None
    for other in (fv.Channel("stem", 1), fv.DeepDream("stem"), fv.Logit(1), fv.Neuron("conv", 1)):
        assert cropped(tiny, neuron + other, (24, 24)) is None
        assert cropped(tiny, fv.PerImage([neuron, other * neuron]), (24, 24)) is None
    corners = fv.PerImage([fv.Neuron("stem", 1, 0, 0), fv.Neuron("stem", 1, 11, 11)])
    assert cropped(tiny, corners, (24, 24)) is None
    assert cropped(tiny, neuron, (4, 4)) is None
    assert cropped(tiny, fv.sum([]), (24, 24)) is None


def test_no_crop_while_an_intervention_holds_the_network(embedded: fv.TappedModel) -> None:
    with fv.swap(embedded, "features.1.block.2", [1, 0]):
        assert cropped(embedded, fv.Neuron("features.0", 1), (96, 96)) is None


def test_a_position_that_is_not_there_is_the_objectives_own_error(tiny: fv.TappedModel) -> None:
    enabled = torch.backends.cudnn.enabled
    for neuron in (fv.Neuron("stem", 1, 12, 0), fv.Neuron("head", 1)):
        with pytest.raises(InvalidInput, match=r"outside of 'stem'|no positions"):
            cropped(tiny, neuron, (24, 24))
    with pytest.raises(InvalidInput, match="expected both"):
        field(tiny, "stem", 3, None, (24, 24))
    assert torch.backends.cudnn.enabled == enabled
    assert all(p.grad is None for p in tiny.parameters())


def test_it_works_where_gradients_are_off() -> None:
    with torch.no_grad():
        assert cropped(wrapped("padded"), fv.Neuron("2", 1), (64, 64)) is not None
