"""The attention blocks against torchvision, timm and a reference by hand, on all kinds of input; and their demo."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.ops import SqueezeExcitation

import featureviz as fv
from featureviz.errors import InvalidInput
from featureviz.nn import CBAM, ChannelAttention, SEModule, SpatialAttention


@pytest.mark.parametrize("spatial", [(), (7,), (5, 4), (3, 4, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_se_equals_torchvisions_for_any_number_of_dimensions(spatial: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    mine, theirs = SEModule(12, 5, bias=bias), SqueezeExcitation(12, 2, scale_activation=nn.Sigmoid)
    assert mine.fc1.out_features == 2
    nothing = {"fc1.bias": torch.zeros(2), "fc2.bias": torch.zeros(12)}
    own = nothing | mine.state_dict()
    theirs.load_state_dict({n: w[..., None, None] if w.ndim == 2 else w for n, w in own.items()})
    x = torch.randn(3, 12, *spatial)
    y = mine(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y, theirs(x.reshape(3, 12, -1, 1)).view_as(x))


def test_cbam_equals_timms() -> None:
    timm = pytest.importorskip("timm.layers.cbam")
    torch.manual_seed(0)
    mine, theirs = CBAM(32, 8, 5, bias=False), timm.CbamModule(32, 1 / 8, spatial_kernel_size=5).eval()
    with torch.no_grad():
        theirs.channel.fc1.weight.copy_(mine.channel.fc1.weight[..., None, None])
        theirs.channel.fc2.weight.copy_(mine.channel.fc2.weight[..., None, None])
        theirs.spatial.conv.conv.weight.copy_(mine.spatial.conv.weight)
        theirs.spatial.conv.bn.running_var.fill_(1 - theirs.spatial.conv.bn.eps)  # so that it does nothing
    x = torch.randn(2, 32, 9, 6)
    torch.testing.assert_close(mine(x), theirs(x))


def test_cbam_equals_a_reference_by_hand() -> None:
    torch.manual_seed(0)
    block, x = CBAM(6, 2, 3), torch.randn(2, 6, 5, 7)
    channel, spatial = block.channel, block.spatial

    def mlp(s: torch.Tensor) -> torch.Tensor:
        return (s @ channel.fc1.weight.T + channel.fc1.bias).relu() @ channel.fc2.weight.T + channel.fc2.bias

    logits = mlp(x.mean((2, 3))) + mlp(x.amax((2, 3)))
    after = x * torch.sigmoid(logits)[:, :, None, None]
    torch.testing.assert_close(channel(x), after)
    around = nn.functional.pad(torch.stack([after.mean(1), after.amax(1)], 1), (1, 1, 1, 1))
    windows = around.unfold(2, 3, 1).unfold(3, 3, 1)  # [N,2,H,W,3,3]
    position = torch.sigmoid(torch.einsum("nchwij,cij->nhw", windows, spatial.conv.weight[0]))
    torch.testing.assert_close(block(x), after * position[:, None])


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (SEModule(4, 2), (2, 4)),
        (SEModule(4, 2), (2, 4, 3, 2)),
        (ChannelAttention(4, 2), (2, 4, 5)),
        (SpatialAttention(3), (1, 3, 3, 4)),
        (CBAM(4, 2, 3), (1, 4, 3, 3)),
    ],
    ids=["SE 0-D", "SE 2-D", "channel 1-D", "spatial", "CBAM"],
)
def test_gradients(block: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    block = block.double()
    names, weights = zip(*block.named_parameters(), strict=True)

    def run(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *weights))


def test_channel_gates_are_invariant_to_permuted_positions() -> None:
    torch.manual_seed(0)
    x, order = torch.randn(2, 8, 30), torch.randperm(30)
    for block in (SEModule(8, 2), ChannelAttention(8, 2)):
        torch.testing.assert_close(block(x[..., order]), block(x)[..., order])
        torch.testing.assert_close(block(x.view(2, 8, 5, 6)).flatten(2), block(x))


def test_spatial_gates_are_invariant_to_permuted_channels() -> None:
    torch.manual_seed(0)
    block, x, order = SpatialAttention(), torch.randn(2, 8, 9, 9), torch.randperm(8)
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order])


@pytest.mark.parametrize("block", [SEModule(8, 4), ChannelAttention(8, 4), SpatialAttention(5)])
def test_each_gate_is_a_module_and_each_step_can_be_hooked(block: nn.Module) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.attention = nn.Conv2d(3, 8, 3), block

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(self.stem(x))

    model = fv.wrap(Net(), size=12)
    steps = [row for row in fv.layers(model) if row.name.startswith("attention.")]
    assert all(row.calls == 1 for row in steps)
    assert steps[-1].name == "attention.gate"
    a = model(torch.rand(2, 3, 12, 12), ["stem", "attention", *(row.name for row in steps)])
    logits, gate = a[steps[-2].name], a["attention.gate"]
    logits = logits.sum(1) if isinstance(block, ChannelAttention) else logits  # of the mean and of the maximum
    torch.testing.assert_close(logits.sigmoid(), gate)
    torch.testing.assert_close(a["attention"], a["stem"] * gate.view(2, *gate.shape[1:], *[1] * (4 - gate.ndim)))


def test_empty_batches_and_narrow_bottlenecks() -> None:
    assert SEModule(3)(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)
    assert CBAM(3)(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)
    assert SEModule(3).fc1.out_features == ChannelAttention(3).fc1.out_features == 1
    assert (SEModule(64, 16).in_channels, SEModule(64, 8).reduction) == (64, 8)


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "8", None])
def test_sizes_must_be_whole_and_positive(wrong: object) -> None:
    for make in (
        lambda v: SEModule(v),
        lambda v: SEModule(8, v),
        lambda v: ChannelAttention(8, v),
        lambda v: SpatialAttention(v),
        lambda v: CBAM(8, 4, v),
    ):
        with pytest.raises(InvalidInput, match=f"={wrong!r} was given; expected a whole number"):
            make(wrong)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_kernels_are_odd_and_wider_than_a_position(size: int) -> None:
    with pytest.raises(InvalidInput, match=f"kernel_size={size} was given; expected an odd number of at least 3"):
        SpatialAttention(size)


@pytest.mark.parametrize(
    ("block", "shape", "remedy"),
    [
        (SEModule(8), (2, 4, 4, 8), r"in_channels=4, or, if the channels are last, give x.movedim"),
        (ChannelAttention(8), (2, 7), "in_channels=7"),
        (CBAM(8), (2, 7, 4, 4), "in_channels=7"),
        (SEModule(8), (8,), r"expected \[N,8,\*spatial\].*x\[None\]"),
        (SEModule(8), (2, 8, 0), "no spatial dimension of size zero"),
        (SpatialAttention(), (8, 9, 9), r"expected \[N,C,H,W\].*x\[None\]"),
        (SpatialAttention(), (2, 0, 9, 9), "none of C, H and W zero"),
        (CBAM(8), (2, 8, 9), r"expected \[N,C,H,W\]"),
    ],
)
def test_inputs_must_fit(block: nn.Module, shape: tuple[int, ...], remedy: str) -> None:
    with pytest.raises(InvalidInput, match=remedy):
        block(torch.zeros(shape))


# ------------------------------------------------------------------------------------------------------------ demo
@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))


@pytest.mark.usefixtures("scripts")
def test_the_demo_draws_any_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import attention_demo  # pyright: ignore[reportMissingImports]

    ramp = np.linspace(0, 255, 40 * 24 * 3).reshape(24, 40, 3).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "in.png")
    out = tmp_path / "new" / "page.png"
    assert attention_demo.main(["--image", str(tmp_path / "in.png"), "--out", str(out), "--layer", "features.3"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as page:
        assert page.size[0] > 1000
        colours = page.convert("RGB").getcolors(256)
        assert colours is not None  # no more than 256
        assert len(colours) > 100
    for wrong, text in (
        (["--image", str(tmp_path / "none.png")], "No such file"),
        (["--image", str(tmp_path / "in.png"), "--layer", "avgpool"], "expected [C,H,W]"),
    ):
        assert attention_demo.main([*wrong, "--out", str(tmp_path / "not.png")]) == 2
        assert text in capsys.readouterr().err
    assert not (tmp_path / "not.png").exists()


@pytest.mark.usefixtures("scripts")
def test_the_demos_small_example_is_the_published_one() -> None:
    import attention_demo  # pyright: ignore[reportMissingImports]

    with torch.no_grad():
        x = torch.tensor(attention_demo.SMALL_MAPS, dtype=torch.float32)
        se, spatial, cbam = attention_demo.reweight(x, attention_demo.make_by_hand())
    assert x.mean((1, 2)).tolist() == [2, 0.5, 1]
    torch.testing.assert_close(se.channel, torch.tensor([0.35, 0.70, -0.35]).sigmoid())
    assert [round(v, 2) for v in se.output.mean((1, 2)).tolist()] == [1.17, 0.33, 0.41]
    assert se.spatial is None
    assert spatial.channel is None
    torch.testing.assert_close(spatial.output, x * spatial.spatial)
    torch.testing.assert_close(cbam.output, x * cbam.channel[:, None, None] * cbam.spatial)
    # by hand: the maxima 5, 2, 3 give the mlp 2.1 where the averages give it 0.7, so CBAM's logits are 4 times SE's
    torch.testing.assert_close(cbam.channel, torch.tensor([1.4, 2.8, -1.4]).sigmoid())
