"""An adapter takes the steps of its tool: from the same seed it ends at the image of the tool's own loop."""

import importlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import transforms

from benchmarks.contenders.base import MEAN, STD, Task

TASK = Task(layer="features.3", units=(1,), size=64, input=64, weights="")
PAIR = Task(layer="features.3", units=(1, 4), size=64, input=64, weights="")
STEPS = 3


def lucent(net: nn.Module) -> Tensor:
    objectives, param, render, _ = importlib.import_module("benchmarks.contenders.lucent").load_lucent()
    objective = objectives.channel("features_3", 1, batch=0) + objectives.channel("features_3", 4, batch=1)
    start = lambda: param.image(64, batch=2)  # noqa: E731
    images = render.render_vis(
        net, objective, start, thresholds=(STEPS,), show_image=False, progress=False, fixed_image_size=64
    )
    return torch.from_numpy(images[-1]).permute(0, 3, 1, 2)


def dreamlens(net: nn.Module, units: tuple[int, ...]) -> Tensor:
    import dreamlens as dl

    def preprocess(x: Tensor) -> Tensor:
        return dl.imagenet_normalize(F.interpolate(x, size=(64, 64), mode="bilinear", align_corners=False))

    config = dl.RenderConfig(64, 64, steps=STEPS, lr=0.05, preprocess=preprocess, optimizer_cls=torch.optim.Adam)
    tool = dl.FeatureVisualizer(net, quiet=True)
    if len(units) == 1:
        return tool.visualize(dl.FeatureTarget.for_channel("features.3", units[0]), config=config).as_nchw()
    return tool.maximize_channels("features.3", units, config=config).as_nchw()


def dreamlens_optimize(net: nn.Module) -> Tensor:
    import dreamlens as dl

    objective = dl.Objective.channel(net, "features.3", [1, 4])
    options: dict[str, Any] = {
        "custom_shape": (64, 64),
        "input_shape": (3, 64, 64),
        "preprocess": dl.imagenet_normalize,
    }
    return dl.optimize(objective, nb_steps=STEPS, **options)[0][-1]


def torch_dreams(net: nn.Module) -> Tensor:
    from torch_dreams import Dreamer
    from torch_dreams.batched_image_param import BatchedAutoImageParam
    from torch_dreams.batched_objective import BatchedObjective

    tool = Dreamer(net, quiet=True, device="cpu")
    tool.get_default_transforms(15, 1.2, 0.5, 0.0, 0.0)
    tool.set_custom_transforms(transforms.Compose([tool.transforms, nn.Upsample(size=(64, 64), mode="bilinear")]))
    canvases = BatchedAutoImageParam(batch_size=2, width=64, height=64, device="cpu", lr=0.05)
    objective = BatchedObjective([lambda outs: -outs[0][:, 1].mean(), lambda outs: -outs[0][:, 4].mean()])
    images = tool.render(
        [net.get_submodule("features.3")], image_parameter=canvases, iters=STEPS, custom_func=objective
    )
    return torch.cat([c.postprocess(device="cpu") for c in images.image_params])


def faccent(net: nn.Module) -> Tensor:
    from faccent import param, render, transform

    fit = [transform.resize((64, 64)), transform.imagenet_normalize()]
    images, *_ = render.render_vis(
        net, "features_3:1", param.fourier(img_size=(64, 64)), [*transform.standard_box_transforms, *fit],
        out_thresholds=[STEPS], inline_thresholds=[], preprocess=False, progress=False,
    )  # fmt: skip
    return images[-1]  # the image before the step of that number, counted from 0


def horama(net: nn.Module) -> Tensor:
    import horama as tool

    outputs: list[Tensor] = []
    net.get_submodule("features.3").register_forward_hook(lambda _m, _i, out: outputs.append(out))

    def objective(views: Tensor) -> Tensor:
        net(views)
        return outputs.pop()[:, 1].mean()

    image, _ = tool.fourier(objective, total_steps=STEPS, image_size=64, model_input_size=64, device="cpu")
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (MEAN, STD))
    return (image * std + mean).clamp(0, 1)[None]


LOOPS: dict[str, tuple[str, Task, Callable[[nn.Module], Tensor]]] = {
    "Lucent": ("lucent", PAIR, lucent),
    "DreamLens": ("dreamlens", TASK, lambda net: dreamlens(net, TASK.units)),
    "DreamLensBatched": ("dreamlens", PAIR, lambda net: dreamlens(net, PAIR.units)),
    "DreamLensOptimize": ("dreamlens", PAIR, dreamlens_optimize),
    "TorchDreams": ("torch_dreams", PAIR, torch_dreams),
    "Faccent": ("faccent", TASK, faccent),
    "Horama": ("horama", TASK, horama),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(
    torch.cuda.is_available(), reason="some tools use a GPU if there is one; this test compares on the CPU"
)
@pytest.mark.parametrize("name", LOOPS)
def test_the_adapter_takes_the_steps_of_its_tool(name: str) -> None:
    peer, task, loop = LOOPS[name]
    pytest.importorskip(peer)
    adapter = getattr(importlib.import_module(f"benchmarks.contenders.{peer}"), name)(task)
    for _ in range(STEPS):
        adapter.step()
    net = task.network()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(task.seed)
    torch.testing.assert_close(adapter.images(), loop(net).detach(), atol=1e-5, rtol=0)
