"""Lucent and featureviz side by side on one network: what README's table claims, measured.

    pip install --no-deps --target peers torch-lucent==0.1.8 decorator ipython traitlets
    PYTHONPATH=peers python -m benchmarks.lucent_facts

Both render the same units of the same weights from 128 px images at a network input of 224 px with their own standard
transforms and Adam 0.05, each called as its users call it, on a network whose weights ask for gradients, as they do
unless frozen by hand. Speed is not measured here. Lucent can climb a gate's value or, by the name of the layer in front
of it, its logit: both are shown. Gates are judged without any transform, and on featureviz' held-out views.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import featureviz as fv
from benchmarks.contenders.lucent import lucent
from benchmarks.record import write
from featureviz.models.embedded import MEAN, STD
from featureviz.transform import Pipeline, robust

LAYER, UNITS = "features.6", list(range(8))
SITE, GATES, GATE_STEPS, SEEDS = "features.9.block.2", 16, 64, 1


def lucent_render(net: nn.Module, names: list[str], steps: int) -> Tensor:
    """``[N,3,128,128]``: one batch, image i for ``names[i]`` = "layer:unit" as Lucent spells layers."""
    objectives, param, render, _ = lucent()
    goal = objectives.Objective.sum(
        [objectives.channel(n.rsplit(":")[0], int(n.rsplit(":")[1]), batch=i) for i, n in enumerate(names)]
    )
    made: Tensor | None = None

    def parameters() -> Any:
        nonlocal made
        leaves, image = param.image(128, batch=len(names))
        made = image
        return leaves, image

    render.render_vis(net, goal, parameters, thresholds=(steps,), show_image=False, progress=False)
    assert made is not None
    return made().detach()


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def gradients(net: nn.Module) -> int:
    return sum(p.grad is not None for p in net.parameters())


def tail_calls(net: nn.Module, run: Any) -> int:
    """How often modules behind the target layer run."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    for name, module in net.named_modules():
        if name.startswith(("features.7", "features.8", "features.9", "features.10", "classifier")):
            module.register_forward_hook(count)
    run()
    return calls


def opened(source: nn.Module) -> dict[str, Any]:
    """How many of 16 gates each opens to 0.95, over some seeds, judged on the plain image and on held-out views."""
    units = torch.randperm(320, generator=torch.Generator().manual_seed(1))[:GATES].tolist()
    gates = fv.PerImage([fv.Gate(SITE, u) for u in units])
    judge = fv.wrap(source, mean=MEAN, std=STD, size=224)
    block = SITE.replace(".", "_")
    result: dict[str, Any] = {}
    for name, layer in (("value", "scale_activation"), ("logit", "fc2"), ("ours", "")):
        for seed in range(SEEDS):
            if layer:
                torch.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002 - the generator that Lucent's transforms draw from
                targets = [f"{block}_{layer}:{u}" for u in units]
                images = lucent_render(copy.deepcopy(source), targets, GATE_STEPS)
            else:
                images = fv.render(judge, gates, steps=GATE_STEPS, seed=seed, size=128, progress=False).images
            for way, transforms in (("plain", []), ("held-out", robust())):
                values = fv.evaluate(judge, gates, images, transforms=transforms).gates
                count = sum(float(next(iter(g.values())).mean()) >= 0.95 for g in values)
                label = "featureviz" if name == "ours" else f"Lucent on the {name}"
                result.setdefault(f"of {GATES} gates opened to 0.95, {way}, {label}, by seed", []).append(count)
    return result


def main() -> None:
    warnings.filterwarnings("ignore")  # Lucent's, of old torch names
    transform = lucent()[3]
    source = fv.load("embedded").net
    names = [f"{LAYER.replace('.', '_')}:{u}" for u in UNITS]
    options: dict[str, Any] = {"size": 128, "progress": False}
    result: dict[str, Any] = {"layer": LAYER, "units": len(UNITS)}

    nets = [copy.deepcopy(source).requires_grad_(True) for _ in range(2)]
    for _ in range(3):
        lucent_render(nets[0], names[:1], 2)
        fv.render(fv.wrap(nets[1], mean=MEAN, std=STD, size=224), f"{LAYER}:0", steps=2, **options)
    result["hooks left after 3 renders"] = [hooks(nets[0]), hooks(nets[1])]
    result["weights with a gradient left"] = [gradients(nets[0]), gradients(nets[1])]

    theirs, ours = copy.deepcopy(source), fv.wrap(source, mean=MEAN, std=STD, size=224)
    ours(torch.rand(1, 3, 224, 224), [LAYER])  # learns the layers' shapes once
    result["modules run behind the layer, 4 steps"] = [
        tail_calls(theirs, lambda: lucent_render(theirs, names, 4)),
        tail_calls(ours.net, lambda: fv.render(ours, fv.Channel(LAYER, UNITS), steps=4, **options)),
    ]

    white = torch.ones(16, 3, 128, 128)
    lucent_views = transform.compose(transform.standard_transforms)
    filled = [float((lucent_views(white) < 0.99).float().mean()) for _ in range(16)]
    views = Pipeline(robust())(white, fv.Rng(0, 16), (128, 128))
    result["share of a white image's view that is not white"] = [
        round(sum(filled) / len(filled), 4), round(float((views < 0.99).float().mean()), 4),
    ]  # fmt: skip

    result |= opened(source)

    for name, both in result.items():
        print(f"{name:55} {both}")
    print("pairs are [Lucent, featureviz]", write("lucent_facts", result))


if __name__ == "__main__":
    main()
