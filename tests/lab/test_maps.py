"""Pictures of activations, gated maps and gate weights, and the numbers that they show."""

import pytest
import torch
from torch import nn
from torchvision.models import convnext_tiny
from torchvision.ops import SqueezeExcitation

import featureviz as fv
from featureviz.lab import (
    activation_grid,
    channel_maps,
    colormap,
    draw_sheet,
    gate_jacobian,
    gate_weights,
    gated_maps,
    overlay,
    save_picture,
)
from featureviz.lab.draw.colors import DIVERGING, limits
from featureviz.lab.draw.sheet import ColorBar, enlarge
from featureviz.lab.inputs import fit_image
from featureviz.nn import CBAM, SEModule
from tests.conftest import TinySE


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def squeezes(model: fv.TappedModel, site: str, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(images, [f"pregate:{site}"])[f"pregate:{site}"].mean((2, 3))


def cells(picture: torch.Tensor, like: torch.Tensor) -> list[tuple[int, int]]:
    """Where ``like`` lies in ``picture``: sampled pixels first, then every pixel."""
    _, h, w = like.shape
    rows, columns = picture.shape[1] - h + 1, picture.shape[2] - w + 1
    fits = torch.ones(rows, columns, dtype=torch.bool)
    for y in range(0, h, max(1, h // 8)):
        for x in range(0, w, max(1, w // 8)):
            fits &= (picture[:, y : y + rows, x : x + columns] - like[:, y, x, None, None]).abs().amax(0) < 3e-3
    found = [(y, x) for y, x in fits.nonzero().tolist()]
    return [(y, x) for y, x in found if (picture[:, y : y + h, x : x + w] - like).abs().max() < 3e-3]


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(1))


# -------------------------------------------------------------------------------------------------------- colours
def test_colormap_gives_low_and_high_the_ends_and_clips_beyond():
    values = torch.tensor([[-5.0, 0.0, 1.0, 9.0]])
    colours = colormap(values, 0.0, 1.0)
    ends = colormap(torch.tensor([[0.0, 1.0]]))
    assert torch.equal(colours[:, 0, [0, 1]], ends[:, 0, [0, 0]])
    assert torch.equal(colours[:, 0, [2, 3]], ends[:, 0, [1, 1]])
    assert colormap(torch.rand(4, 5, 6)).shape == (4, 3, 5, 6)


def test_luminance_of_viridis_follows_the_values():
    values = torch.randperm(81, generator=torch.Generator().manual_seed(0)).view(9, 9)
    luminance = torch.tensor([0.2126, 0.7152, 0.0722]) @ colormap(values).flatten(1)
    assert torch.equal(luminance.argsort(), values.flatten().argsort())


def test_diverging_is_white_at_zero_and_red_above():
    r, _, b = colormap(torch.tensor([[-1.0, 0.0, 0.5]]), name=DIVERGING)[:, 0]
    assert b[0] > r[0]
    assert r[1] == b[1] > 0.95
    assert r[2] > b[2]


def test_constant_map_has_one_colour_zero_white():
    assert colormap(torch.zeros(2, 2), name=DIVERGING).min() > 0.95
    assert len(colormap(torch.full((3, 3), 7.0)).flatten(1).unique(dim=1).T) == 1


def test_limits_leave_out_the_most_extreme():
    values = torch.cat([torch.linspace(0, 1, 999), torch.tensor([100.0])])
    assert limits(values) == (0, 100)
    assert limits(values, share=0.99)[1] <= 1
    assert limits(torch.eye(300), name=DIVERGING, share=0.995) == (-1, 1)  # zeros do not count


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: colormap(torch.rand(2, 3, 4, 5)), r"\[H,W\] or \[N,H,W\]"),
        (lambda: colormap(torch.tensor([[float("nan"), 1.0]])), "1 of 2 values"),
        (lambda: colormap(torch.rand(2, 2), 1.0, 0.0), "low <= high"),
        (lambda: colormap(torch.rand(2, 2), name="virdis"), "nearest: 'viridis'"),
        (lambda: overlay(torch.rand(3, 4, 4), torch.rand(2, 2), alpha=2), "alpha=2"),
        (lambda: draw_sheet([]), "no panels"),
    ],
)
def test_wrong_input_of_pictures_is_named(call, says):
    with pytest.raises(fv.FeaturevizError, match=says):
        call()


def test_overlay_blends_and_enlarges():
    picture, spot = torch.rand(3, 16, 16), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert torch.allclose(overlay(picture, spot, alpha=0.0), picture)
    assert overlay(picture, spot, alpha=1.0)[0, 0, 0] > overlay(picture, spot, alpha=1.0)[2, 0, 0]  # turbo ends in red


def test_a_sheet_holds_every_panel_unchanged():
    bytes_ = [torch.randint(0, 256, (3, 20 + i, 30)) / 255 for i in range(3)]
    sheet = draw_sheet([(f"panel {i}", b) for i, b in enumerate(bytes_)], 2, title="all", bars=[ColorBar("v", 0, 1)])
    for panel in bytes_:
        assert len(cells(sheet, panel)) == 1
    assert sheet[:, 0].min() == 1  # the margin
    assert torch.equal(enlarge(bytes_[0], 60)[:, ::2, ::2], bytes_[0])


def test_saved_picture_is_read_back(tmp_path):
    from PIL import Image

    picture = torch.randint(0, 256, (3, 5, 7)) / 255
    with Image.open(save_picture(picture, tmp_path / "new" / "a.png")) as saved:
        assert saved.size == (7, 5)
        assert saved.getpixel((6, 0)) == tuple((picture[:, 0, 6] * 255).round().int().tolist())


# ----------------------------------------------------------------------------------------------------- activations
def test_fit_image_crops_the_centre_and_resizes():
    model = fv.wrap(TinySE(), size=24)
    wide = torch.zeros(3, 48, 96)
    wide[:, :, 24:72] = 1
    assert torch.equal(fit_image(model, wide), torch.ones(1, 3, 24, 24))
    assert fit_image(fv.wrap(TinySE(), size=(20, 40)), wide).shape == (1, 3, 20, 40)


def test_maps_are_the_layers_activations(tiny, image):
    before = hooks(tiny)
    assert torch.equal(channel_maps(tiny, "conv", image), tiny(image[None], ["conv"])["conv"][0])
    assert torch.equal(channel_maps(tiny, "head", image)[:, 0, 0], tiny(image[None], ["head"])["head"][0])
    assert hooks(tiny) == before == 0


class Layouts(nn.Module):
    """The same 6 maps of 4 x 4 as NCHW, NHWC, tokens after a class token, and channels before tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 6, 6)
        self.last, self.tokens, self.turned = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.conv(x)
        self.last(a.permute(0, 2, 3, 1))
        tokens = a.flatten(2)
        self.tokens(torch.cat([torch.full((len(x), 1, 6), 99.0), tokens.movedim(1, 2)], 1))
        return self.turned(tokens)


def test_every_layout_gives_the_same_maps(image):
    model = fv.wrap(Layouts(), size=24)
    expected = channel_maps(model, "conv", image)
    assert expected.shape == (6, 4, 4)
    assert torch.equal(channel_maps(model, "last", image), expected)
    assert torch.equal(channel_maps(model, "tokens", image), expected)
    assert torch.equal(channel_maps(model, "turned", image), expected)


def test_convnext_layers_of_both_layouts():
    torch.manual_seed(0)
    model = fv.wrap(convnext_tiny(weights=None), size=64)
    photo = torch.rand(3, 80, 64)
    assert channel_maps(model, "features.0.0", photo).shape == (96, 16, 16)
    assert channel_maps(model, "features.3.0.block.2", photo).shape == (192, 8, 8)  # a LayerNorm: channels last
    assert channel_maps(model, "features.7.2.block.0", photo).shape == (768, 2, 2)


def test_grid_shows_each_channel_in_its_place(tiny, image):
    picture = activation_grid(tiny, "conv", image, 6, columns=4)
    maps = channel_maps(tiny, "conv", image)
    size = 60  # 12 px, enlarged by the whole number nearest to 56
    places = [cells(picture, enlarge(colormap(m), size)) for m in maps[:6]]
    assert all(len(place) == 1 for place in places)
    ys, xs = zip(*[place[0] for place in places], strict=True)
    assert [y == ys[0] for y in ys] == [True] * 4 + [False] * 2
    assert xs[4:] == xs[:2]
    assert list(xs[:4]) == sorted(xs[:4])
    assert not cells(picture, enlarge(colormap(maps[6]), size))


def test_shared_scale_compares_channels(tiny, image):
    maps = channel_maps(tiny, "conv", image)
    shared = colormap(maps, *limits(maps, share=0.995))
    picture = activation_grid(tiny, "conv", image, scale="shared")
    assert all(len(cells(picture, enlarge(m, 60))) == 1 for m in shared)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"scale": "log"}, "'each' or 'shared'"),
        ({"channels": 0}, "at least 1"),
        ({"layer": "con"}, "nearest: 'conv'"),
        ({"image": torch.rand(1, 24, 24)}, r"\[3,H,W\]"),
        ({"image": torch.full((3, 24, 24), 255.0)}, "divide bytes by 255"),
    ],
)
def test_wrong_input_of_grids_is_named(tiny, image, how, says):
    with pytest.raises(fv.FeaturevizError, match=says):
        activation_grid(tiny, **{"layer": "conv", "image": image, **how})


# ------------------------------------------------------------------------------------------------------ gated maps
def test_output_is_input_times_gate(tiny, image):
    maps = gated_maps(tiny, "se", image)
    assert torch.allclose(maps.y, maps.x * maps.gate[:, None, None], atol=1e-5)
    assert torch.allclose(maps.difference, maps.y - maps.x)
    assert hooks(tiny) == 0
    changed = (maps.y - maps.x).abs().sum((1, 2))
    assert maps.order == changed.argsort(descending=True).tolist()
    assert maps.picture(4).shape[0] == 3


def test_picture_shows_input_output_and_difference_of_the_listed(tiny, image):
    maps = gated_maps(tiny, "se", image)
    picture = maps.picture([3])
    x, y = maps.x[3], maps.y[3]
    both = torch.stack([x, y])
    side = maps.x.shape[-1] * 7  # 12 px to 84
    for coloured in [*colormap(both), colormap(y - x, *limits(both, name=DIVERGING), DIVERGING)]:
        assert len(cells(picture, enlarge(coloured, side))) == 1
    with pytest.raises(fv.FeaturevizError, match="it has 8"):
        maps.picture([8])


def test_spatial_gates_too(image):
    torch.manual_seed(0)
    model = fv.wrap(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), CBAM(8, 4), nn.Conv2d(8, 4, 3)), size=24)
    maps = gated_maps(model, "2.spatial", image)
    assert maps.gate.shape == (12, 12)
    assert torch.allclose(maps.y, maps.x * maps.gate, atol=1e-5)
    assert maps.picture(2).shape[0] == 3
    with pytest.raises(fv.FeaturevizError, match="no layer that reads the mean"):
        gate_weights(model, "2.channel")
    with pytest.raises(fv.FeaturevizError, match="not a function of its channels' means"):
        gate_jacobian(model, "2.spatial", torch.rand(8))


# -------------------------------------------------------------------------------------------------------- weights
def test_weights_are_the_modules_own(net, tiny):
    weights = gate_weights(tiny, "se")
    assert (weights.fc1, weights.fc2) == ("se.fc1", "se.fc2")
    assert torch.equal(weights.w1, net.se.fc1.weight.flatten(1))
    assert torch.equal(weights.b2, net.se.fc2.bias)
    assert weights.picture().shape[0] == 3
    assert hooks(tiny) == 0


class Normed(nn.Module):
    """Batch norm after both layers, no biases, a leaky activation."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.bn1 = nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.act = nn.LeakyReLU(0.3, inplace=True)
        self.fc2, self.bn2 = nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8, affine=False)
        self.gate = nn.Sigmoid()
        for bn in (self.bn1, self.bn2):
            bn.running_mean.normal_(), bn.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.bn1.weight), nn.init.normal_(self.bn1.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.bn2(self.fc2(self.act(self.bn1(self.fc1(x.mean((2, 3), keepdim=True)))))))


