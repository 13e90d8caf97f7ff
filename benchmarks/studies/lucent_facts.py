"""Lucent and featureviz on the same network: the measurements of README's table.

    pip install --no-deps --target peers torch-lucent==0.1.8 decorator ipython traitlets
    PYTHONPATH=peers python -m benchmarks.studies.lucent_facts

Both render the same units of the same weights: 128 px images, network input of 224 px, Adam 0.05, each tool's standard
transforms, each called as its users call it. The network's weights require gradients, the default of PyTorch. Lucent
can maximise a gate's value or its logit (the output of the layer in front of it); both are measured. Gates are read on
the plain image, and on the held-out views of featureviz. Speed is measured by the suites.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import featureviz as fv
from benchmarks.contenders.lucent import load_lucent
from benchmarks.harness.record import write_result
from featureviz.models.embedded import MEAN, STD
from featureviz.transform import Pipeline, robust

LAYER, UNITS = "features.6", list(range(8))
SITE, GATES, GATE_STEPS, SEEDS = "features.9.block.2", 16, 64, 1


def render_with_lucent(net: nn.Module, names: list[str], steps: int) -> Tensor:
    """``[N,3,128,128]``: one batch; image i is for ``names[i]`` = "layer:unit", with Lucent's name of the layer."""
    objectives, param, render, _ = load_lucent()
    objective = objectives.Objective.sum(
        [objectives.channel(n.rsplit(":")[0], int(n.rsplit(":")[1]), batch=i) for i, n in enumerate(names)]
    )
    decode: Any = None

    def make_parameters() -> Any:
        nonlocal decode
        leaves, decode = param.image(128, batch=len(names))
        return leaves, decode

    render.render_vis(net, objective, make_parameters, thresholds=(steps,), show_image=False, progress=False)
    return decode().detach()


def count_hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def count_gradients(net: nn.Module) -> int:
    return sum(p.grad is not None for p in net.parameters())


def count_tail_calls(net: nn.Module) -> list[str]:
    """A list that grows by one name whenever a module behind the target layer is called, in ``net`` or its copies."""
    calls: list[str] = []
    for name, module in net.named_modules():
        if name.startswith(("features.7", "features.8", "features.9", "features.10", "classifier")):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    return calls


def count_opened_gates(source: nn.Module) -> dict[str, Any]:
    """How many of 16 gates each tool opens to 0.95, by seed, on the plain image and on held-out views."""
    units = torch.randperm(320, generator=torch.Generator().manual_seed(1))[:GATES].tolist()
    gates = fv.PerImage([fv.Gate(SITE, u) for u in units])
    model = fv.wrap(source, mean=MEAN, std=STD, size=224)
    block = SITE.replace(".", "_")
    result: dict[str, Any] = {}
    for drive, layer in (("value", "scale_activation"), ("logit", "fc2"), ("featureviz", "")):
        for seed in range(SEEDS):
            if layer:
                torch.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002 - Lucent's transforms use this generator
                targets = [f"{block}_{layer}:{u}" for u in units]
                images = render_with_lucent(copy.deepcopy(source), targets, GATE_STEPS)
            else:
                made = fv.render(model, gates, **fv.plain(GATE_STEPS), seed=seed, size=128, progress=False)
                images = made.completed().images
            for views, transforms in (("plain", []), ("held-out", robust())):
                values = fv.evaluate(model, gates, images, transforms=transforms).gates
                count = sum(float(next(iter(g.values())).mean()) >= 0.95 for g in values)
                label = f"Lucent on the {drive}" if layer else "featureviz"
                result.setdefault(f"of {GATES} gates opened to 0.95, {views}, {label}, by seed", []).append(count)
    return result


def measure_side_effects(source: nn.Module) -> dict[str, list[int]]:
    """Hooks and gradients that renders leave on the user's network, and calls of modules behind the target layer."""
    names = [f"{LAYER.replace('.', '_')}:{u}" for u in UNITS]
    nets = [copy.deepcopy(source).requires_grad_(True) for _ in range(2)]
    for _ in range(3):
        render_with_lucent(nets[0], names[:1], 2)
        fv.render(fv.wrap(nets[1], mean=MEAN, std=STD, size=224), f"{LAYER}:0", steps=2, size=128, progress=False)
    result = {
        "hooks left after 3 renders": [count_hooks(net) for net in nets],
        "weights with a gradient left": [count_gradients(net) for net in nets],
    }
    nets = [copy.deepcopy(source) for _ in range(2)]
    calls = [count_tail_calls(net) for net in nets]
    model = fv.wrap(nets[1], mean=MEAN, std=STD, size=224)
    model(torch.rand(1, 3, 224, 224), [LAYER])  # the first call runs the whole network to learn the layers' shapes
    before = [len(c) for c in calls]
    render_with_lucent(nets[0], names, 4)
    fv.render(model, fv.Channel(LAYER, UNITS), steps=4, size=128, progress=False)
    result["modules run behind the layer, 4 steps"] = [len(c) - n for c, n in zip(calls, before, strict=True)]
    return result


def measure_fill() -> list[float]:
    """The share of each tool's views of a white image that is not white."""
    transform = load_lucent()[3]
    white = torch.ones(16, 3, 128, 128)
    lucent_views = transform.compose(transform.standard_transforms)
    shares = [float((lucent_views(white) < 0.99).float().mean()) for _ in range(16)]
    views = Pipeline(robust())(white, fv.Rng(0, 16), (128, 128))
    return [round(sum(shares) / len(shares), 4), round(float((views < 0.99).float().mean()), 4)]


def main() -> None:
    warnings.filterwarnings("ignore")  # Lucent uses old names of torch
    source = fv.load("embedded").net
    result: dict[str, Any] = {"layer": LAYER, "units": len(UNITS), **measure_side_effects(source)}
    result["share of a white image's view that is not white"] = measure_fill()
    result |= count_opened_gates(source)
    for name, pair in result.items():
        print(f"{name:55} {pair}")
    print("pairs are [Lucent, featureviz]", write_result("lucent_facts", result))


if __name__ == "__main__":
    main()
