"""Which axis is what: a channel is a channel, whatever the layout of a layer is."""

from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig

import featureviz as fv
from featureviz.errors import InvalidInput, ModelError
from featureviz.network.axes import Axes
from objectives_zoo import Diversity, sparse_channel

# In these networks every number of channels is a multiple of 11, and no number of positions is.
C = 11


class Plain(nn.Module):
    """Any steps in a row, where a step is a module or a function."""

    def __init__(self, *steps: nn.Module | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.steps = steps
        for i, step in enumerate(steps):
            if isinstance(step, nn.Module):
                self.add_module(str(i), step)

    def forward(self, x: Tensor) -> Tensor:
        for i, step in enumerate(self.steps):
            x = self.get_submodule(str(i))(x) if isinstance(step, nn.Module) else step(x)
        return x


def sequence_first() -> nn.Module:
    """As CLIP's transformer: ``[T,M,C]`` inside."""
    layer = nn.TransformerEncoderLayer(2 * C, 2, 4 * C, dropout=0.0)
    return Plain(
        nn.Conv2d(3, 2 * C, 4, 4), lambda x: x.flatten(2).permute(2, 0, 1), layer, nn.LayerNorm(2 * C),
        lambda x: x.mean(0), nn.Linear(2 * C, C),
    )  # fmt: skip


def volumes() -> nn.Module:
    return Plain(
        lambda x: x[:, :, None].expand(-1, -1, 4, -1, -1), nn.Conv3d(3, C, 3, padding=1), nn.ReLU(), nn.AvgPool3d(2),
        nn.Conv3d(C, 2 * C, 1), nn.Flatten(2), nn.Identity(),
    )  # fmt: skip


def signals() -> nn.Module:
    return Plain(
        lambda x: x.flatten(2), nn.Conv1d(3, C, 5, 4), nn.ReLU(), nn.Conv1d(C, 2 * C, 3), nn.BatchNorm1d(2 * C),
        lambda x: x.transpose(1, 2), nn.Linear(2 * C, 3 * C), nn.GELU(), nn.Dropout(),
    )  # fmt: skip


def windows() -> nn.Module:
    """Windows of an image in the batch axis, in the order of the images."""

    def split(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)

    return Plain(nn.Conv2d(3, C, 4, 4), split, nn.Linear(C, 2 * C), nn.LayerNorm(2 * C))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "swin": (
        partial(
            torchvision.models.SwinTransformer, [4, 4], 2 * C, [1, 2], [2, 2], [4, 4], num_classes=C,
            stochastic_depth_prob=0.0,
        ), 32,
    ),
    "convnext": (partial(torchvision.models.ConvNeXt, [CNBlockConfig(C, 2 * C, 1), CNBlockConfig(2 * C, None, 1)]), 32),
    "vit": (partial(torchvision.models.VisionTransformer, 32, 8, 2, 2, 2 * C, 4 * C, num_classes=C), 32),
    "maxvit": (partial(torchvision.models.MaxVit, (56, 56), C, 7, [C, 2 * C], [1, 1], C, 0.0, num_classes=C), 56),
    "timm swin": (
        partial(
            timm.models.SwinTransformer, img_size=32, patch_size=2, window_size=4, embed_dim=2 * C, depths=(1, 2),
            num_heads=(2, 2), num_classes=C,
        ), 32,
    ),
    "timm convnext": (
        partial(timm.models.ConvNeXt, depths=(1, 1, 1, 1), dims=(C, 2 * C, 3 * C, 4 * C), num_classes=C), 64,
    ),
    "timm vit": (
        partial(timm.models.VisionTransformer, 32, 8, embed_dim=2 * C, depth=2, num_heads=2, num_classes=C), 32,
    ),
    "sequence first": (sequence_first, 32),
    "volumes": (volumes, 16),
    "signals": (signals, 16),
    "windows": (windows, 32),
}  # fmt: skip


