"""Models made of models: with other gradients, with noise on the weights, or several networks for one image."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featureviz.checks import SEEDS, finite, instance, show, whole
from featureviz.errors import InvalidInput
from featureviz.image.base import fit_size
from featureviz.models.wrapping import wrap
from featureviz.network.copies.gradients import LINES, SMOOTH_POOLING
from featureviz.network.copies.private_copy import shared_copy
from featureviz.network.copies.running import RunningCopy
from featureviz.network.model import TappedModel, tapped
from featureviz.network.surroundings import no_inference
from featureviz.rng import Rng

WEIGHTS = 1 << 41  # the bit of the seed in which weights and images differ


def smoothed_pooling(model: TappedModel) -> TappedModel:
    """A model with the same activations, whose max poolings pass their gradient to all pixels of a window.

    The gradient is that of ``sqrt(0.01 + sum x^2)`` over the window (Lucid's ``make_smoothed_maxpool_grad``, L2). It
    helps against checkerboards in networks with max pooling. ``model`` does not change.

    >>> smoothed_pooling(wrap(nn.Sequential(nn.MaxPool2d(2)), name="pool"))
    TappedModel(pool, smooth pooling, any size, 3 channels, cpu)
    """
    return _with_gradients(model, SMOOTH_POOLING)


def linearised(model: TappedModel) -> TappedModel:
    """A model with the same activations, whose activation functions pass gradients as if they were lines of slope 1.

    That is ReLU, ReLU6, leaky ReLU, ELU, GELU, SiLU and hard-swish; max poolings pass them as in ``smoothed_pooling``
    (Lucid's ``linearization_overrides``). Gates keep their slopes. ``model`` does not change.
    """
    return _with_gradients(model, LINES)


def _with_gradients(model: TappedModel, kind: str) -> TappedModel:
    running = tapped(model).running.twin(model.running.net)
    running.gradients |= {kind}
    return _with_running(model, running, kind)


def noisy_weights(model: TappedModel, sd: float = 0.05, *, seed: int = 0) -> TappedModel:
    """A model whose weights w are ``w (1 + sd e)``, with a standard normal e for each of them.

    What excites several such models together depends less on the exact numbers of one (Bykov et al. 2022, "NoiseGrad").
    They take 0.2. That is much for the embedded network: at 0.05 the activations of its layers correlate with its own
    at .85 to .93, at 0.2 at .19 to .41. The noise depends on the seed and on the place of the weight alone. Buffers,
    such as the means of batch norm, stay. ``model`` does not change.

    >>> model = wrap(nn.Sequential(nn.Conv2d(3, 4, 3)), name="net")
    >>> noisy_weights(model, 0.2, seed=7)
    TappedModel(net, weight noise 0.2 of seed 7, any size, 3 channels, cpu)
    >>> both = ensemble({"plain": model, "noisy": noisy_weights(model)})  # the goal: "plain.0:1 + noisy.0:1"

    Raises:
        InvalidInput: sd is not from 0 to 1.
    """
    tapped(model).require_numbers()
    sd, seed = finite("sd", sd, 0, 1), whole("seed", seed, *SEEDS)
    net = shared_copy(model.running.net)
    with no_inference(), torch.no_grad():
        for i, weight in enumerate(net.parameters()):
            if weight.is_floating_point():
                noise = Rng(seed ^ WEIGHTS, [i], device=weight.device).normal(tuple(weight.shape))[0]
                weight.data = weight * (1 + sd * noise).to(weight.dtype)  # other memory than that of ``model``
    return _with_running(model, model.running.twin(net), f"weight noise {sd:g} of seed {seed}")


def _with_running(model: TappedModel, running: RunningCopy, kind: str) -> TappedModel:
    twin = copy.copy(model)
    twin.__dict__.update(_modules=dict(model._modules), _cache={}, _surveys={})
    twin.running, twin.name = running, f"{model.name}, {kind}"
    return twin


def ensemble(members: Mapping[str, TappedModel], *, name: str = "ensemble") -> TappedModel:
    """Several networks as one model, for an image that excites units of all of them.

    Layers are called by the member and its own layer, ``resnet.layer3``. Each member gets the views at its own size and
    with its own mean and deviation; the output is that of the first. The views have the size of the first member.

    Args:
        members: the models by names without a dot.
        name: of the whole, in reports.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3))
    >>> both = ensemble({"a": wrap(net), "b": wrap(net, mean=0.5, size=16)})
    >>> both(torch.rand(1, 3, 24, 24), ["a.0", "b.0"])["b.0"].shape
    torch.Size([1, 4, 14, 14])

    Raises:
        InvalidInput: there is no member, a name has a dot, or members want other channels or devices than the first.
    """
    models = {key: tapped(model) for key, model in instance("members", members, Mapping).items()}
    first = next(iter(models.values()), None)
    bad = [key for key in models if not isinstance(key, str) or not key.isidentifier() or hasattr(nn.Module, key)]
    if first is None or bad:
        raise InvalidInput(f"members={show(bad or members)} was given; expected models by names that are identifiers")
    for key, model in models.items():
        if (model.channels, model.device) != (first.channels, first.device):
            raise InvalidInput(
                f"member {key!r} takes {model.channels} channels on {model.device}; expected {first.channels} on"
                f" {first.device}, as the first member"
            )
    return wrap(_Ensemble(models), size=first.size, labels=first.labels, channels=first.channels, name=name)


class _Ensemble(nn.Module):
    """The networks, one after the other."""

    def __init__(self, models: Mapping[str, TappedModel]) -> None:
        super().__init__()
        self.own: dict[str, Any] = {}
        for key, model in models.items():
            self.add_module(key, model.net)
            self.register_buffer(f"{key} mean", model.running.mean)
            self.register_buffer(f"{key} std", model.running.std)
            self.own[key] = model.size, model.running.forward_fn

    def forward(self, x: Tensor) -> Any:
        outputs = list[Any]()
        for key, (size, forward_fn) in self.own.items():
            net = self.get_submodule(key)
            views = (_resized(x, size) - self.get_buffer(f"{key} mean")) / self.get_buffer(f"{key} std")
            outputs.append(net(views) if forward_fn is None else forward_fn(net, views))
        return outputs[0]


def _resized(x: Tensor, size: int | tuple[int, int] | None) -> Tensor:
    """``[M,C,H,W]`` at the size that a network wants: a short side, (height, width), or any."""
    own = (x.shape[-2], x.shape[-1])
    wanted = fit_size(size, own)
    return x if wanted == own else F.interpolate(x, wanted, mode="bilinear", align_corners=False, antialias=True)
