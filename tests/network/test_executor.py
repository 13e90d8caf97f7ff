"""The executor: compiled, in bfloat16, and eager where it must be."""

import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featureviz as fv
from featureviz.ascent.ascent import Ascent
from featureviz.errors import InvalidInput, ModelError
from featureviz.image import FourierImage
from featureviz.network.activations import Rows
from featureviz.network.copies.redirect import redirected
from featureviz.network.execution.executor import Executor
from featureviz.rng import HELD_OUT, Rng
from featureviz.transform import Pipeline, robust
from tests.conftest import TinySE
from tests.network.test_fused import Written, drawn, execute, wrapped

needs_compiler = pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="no C++ compiler")
X = (2, 3, 12, 12)


class Plain(nn.Module):
    """A forward of one line over a convolution and its norm."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.bn, self.function = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.bn(self.conv(x)))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry a compilation. Everything but the last stage, C++, which takes long and changes no decision."""
    made: list[str] = []
    full = torch.compile

    def quick(graph: Any, **options: Any) -> Any:
        made.append(type(graph).__name__)
        return full(graph, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", quick)
    return made


def slopes(executor: Executor, layers: list[str], x: Tensor) -> list[Tensor]:
    """Activations, and a gradient in x."""
    x = x.clone().requires_grad_()
    taken = executor(x)
    way = torch.Generator().manual_seed(0)
    total = torch.stack([(taken[n] * torch.randn(taken[n].shape, generator=way)).sum() for n in layers]).sum()
    return [*(taken[n].detach() for n in layers), torch.autograd.grad(total, x)[0]]


def agree(model: fv.TappedModel, layers: list[str], x: Tensor, executor: Executor | None = None) -> None:
    eager, executor = execute(model, *layers), executor or execute(model, *layers, compile=True)
    for a, b in zip(slopes(eager, layers, x), slopes(executor, layers, x), strict=True):
        assert a.any()
        assert (a - b).abs().max() <= 1e-4 * a.abs().max()


def programs(executor: Executor) -> list[Any]:
    return list(executor._programs.values())


@pytest.fixture
def torn() -> Iterator[None]:
    """Dynamo keeps what it compiled for the process."""
    yield
    torch._dynamo.reset()


@needs_compiler
@pytest.mark.usefixtures("torn")
def test_a_compiled_network_is_the_same_network() -> None:
    """Down to machine code; the gates' layers, whose taps leave the network, included."""
    model = wrapped(TinySE(4))
    layers = ["gate:se", "conv"]
    torch.manual_seed(0)
    agree(model, layers, torch.rand(X))
    executor = execute(model, *layers, compile=True)
    assert [callable(p) for p in programs(executor)] == [True]
    agree(model, layers, torch.rand(X), executor)
    assert len(programs(executor)) == 1


@pytest.mark.usefixtures("torn")
def test_compiled_once_for_each_shape_and_kept(compiled: list[str]) -> None:
    model = wrapped(TinySE())
    _ = model.gates
    for _ in range(3):
        agree(model, ["conv", "output"], torch.rand(X))
    assert len(compiled) == 1
    agree(model, ["conv", "output"], torch.rand(3, 3, 12, 12))
    agree(model, ["conv"], torch.rand(X))
    assert len(compiled) == 3
    for seed in range(2):
        how = fv.Runtime(compile=True, redirect=1)
        ascent = Ascent(model, fv.Channel("conv", 1), FourierImage(2, 12, seed=seed), steps=2, runtime=how)
        ascent.run(2)  # the first redirected, the second compiled
    assert len(compiled) == 3
    with torch.no_grad():  # other weights: the next program has them
        next(model.net.parameters()).mul_(1.5)
    agree(model, ["conv"], torch.rand(X))
    agree(model, ["conv"], torch.rand(X))
    assert len(compiled) == 4


@pytest.mark.usefixtures("torn")
def test_a_step_climbs_the_same_compiled(compiled: list[str]) -> None:
    model = wrapped(TinySE())
    goal = fv.Channel("conv", [1, 2]) - 0.5 * fv.Gate("se", 3)
    traces = []
    for compile in (False, True):
        how = fv.Runtime(compile=compile, redirect=0)
        ascent = Ascent(model, goal, FourierImage(2, 16, seed=0), transforms=robust(), steps=4, runtime=how)
        ascent.run(4)
        traces.append((ascent.scores, ascent.images()))
    assert len(compiled) == 1
    torch.testing.assert_close(traces[0][0], traces[1][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(traces[0][1], traces[1][1], rtol=0, atol=1e-3)


class Rounded(torch.autograd.Function):
    """Has a straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def shut_off(_x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        weight = y.sigmoid()
    return y * weight


DECIDES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "if": lambda x, y: y if x.sum() > 0 else -y,
    "item": lambda x, y: y * x.mean().item(),
    "equal": lambda x, y: y if torch.equal(x, x.clamp(max=0.5)) else -y,
    "int": lambda x, y: y[..., : 2 + int(x[0, 0, 0, 0] > 9)],
    # Of what follows a trace keeps a number, or loses where gradients end, and says nothing.
    "tolist": lambda x, y: y * (1 if x[:, 0].flatten().tolist()[0] > 0.5 else 2),
    "numpy": lambda x, y: y * float(x.detach().numpy().mean()),
    "detach": lambda _, y: y * (2 * y).detach(),
    "no_grad": shut_off,
    "own backward": lambda _, y: y + Rounded.apply(3 * y),
}


@pytest.mark.usefixtures("torn", "compiled")
@pytest.mark.parametrize("how", DECIDES)
def test_what_cannot_be_written_down_runs_as_it_is(how: str) -> None:
    """And the warning says whose network and why; once, not at every step."""
    torch.manual_seed(0)
    model = fv.wrap(drawn(Plain(DECIDES[how])), size=12, name="Oracle")
    x = torch.rand(X)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        executor = execute(model, "output", compile=True)
        executor(x)
    if how != "detach" or programs(executor) == [None]:  # the trace of torch 2.11 keeps a detach, so it is compiled
        messages = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
        assert len(messages) == 1
        assert re.match(r"Oracle is not compiled and runs as it is: \S+", messages[0])
        assert programs(executor) in ([None], [])
    for other in (x, 1 - x, 0.1 * x):
        agree(model, ["output"], other, executor)


@pytest.mark.usefixtures("torn", "compiled")
def test_a_failing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("no such\nthing here")

    monkeypatch.setattr(torch, "compile", broken)
    model = wrapped(TinySE())
    executor = execute(model, "conv", compile=True)
    with pytest.warns(RuntimeWarning, match="TinySE is not compiled and runs as it is: NotImplementedError: no such$"):
        executor(torch.rand(X))
    agree(model, ["conv"], torch.rand(X), executor)


@pytest.mark.usefixtures("torn")
def test_memory_that_is_full_is_not_the_compilers_fault(compiled: list[str]) -> None:
    def full(x: Tensor, y: Tensor) -> Tensor:
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return y

    executor = execute(fv.wrap(Plain(full), size=12), "output", compile=True)
    with pytest.raises(torch.OutOfMemoryError):
        executor(torch.rand(X))
    assert not compiled
    executor(torch.rand(1, 3, 12, 12))
    assert len(compiled) == 1


@pytest.mark.usefixtures("torn")
def test_the_networks_own_errors_stay_errors(compiled: list[str]) -> None:
    def picky(x: Tensor, y: Tensor) -> Tensor:
        if len(x) == 5:
            raise ValueError("not five")
        return y

    executor = execute(fv.wrap(Plain(picky), size=12), "output", compile=True)
    with pytest.raises(ModelError, match="not five"):
        executor(torch.rand(5, 3, 12, 12))
    assert not compiled


@pytest.mark.usefixtures("torn")
def test_redirection_runs_eagerly_and_interventions_have_their_own_program(compiled: list[str]) -> None:
    model, x = wrapped(TinySE()), torch.rand(X)
    _ = model.gates
    executor, eager = execute(model, "conv", compile=True), execute(model, "conv")
    assert torch.equal(executor(x, redirect=True)["conv"], eager(x)["conv"])
    with redirected(model):  # from outside, of the whole model
        assert torch.equal(executor(x)["conv"], eager(x)["conv"])
    assert not compiled
    free = executor(x)["conv"]
    assert len(compiled) == 1
    with fv.clamp(model, "se", 0.5):
        held = execute(model, "conv", compile=True)(x)["conv"]
        torch.testing.assert_close(held, model(x, ["conv"])["conv"])
        assert torch.equal(executor(x)["conv"], free)  # it was made before
    assert (free - held).abs().max() > 1e-3
    assert torch.equal(execute(model, "conv", compile=True)(x)["conv"], free)
    assert len(compiled) == 2  # a clamped network has a program of its own, which is not kept


def test_a_redirected_step_passes_dead_units() -> None:
    """Of a folded network, too: the activation is still called."""
    net = drawn(Written(lambda m, x: m.act(m.bn(m.conv(x)))))
    nn.init.constant_(net.get_parameter("bn.bias"), -50)
    model, x = fv.wrap(net, size=12), torch.rand(X, requires_grad=True)
    executor = execute(model, "act")
    for redirect in (False, True, False):
        slope = torch.autograd.grad(-executor(x, redirect=redirect)["act"].sum(), x)[0]
        assert bool(slope.any()) is redirect


def test_rows_and_labels_are_handed_on(tiny: fv.TappedModel) -> None:
    rows = Rows.make([4, 7], views=2)
    taken = execute(tiny, "conv", "input", size=24)(torch.rand(4, 3, 24, 24), rows)
    assert taken.rows is rows
    assert taken.labels == tiny.labels
    assert list(taken) == ["conv", "input"] or set(taken) == {"conv", "input"}
    assert execute(tiny, "conv", size=24)(torch.rand(3, 3, 24, 24)).rows.images == (0, 1, 2)


def test_only_the_input() -> None:
    model, x = wrapped(TinySE()), torch.rand(X)
    assert torch.equal(execute(model, "input")(x)["input"], x)
    assert len(execute(model)(x)) == 0


@pytest.mark.parametrize("precision", ["bf16", "float16", "", None, torch.bfloat16])
def test_an_unknown_precision(tiny: fv.TappedModel, precision: Any) -> None:
    with pytest.raises(InvalidInput, match="expected 'float32' or 'bfloat16'"):
        execute(tiny, "conv", size=24, precision=precision)
    with pytest.raises(InvalidInput, match="precision="):
        fv.Runtime(precision=precision)


def test_bfloat16_leaves_gates_where_they_are(embedded: fv.TappedModel) -> None:
    """What rounding adds up to on the way to a gate: a few hundredths of how far its logits spread."""
    torch.manual_seed(0)
    layers = [f"gate:{site}" for site in embedded.gates]
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        exact, half = (execute(embedded, *layers, size=64, precision=p)(x) for p in ("float32", "bfloat16"))
    for name in layers:
        assert half[name].dtype == torch.float32
        off, spread = (exact[name] - half[name]).abs(), exact[name].std()
        assert 0 < off.mean() < 0.04 * spread, name
        assert off.max() < 0.2 * spread, name
    first = layers[0]
    assert (exact[first] - half[first]).abs().max() < 0.05


def test_bfloat16_judges_images_the_same(embedded: fv.TappedModel) -> None:
    goal = fv.Channel("features.9", [3, 40])
    ascent = Ascent(embedded, goal, FourierImage(2, 64, seed=0), transforms=robust(), steps=8)
    ascent.run(8)
    scores = []
    with torch.no_grad():
        views = Pipeline(robust())(ascent.images(), Rng(0, 2, 8, step=HELD_OUT), embedded.input_size((64, 64)))
        for precision in ("float32", "bfloat16"):
            taken = execute(embedded, *goal.layers, size=96, precision=precision)(views, Rows.make(2, 8))
            scores.append(goal(taken).view(2, 8).mean(1))
    assert ((scores[0] - scores[1]).abs() < 0.01 * scores[0].abs()).all()
    assert not torch.equal(*scores)


def test_an_ascent_in_bfloat16_climbs_as_high(tiny: fv.TappedModel) -> None:
    goal, made = fv.Channel("conv", [1, 2]), []
    for precision in ("float32", "bfloat16"):
        how = fv.Runtime(precision=precision, redirect=0)
        ascent = Ascent(tiny, goal, FourierImage(2, 24, seed=0), steps=16, runtime=how)
        ascent.run(16)
        assert ascent.scores.dtype == torch.float32
        made.append(ascent.images())
    start, *climbed = (
        fv.evaluate(tiny, goal, images).scores.mean(0) for images in (FourierImage(2, 24, seed=0)().detach(), *made)
    )
    assert (climbed[0] > start).all()
    assert (climbed[1] - start > 0.95 * (climbed[0] - start)).all()


class Attending(nn.Module):
    """An SE block by hand, a layer of it called by keyword, in a network that cannot be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)
        self.fc1, self.fc2, self.gate = nn.Linear(16, 8), nn.Linear(8, 16), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        c = self.conv(x)
        y = self.bn(c) + c
        z = self.fc2(input=F.relu(self.fc1(y.mean((2, 3)))))
        return y * self.gate(z)[..., None, None]


def test_gates_stay_in_float32_where_nothing_is_folded() -> None:
    torch.manual_seed(0)
    net = drawn(Attending())
    nn.init.normal_(net.get_parameter("fc2.weight"), std=3)
    model = wrapped(net)
    (site,) = model.gates
    seen: list[torch.dtype] = []
    executor = execute(model, f"gate:{site}", f"gated:{site}", precision="bfloat16")
    for path in ("fc1", "fc2"):
        module = executor.running.net.get_submodule(path)
        module.forward = partial(_noted, module.forward, seen)
    with torch.no_grad():
        executor(torch.rand(X))
    assert seen == [torch.float32] * 2


def _noted(forward: Callable[..., Tensor], seen: list[torch.dtype], *args: Any, **kwargs: Any) -> Tensor:
    out = forward(*args, **kwargs)
    seen.append(out.dtype)
    return out


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_bfloat16_of_networks_that_are_not_float32(dtype: torch.dtype) -> None:
    """They keep the precision that they have."""
    torch.manual_seed(0)
    model, x = wrapped(TinySE().to(dtype)), torch.rand(X)
    with torch.no_grad():
        exact, half = (execute(model, "gate:se", "conv", precision=p)(x) for p in ("float32", "bfloat16"))
    for name in exact:
        assert torch.equal(exact[name], half[name])


@pytest.mark.usefixtures("torn", "compiled")
def test_bfloat16_compiled() -> None:
    model = wrapped(TinySE())
    torch.manual_seed(0)
    x, layers = torch.rand(X), ["gate:se", "conv"]
    eager, executor = (execute(model, *layers, precision="bfloat16", compile=c) for c in (False, True))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        given = slopes(executor, layers, x)
    for a, b in zip(slopes(eager, layers, x), given, strict=True):
        assert b.dtype == torch.float32
        assert (a - b).norm() <= 0.02 * a.norm()
