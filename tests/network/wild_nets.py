"""Networks that write to themselves, hold themselves in functions, or refuse to be copied, as real ones do."""

import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import MethodType
from typing import Any

import torch
import torch.nn.utils.prune as prune
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations
from torchvision.ops import SqueezeExcitation

import featureviz as fv


class Base(nn.Module):
    """Convolution, batch norm, SE gate, head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.se = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), SqueezeExcitation(8, 4)
        self.head = nn.Conv2d(8, 4, 1)

    def stem(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.se(self.stem(x))).mean((2, 3))


class Counter(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.seen, self.history = 0, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen += 1
        self.history.append(len(x))
        return super().forward(x)


class RunningMaximum(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.zeros(8, 1, 1), persistent=False)

    def stem(self, x: Tensor) -> Tensor:
        y = super().stem(x)
        self.largest = torch.maximum(self.largest, y.detach().amax((0, 2, 3))[:, None, None])
        return y


class KeepsFeatures(Base):
    def stem(self, x: Tensor) -> Tensor:
        self.features = super().stem(x)
        return self.features


class Flips(Base):
    """Changes a flag and a mode of its own in its forward."""

    flag = False

    def forward(self, x: Tensor) -> Tensor:
        self.flag = not self.flag
        self.bn.eval()
        self.note = "ran"
        return super().forward(x)


class Keyword(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=self.se(input=self.stem(x))).mean((2, 3))


def lambda_in_init() -> nn.Module:
    net = Base()
    net.stem = lambda x: net.bn(net.conv(x)).relu()  # pyright: ignore[reportAttributeAccessIssue]
    return net


def wrapped_forward() -> nn.Module:
    net = Base()
    old = net.forward
    net.forward = lambda x: 2 * old(x)
    return net


def nested_functions() -> nn.Module:
    net, calls = Base(), []

    def inner(x: Tensor) -> Tensor:
        calls.append(1)
        return net.bn(net.conv(x))

    def outer(x: Tensor, function: Callable[[Tensor], Tensor] = inner) -> Tensor:
        return function(x).relu()

    net.steps = {"stem": [outer]}  # pyright: ignore[reportAttributeAccessIssue]
    net.stem = lambda x: net.steps["stem"][0](x)  # pyright: ignore[reportAttributeAccessIssue]
    return net


def partial_of_a_method() -> nn.Module:
    net = Base()
    net.stem = partial(Base.stem, net)  # pyright: ignore[reportAttributeAccessIssue]
    return net


def bound_method() -> nn.Module:
    net = Base()

    def stem(self: Base, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).sigmoid()

    net.stem = MethodType(stem, net)  # pyright: ignore[reportAttributeAccessIssue]
    return net


def hook_with_a_module() -> nn.Module:
    net = Base()
    net.conv.register_forward_hook(lambda module, args, y: net.bn(y) + y)
    return net


def recording_hook() -> nn.Module:
    net = Base()
    net.found = {}  # pyright: ignore[reportAttributeAccessIssue]
    net.conv.register_forward_hook(lambda module, args, y: net.found.__setitem__("conv", y.detach()))
    return net


def weight_norm() -> nn.Module:
    net = Base()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(net.conv)
    return net


def spectral_norm() -> nn.Module:
    net = Base()
    nn.utils.spectral_norm(net.conv)
    net(torch.rand(2, 3, 16, 16))
    return net


def pruned() -> nn.Module:
    net = Base()
    prune.l1_unstructured(net.conv, "weight", 0.5)
    return net


def parametrized() -> nn.Module:
    net = Base()
    parametrizations.weight_norm(net.conv)
    parametrizations.spectral_norm(net.head)
    return net


def stored_feature() -> nn.Module:
    net = Base()
    net.cache = {"deep": [net.conv(torch.rand(1, 3, 9, 9))]}  # pyright: ignore[reportAttributeAccessIssue]
    return net


def holds_a_lock() -> nn.Module:
    net = Base()
    net.lock, net.stream = threading.Lock(), (i for i in range(3))  # pyright: ignore[reportAttributeAccessIssue]
    return net


def observed() -> nn.Module:
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_fx

    x = torch.rand(4, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = prepare_fx(Base().eval(), get_default_qconfig_mapping("x86"), (x,))
        net(0.5 + 0.01 * x)
    return net


def shared_twice() -> nn.Module:
    net = Base()
    net.second = net.head  # pyright: ignore[reportAttributeAccessIssue]
    return net


def without_statistics() -> nn.Module:
    net = Base()
    net.bn = nn.BatchNorm2d(8, track_running_stats=False)
    return net


def hidden_modules() -> nn.Module:
    net = Base()
    net.extra = [nn.BatchNorm2d(8)]  # pyright: ignore[reportAttributeAccessIssue]
    net.stem = lambda x: net.extra[0](net.bn(net.conv(x)))  # pyright: ignore[reportAttributeAccessIssue]
    return net


def half_frozen() -> nn.Module:
    net = Base()
    net.conv.requires_grad_(False)
    net.bn.eval()
    return net


WILD: dict[str, Callable[[], nn.Module]] = {
    "counter": Counter, "running maximum": RunningMaximum, "keeps features": KeepsFeatures, "flips": Flips,
    "keyword": Keyword, "lambda in init": lambda_in_init, "wrapped forward": wrapped_forward,
    "nested functions": nested_functions, "partial of a method": partial_of_a_method, "bound method": bound_method,
    "hook with a module": hook_with_a_module, "recording hook": recording_hook,
    "weight norm": weight_norm,
    "spectral norm": spectral_norm, "pruned": pruned, "parametrized": parametrized, "stored feature": stored_feature,
    "holds a lock": holds_a_lock, "observed": observed, "shared twice": shared_twice,
    "without statistics": without_statistics, "hidden modules": hidden_modules, "half frozen": half_frozen,
    "traced": lambda: fx.symbolic_trace(Base()), "data parallel": lambda: nn.DataParallel(Base()), "plain": Base,
}  # fmt: skip


def state(net: nn.Module) -> dict[str, Any]:
    """Everything of a network that a render must leave as it is, to be compared."""
    return dict(_state(net))


def _state(net: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in net.named_modules():
        yield f"{path} keys", sorted(vars(module))
        yield f"{path} mode", module.training
        yield f"{path} plain", {k: v for k, v in vars(module).items() if isinstance(v, (int, str, list, float))}
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        yield f"{path} hooks", [list(map(id, found.values())) for found in hooks]
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        yield f"{name} numbers", tensor.detach().clone()
        yield f"{name} flags", (id(tensor), tensor.requires_grad, tensor.grad is None, tensor._version)
    for module in getattr(net, "extra", []):
        yield "extra", (module.running_mean.clone(), module.training)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a is b or a == b


def model_of(name: str) -> tuple[nn.Module, fv.TappedModel]:
    torch.manual_seed(0)
    net = WILD[name]()
    return net, fv.wrap(net, size=16)
