"""Tokens of vision transformers: each spec equals activations sliced by hand, and what is not there is explained."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer

import featureviz as fv
from featureviz.errors import InvalidInput, ModelError, SpecError
from featureviz.network.axes import Axes


class Clip(nn.Module):
    """The visual tower of CLIP in its usual form: convolution, class token first, transformer over [T,N,C]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 8, 8, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32)
        self.ln_post = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv1(x).flatten(2).permute(2, 0, 1)
        tokens = torch.cat([self.class_embedding.expand(1, len(x), 16), patches])
        return self.ln_post(self.block(tokens).permute(1, 0, 2)[:, 0])


class Case(NamedTuple):
    """A network of 24x32 or 32x32 images, a layer of it, how many prefix and class tokens it has, and its grid."""

    make: Callable[[], nn.Module]
    layer: str
    size: tuple[int, int]
    prefix: int
    classes: int
    grid: tuple[int, int]


def timm_vit(**options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.models.VisionTransformer(patch_size=8, embed_dim=24, depth=2, num_heads=2, **options)


CASES = {
    "torchvision": Case(
        lambda: VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=5), "encoder.layers.encoder_layer_0", (32, 32), 1, 1,
        (4, 4),
    ),
    "timm": Case(timm_vit(img_size=(24, 32)), "blocks.0", (24, 32), 1, 1, (3, 4)),
    "registers": Case(timm_vit(img_size=(24, 32), reg_tokens=4), "blocks.1", (24, 32), 5, 1, (3, 4)),
    "registers alone": Case(
        timm_vit(img_size=(24, 32), reg_tokens=2, class_token=False, global_pool="avg"), "blocks.1", (24, 32), 2, 0,
        (3, 4),
    ),
    "no prefix": Case(timm_vit(img_size=32, class_token=False, global_pool="avg"), "blocks.0", (32, 32), 0, 0, (4, 4)),
    "mixer": Case(
        lambda: timm.models.MlpMixer(img_size=32, patch_size=8, embed_dim=16, num_blocks=1), "blocks.0", (32, 32), 0, 0,
        (4, 4),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Case, fv.TappedModel, Tensor, Tensor]:
    torch.manual_seed(0)
    own = CASES[request.param]
    model = fv.wrap(own.make(), size=own.size)
    x = torch.rand(3, 3, *own.size)
    a = model(x, [own.layer])[own.layer]  # [M,T,C]
    assert a.shape[:2] == (3, own.prefix + own.grid[0] * own.grid[1])
    return own, model, x, a


def score(model: fv.TappedModel, spec: str, x: Tensor) -> Tensor:
    goal = fv.parse(spec)
    assert repr(goal) == spec
    return goal(model(x, goal.layers))


def test_tokens_equal_what_is_sliced_by_hand(case: tuple[Case, fv.TappedModel, Tensor, Tensor]) -> None:
    own, model, x, a = case
    name, patches = own.layer, a[:, own.prefix :]
    assert torch.allclose(score(model, f"{name}:5@patches", x), patches[:, :, 5].mean(1), atol=1e-6)
    assert torch.equal(score(model, f"{name}:5@max", x), a[:, :, 5].amax(1))
    assert torch.equal(score(model, f"{name}:5@token:2", x), a[:, 2, 5])
    y, w = own.grid[0] - 1, 2
    assert torch.equal(score(model, f"{name}:5@patch:{y},{w}", x), patches[:, y * own.grid[1] + w, 5])
    several = score(model, f"{name}:[5, 0, 9]@patch:0,1", x)
    assert torch.equal(several, patches[range(3), 1, [5, 0, 9]])
    for i in range(own.prefix - own.classes):
        assert torch.equal(score(model, f"{name}:5@reg:{i}", x), a[:, own.classes + i, 5])
    if own.classes:
        assert torch.equal(score(model, f"{name}:5@cls", x), a[:, 0, 5])
    with pytest.raises(InvalidInput, match=r"patch 99,0 is outside of .*, whose grid is"):
        score(model, f"{name}:5@patch:99,0", x)
    with pytest.raises(InvalidInput, match=r"registers"):
        score(model, f"{name}:5@reg:{own.prefix - own.classes}", x)
    if not own.classes:
        with pytest.raises(InvalidInput, match=r"has no class token, but \d \+ \dx\d tokens; use @patches"):
            score(model, f"{name}:5@cls", x)


def test_layers_show_their_tokens(case: tuple[Case, fv.TappedModel, Tensor, Tensor]) -> None:
    own, model, _, _ = case
    row = next(layer for layer in fv.layers(model) if layer.name == own.layer)
    assert f"{own.prefix} + {own.grid[0]}x{own.grid[1]} tokens" in str(row)


def test_a_clip_tower_with_tokens_first() -> None:
    torch.manual_seed(0)
    net = Clip()
    model, x = fv.wrap(net, size=(24, 32)), torch.rand(2, 3, 24, 32)
    a = model(x, ["block"])["block"]  # [T,N,C]
    assert a.shape == (13, 2, 16)
    tokens = fv.Activations({"block": a}, fv.Rows.make(2), axes={"block": fv.layers(model)[-2].axes})
    for spec, expected in (("@token:0", a[0]), ("@token:4", a[4])):
        assert torch.equal(fv.parse(f"block:3{spec}")(tokens), expected[:, 3])


def test_maps_have_patches_too() -> None:
    torch.manual_seed(0)
    swin = SwinTransformer([4, 4], 16, [1, 1], [2, 2], [2, 2], num_classes=5)
    model, x = fv.wrap(swin, size=32), torch.rand(2, 3, 32, 32)
    a = model(x, ["features.1"])["features.1"]  # [M,H,W,C]
    assert torch.equal(score(model, "features.1:3@patch:1,2", x), a[:, 1, 2, 3])
    assert torch.allclose(score(model, "features.1:3@patches", x), a[..., 3].mean((1, 2)))
    assert torch.equal(score(model, "features.1:3@max", x), a[..., 3].amax((1, 2)))
    with pytest.raises(InvalidInput, match="which has no tokens"):
        score(model, "features.1:3@cls", x)


def test_tokens_that_no_grid_explains_are_asked_for() -> None:
    acts = fv.Activations({"x": torch.rand(2, 7, 4)}, fv.Rows.make(2), axes={"x": Axes.parse("n t c")})
    for at in ("cls", "patches", "reg:0", "patch:0,0"):
        with pytest.raises(InvalidInput, match=r"does not tell which of them are patches; .*@token:0"):
            fv.parse(f"x:1@{at}")(acts)
    assert torch.equal(fv.parse("x:1@token:6")(acts), acts["x"][:, 6, 1])
    with pytest.raises(InvalidInput, match="7 tokens: 0 to 6"):
        fv.parse("x:1@token:7")(acts)


@pytest.mark.parametrize("text", ["a:1@", "a:1@class", "a:1@patch", "a:1@patch:3", "a:1@reg", "a:1@reg:x", "a:1@cls:2"])
def test_what_is_no_token_is_explained(text: str) -> None:
    with pytest.raises(SpecError, match=r"expected .*(@cls|numbers after @|the end)"):
        fv.parse(text)


def test_a_token_is_made_of_a_word_and_its_numbers() -> None:
    assert repr(fv.Token("a", [1, 2], "reg", 0).select([1])) == "a:2@reg:0"
    for arguments in (("cls", 1), ("patch", 1), ("patch", 1, -1), ("row",), (3,)):
        with pytest.raises(InvalidInput, match="expected"):
            fv.Token("a", 1, *arguments)  # pyright: ignore[reportArgumentType]


def heads_by_hand(attention: nn.Module, x: Tensor) -> Tensor:
    """``[M,T,E]``: what the heads of an attention give for tokens ``[M,T,E]``, from its weights."""
    own: Any = attention
    whole = isinstance(attention, nn.MultiheadAttention)
    weight, bias = (own.in_proj_weight, own.in_proj_bias) if whole else (own.qkv.weight, own.qkv.bias)
    q, k, v = (part.unflatten(2, (own.num_heads, -1)).transpose(1, 2) for part in (x @ weight.T + bias).chunk(3, 2))
    mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
    return mixed.transpose(1, 2).flatten(2)


HEADS = {
    "torchvision": ("encoder.layers.encoder_layer_0.self_attention", "encoder.layers.encoder_layer_0.ln_1"),
    "timm": ("blocks.0.attn", "blocks.0.norm1"),
    "registers": ("blocks.1.attn", "blocks.1.norm1"),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_equal_what_their_weights_give(name: str) -> None:
    torch.manual_seed(0)
    case, (attention, before) = CASES[name], HEADS[name]
    net = case.make().eval()
    model, x = fv.wrap(net, size=case.size), torch.rand(2, 3, *case.size)
    expected = heads_by_hand(net.get_submodule(attention), model(x, [before])[before])
    width = expected.shape[2] // 2
    for head in (0, 1):
        got = score(model, f"head:{attention}:{head}:3", x)
        assert torch.allclose(got, expected[:, :, head * width + 3].mean(1), atol=1e-5)
    both = score(model, f"head:{attention}:1:[3, 0]", x)
    assert torch.allclose(both, expected[range(2), :, [width + 3, width]].mean(1), atol=1e-5)
    plain = model(x, ["output"])["output"]
    assert torch.allclose(model(x, [f"head:{attention}", "output"])["output"], plain, atol=1e-6)
    made = fv.render(model, f"head:{attention}:1:3", size=case.size, steps=16, progress=False)
    assert made.scores[-1, 0] > made.scores[0, 0]
    for wrong, message in ((f"head:{attention}:2:0", "has 2 heads of"), (f"head:{attention}:0:99", "has 2 heads of")):
        with pytest.raises(InvalidInput, match=message):
            score(model, wrong, x)
    with pytest.raises(ModelError, match="no number of heads"):
        score(model, f"head:{before}:0:0", x)


def test_heads_of_a_clip_tower_with_tokens_first() -> None:
    torch.manual_seed(0)
    net = Clip().eval()
    model, x = fv.wrap(net, size=(24, 32)), torch.rand(2, 3, 24, 32)
    tokens = torch.cat([net.class_embedding.expand(2, 1, 16), net.conv1(x).flatten(2).mT], 1)
    expected = heads_by_hand(net.block.self_attn, tokens)
    assert torch.allclose(score(model, "head:block.self_attn:1:3", x), expected[:, :, 11].mean(1), atol=1e-5)


def test_a_projection_that_is_no_module_is_explained() -> None:
    torch.manual_seed(0)
    swin = fv.wrap(SwinTransformer([4, 4], 16, [1, 1], [2, 2], [2, 2], num_classes=5), size=32)
    with pytest.raises(ModelError, match="does not run as a module"):
        score(swin, "head:features.1.0.attn:0:0", torch.rand(1, 3, 32, 32))
    for text in ("head:a:1", "head:a:1:", "head:a:x:1", "head:a"):
        with pytest.raises(SpecError, match="expected"):
            fv.parse(text)


@pytest.mark.parametrize("name", ["head", "sae"])
def test_a_layer_may_have_the_name_of_a_kind(name: str) -> None:
    for spec, expected in ((f"{name}:1", fv.Channel(name, 1)), (f"2*{name}:[0:3]", 2 * fv.Channel(name, [0, 1, 2]))):
        assert repr(fv.parse(spec)) == repr(expected)
        assert repr(fv.parse(repr(expected))) == repr(expected)