def by_hand(a: Tensor, images: int) -> Tensor | None:
    """``[M,C,P]`` by the number of channels alone; None where it does not tell."""
    axes = [k for k in range(a.ndim) if a.shape[k] % C == 0]
    if len(axes) != 1:
        return None
    batch = next(k for k in range(a.ndim) if k != axes[0] and a.shape[k] % images == 0)
    a = a.movedim((batch, axes[0]), (0, 1))
    a = a.reshape(images, -1, *a.shape[1:]).movedim(2, 1) if len(a) != images else a
    return a.reshape(images, a.shape[1], -1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_channel_is_the_mean_of_a_channel_in_every_layer(name: str) -> None:
    make, size = NETWORKS[name]
    model = fv.wrap(make().eval(), size=size)
    layers = [row for row in fv.layers(model) if row.axes.channel is not None and row.calls == 1]
    activations = model(torch.rand(3, 3, size, size), [row.name for row in layers])
    told = 0
    for row in layers:
        expected = by_hand(activations[row.name], 3)
        if expected is None:
            continue
        told += 1
        assert row.units == expected.shape[1], row
        unit = row.units - 2
        assert torch.allclose(fv.Channel(row.name, unit)(activations), expected[:, unit].mean(1), atol=1e-6), row
        own = fv.PerImage([fv.Channel(row.name, u) for u in (1, 0, unit)])(activations)
        assert torch.allclose(own, torch.stack([expected[i, u].mean() for i, u in enumerate((1, 0, unit))]), atol=1e-6)
        along = fv.Direction(row.name, torch.eye(row.units)[unit])(activations)
        assert torch.allclose(along, expected[:, unit].mean(1), atol=1e-6), row
    assert told >= 2 * len(layers) / 3


def test_objectives_of_the_zoo_use_the_axes() -> None:
    layers = {"n c h w": torch.rand(4, 5, 6, 7)}
    layers["n h w c"] = layers["n c h w"].permute(0, 2, 3, 1)
    layers["h n c w"] = layers["n c h w"].permute(2, 0, 1, 3)
    a = fv.Activations(layers, fv.Rows.make(2, views=2), axes={name: Axes.parse(name) for name in layers})
    for make in (Diversity, partial(sparse_channel, unit=3), fv.DeepDream, partial(fv.Neuron, unit=2, y=1, x=3)):
        first, *others = (make(name)(a) for name in layers)
        assert all(torch.allclose(first, other, atol=1e-6) for other in others)


def test_windows_that_belong_to_no_image_are_refused() -> None:
    """Their rows are in the order of the windows: those of one image are not together."""

    def split(x: Tensor) -> Tensor:
        return torch.cat([x[..., :4, :], x[..., 4:, :]]).flatten(2).transpose(1, 2)

    model = fv.wrap(Plain(nn.Conv2d(3, C, 4, 4), split, nn.Linear(C, C)), size=32)
    with pytest.raises(ModelError, match=r"'2'.* rows are not in the order of the views.* wrap\(net, axes="):
        fv.render(model, "2:1", steps=1, size=32, progress=False)
    assert model(torch.rand(2, 3, 32, 32), ["2"])["2"].shape == (4, 32, C)  # it can be looked at


@pytest.mark.parametrize("spec", ["1:3", "1:3@1,1", "direction:1:[0, 0, 0, 1, 0, 0, 0, 0]"])
def test_what_cannot_be_told_is_asked_for(spec: str) -> None:
    """A layer of its own class gives 8 positions and 8 channels, at one size only."""

    class Turn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(-1, 8, 8, 8).movedim(1, 3)

    net = Plain(nn.Conv2d(3, 8, 4, 4), Turn(), nn.Flatten(), nn.Linear(512, 2))
    with pytest.raises(ModelError, match=r"wrap\(net, axes={'1': 'n h w c'}\)"):
        fv.render(fv.wrap(net, size=32), spec, steps=1, size=32, progress=False)
    model = fv.wrap(net, size=32, axes={"1": "n h w c"})
    a = model(torch.rand(2, 3, 32, 32), ["1"])
    expected = a["1"][:, 1, 1, 3] if "@" in spec else a["1"][..., 3].mean((1, 2))
    assert torch.allclose(fv.parse(spec)(a), expected)


@pytest.mark.parametrize("text", ["", "c h w", "n n c", "n c c", "(a b) c", "n-c", "(n a b) c", 3, None])
def test_wrong_axes_are_named(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected a letter for each axis"):
        Axes.parse(text)


def test_axes_of_a_layer_that_does_not_exist() -> None:
    with pytest.raises(fv.FeaturevizError, match="nearest: 'conv'"):
        fv.wrap(nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3)}), axes={"con": "n c h w"})


def test_wrong_numbers_of_axes_are_named() -> None:
    model = fv.wrap(nn.Sequential(nn.Conv2d(3, 4, 3)), size=8, axes={"0": "n t c"})
    with pytest.raises(ModelError, match=r"'0' gives \[1, 4, 6, 6\]; its axes are n p c, for 3 dimensions"):
        fv.render(model, "0:1", steps=1, size=8, progress=False)