def stack(block: nn.Module) -> fv.TappedModel:
    return fv.wrap(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), block, nn.Conv2d(8, 4, 3)), size=24)


def test_batch_norm_is_folded_and_no_bias_is_zero(image):
    torch.manual_seed(0)
    model = stack(Normed())
    w = gate_weights(model, "2")
    s = squeezes(model, "2", image[None])
    z = nn.functional.leaky_relu(s @ w.w1.T + w.b1, 0.3) @ w.w2.T + w.b2
    assert torch.allclose(z, model(image[None], ["gate:2"])["gate:2"], atol=1e-5)
    plain = gate_weights(stack(SEModule(8, 2, bias=False)), "2")
    assert plain.b1.tolist() == [0] * 4
    assert plain.b2.tolist() == [0] * 8


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.gate = nn.Linear(8, 8), nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.fc(x.mean((2, 3))))[:, :, None, None]


class Bare(nn.Module):
    """A function instead of a module between its two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.gate = nn.Linear(8, 4), nn.Linear(4, 8), nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.fc2(self.fc1(x.mean((2, 3))).sin()))[:, :, None, None]


def test_blocks_of_other_kinds():
    torch.manual_seed(0)
    one = OneLayer()
    model = stack(one)
    with pytest.raises(fv.FeaturevizError, match="1 fully connected"):
        gate_weights(model, "2")
    assert torch.allclose(gate_jacobian(model, "2", torch.rand(8)).jacobian, one.fc.weight)
    bare = stack(Bare())
    w, s = gate_weights(bare, "2"), torch.rand(8)
    slope = w.w2 @ torch.diag((w.w1 @ s + w.b1).cos()) @ w.w1
    assert torch.allclose(gate_jacobian(bare, "2", s).jacobian, slope, atol=1e-6)
    with pytest.raises(fv.FeaturevizError, match="no gate '3'"):
        gate_weights(bare, "3")


@pytest.mark.parametrize("block", [Normed, lambda: SqueezeExcitation(8, 4, activation=nn.SiLU), lambda: SEModule(8, 2)])
def test_gate_jacobian_equals_finite_differences(block):
    torch.manual_seed(0)
    module = block().eval()
    s = 2 * torch.rand(8)
    path = gate_jacobian(stack(module), "2", s)

    def logits(squeeze: torch.Tensor) -> torch.Tensor:  # the block itself, on maps that are constant
        taken = []
        gate = getattr(module, "gate", None) or module.scale_activation
        handle = gate.register_forward_pre_hook(lambda _m, args: taken.append(args[0].flatten(1)))
        module.double()(squeeze[:, :, None, None].expand(-1, -1, 2, 2))
        handle.remove()
        return taken[0]

    step = 1e-5 * torch.eye(8, dtype=torch.float64)
    with torch.no_grad():
        slope = (logits(s.double() + step) - logits(s.double() - step)).T / 2e-5
    assert torch.allclose(path.jacobian.double(), slope, atol=1e-5)
    assert path.jacobian.abs().max() > 1e-3


def test_drivers_open_and_close_in_order(tiny, image):
    images = torch.stack([image, image.flip(0), image * 0.3])
    seen = squeezes(tiny, "se", images)
    path = gate_jacobian(tiny, "se", seen.mean(0), seen.std(0))
    assert torch.allclose(path.squeeze, seen.mean(0))
    assert torch.allclose(path.strength, path.jacobian * seen.std(0))
    opening, closing = path.drivers(2, k=8)
    assert len(opening) == int((path.strength[2] > 0).sum())
    assert len(closing) == int((path.strength[2] < 0).sum())
    for pairs in (opening, closing):
        assert [abs(v) for _, v in pairs] == sorted((abs(v) for _, v in pairs), reverse=True)
        assert all(v == path.strength[2, i] for i, v in pairs)
    assert len(path.drivers(2, k=1)[0]) <= 1
    with pytest.raises(fv.FeaturevizError, match="unit 8 of"):
        path.drivers(8)


def test_jacobian_picture_in_both_orders(tiny, image):
    path = gate_jacobian(tiny, "se", squeezes(tiny, "se", image[None])[0])
    scale = limits(path.jacobian, name=DIVERGING, share=0.995)
    assert len(cells(path.picture("natural"), enlarge(colormap(path.jacobian, *scale, DIVERGING), 560))) == 1
    assert not torch.equal(path.picture("modes"), path.picture("natural"))
    with pytest.raises(fv.FeaturevizError, match="'modes' or 'natural'"):
        path.picture("size")
    with pytest.raises(fv.FeaturevizError, match=r"expected \[8\]"):
        gate_jacobian(tiny, "se", torch.rand(7))
