"""What the hostile calls of the study take: valid arguments of everything public, and values that few expect."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import featureviz as fv
from benchmarks.studies.hostile_cases import LABELS, SIZE, make_model, make_network
from featureviz import lab, transform

RENDER: dict[str, Any] = {"steps": 2, "size": SIZE, "progress": False, "runtime": fv.Runtime(compile=False)}


def make_values() -> dict[str, Any]:
    """What few functions expect, by the text that a report prints."""
    image, deep = torch.rand(1, 3, SIZE, SIZE), list[Any]()
    for _ in range(3000):
        deep = [deep]
    plain = [
        None, True, float("nan"), float("inf"), -1, 0, 1, 1.5, 10**12, -(10**400), 1 + 2j, "", "no such name", "a\0b",
        "\udcff", b"bytes", [], [[]], [[[[]]]], [-1], [1.5, "a", None], (), {}, {"a": 1}, {1, 2}, ["no such name"],
        (10**6, 10**6), range(3), slice(None), np.int64(2), np.float32(0.5), np.array([1.0, 2.0]), np.array("x"),
        torch.tensor(2), torch.tensor(torch.nan), nn.ReLU, dict, np, Path("no/such/path"), Path(), fv.Channel("no", 0),
    ]  # fmt: skip
    return {repr(value)[:40]: value for value in plain} | {
        "an object": object(), "a lambda": lambda *_, **__: None, "a deep list": deep, "a module": nn.Identity(),
        "a picture of numpy": np.zeros((SIZE, SIZE, 3), np.uint8), "rand(2, 3)": torch.rand(2, 3), "zeros(0)":
        torch.zeros(0), "bytes": (image * 255).byte(), "float64": image.double(), "complex": image.to(torch.complex64),
        "meta": image.to("meta"), "nan": image * torch.nan, "sparse": image.to_sparse(), "one channel": image[:, :1],
        "rand(3, 24, 24)": image[0], "five dimensions": image[None], "one pixel": image[..., :1, :1],
    }  # fmt: skip


class Attending(nn.Module):
    """A convolution to patches, an attention with two heads over them, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 8, 6, 6), nn.Linear(8, 5)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))


class World(NamedTuple):
    """What the valid calls share; a hostile call must not change it.

    ``reading`` is a model with a dictionary, ``attending`` one with heads.
    """

    model: fv.TappedModel
    reading: fv.TappedModel
    attending: fv.TappedModel
    pictures: Tensor
    activations: fv.Activations
    natural: lab.GateStatistics
    rendering: fv.Rendering
    folder: Path


@cache
def make_world() -> World:
    model, folder = make_model(), Path(tempfile.mkdtemp(dir=".")).absolute()
    pictures = torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    activations = model(pictures[:2], ["stem", "gate:se", "gate value:se", "pregate:se", "output", "conv"])
    natural, rendering = lab.GateStatistics.measure(model, pictures), fv.render(model, "stem:1", **RENDER)
    natural.save(folder / "natural")
    rendering.save(folder / "recipe.png")
    reading = fv.dictionary(model, "stem", fv.Dictionary(torch.rand(20, 8)), name="code")
    return World(model, reading, fv.wrap(Attending(), size=SIZE), pictures, activations, natural, rendering, folder)


def by_parameter() -> dict[str, Any]:
    """A valid argument for every parameter of this name."""
    w, channel = make_world(), fv.Channel("stem", 1)
    return RENDER | {
        "model": w.model, "objective": "logit:1", "images": w.pictures[:2], "image": w.pictures[0], "layer": "stem",
        "x": w.pictures[:2], "layers": ["stem"], "name": "stem", "site": "se", "sites": "se", "unit": 1, "units": [1],
        "index": torch.tensor([1]), "activations": w.activations, "rows": w.activations.rows, "labels": LABELS,
        "natural": w.natural, "pictures": w.pictures, "picture": w.pictures[0], "path": "written", "text": "stem:1",
        "value": 0.5, "factor": 0.5, "amount": 0.5, "order": [1, 0], "vector": [0.5] * 8, "objectives": [channel] * 2,
        "first": channel, "second": channel, "other": 2.0, "a": "stem", "function": lambda a: a.flatten(1).mean(1),
        "net": make_network(), "draws": 1, "n": 2, "i": 0, "k": 2, "gate": 1, "mode": 0, "level": 0.5, "lr": 0.05,
        "leaves": [nn.Parameter(torch.rand(2, 3))], "done": 0.5, "rng": fv.Rng(0, 2), "seed": 0,
        "squeeze": torch.rand(8), "logits": torch.rand(2), "values": torch.rand(6, 6),
        "panels": [("a", w.pictures[0])] * 2, "degrees": 5.0,
        "pixels": 2.0, "in_channels": 8, "reduction": 2, "views": 1, "source": w.folder,
        "schedule": fv.LinearCooldown(0.1), "draw": (torch.eye(3).expand(2, 3, 3),),
    }  # fmt: skip


def by_function() -> dict[str, dict[str, Any]]:
    """Valid arguments that only one function or class has; those of a class hold for its methods too."""
    w, of_blocks, taken = make_world(), {"x": torch.rand(2, 8, 6, 6)}, {"stem": torch.rand(2, 8, 12, 12)}
    sides, one, means = {"size": (SIZE, SIZE)}, {"images": [0]}, {"before": torch.rand(2, 5), "after": torch.rand(2, 5)}
    ablation: dict[str, Any] = means | {"way": "clamped", "scores": True}
    few, noise = {"steps": 4}, sides | {"draw": (torch.arange(2),)}
    recipe, natural = {"path": w.folder / "recipe.png"}, {"path": w.folder / "natural"}
    return {
        "dictionary": {"encoder": fv.Dictionary(torch.rand(20, 8)), "name": "words"},
        "ensemble": {"members": {"a": w.model}},
        "Dictionary": {"weight": torch.rand(20, 8), "activation": "topk", "k": 2}, "Token": {"at": "max"},
        "directions": {"array": torch.rand(2, 8), "names": ["a", "b"]}, "check_pictures": {"name": "images"},
        "Head": {"layer": "attention", "head": 0}, "load": {"name": "embedded", "weights": None}, "wrap": {"name": ""},
        "render": {"image": None},
        "TappedModel": sides | {
            "running": w.model.running, "find_gates": lambda _: w.model.gates, "taken": taken, "device": "cpu",
            "taps": w.model.taps(["stem"], (SIZE, SIZE)), "make": lambda _: 1, "image": (32, 48),
        },
        "TappedModel()": {"size": SIZE}, "GateSite": of_blocks | {"value": torch.rand(2, 8)}, "Channel": one,
        "Direction": one, "Logit": one, "PerImage": one, "Quadrant": {"gate": "open"}, "Neuron": {"x": None, "y": None},
        **{name: {"image": None} for name in ("FourierImage", "PixelImage", "PyramidImage", "AlphaImage")},
        "MaskedImage": {"image": w.pictures[0], "mask": torch.ones(1, SIZE, SIZE)}, "CPPNImage": {"layers": 2},
        "BallImage": {"image": w.pictures[0]},
        "Latent": {"name": "code"}, "best_of": {"objective": "stem:1"},
        "read_recipe": recipe, "fast": few, "clear": few, "plain": few,
        "Scheduled": {"make": lambda leaves: torch.optim.SGD(leaves, 0.1)},
        "Ascent": {"objective": fv.Channel("stem", 1), "image": fv.FourierImage(1, SIZE)},
        "Executor": sides | {"views": w.pictures[:2]}, "Rng": {"images": 2, "low": 0.0, "high": 1.0},
        "Rng.select": {"images": slice(0, 1), "views": slice(0, 1)}, "Rows.make": {"images": 2},
        "Activations": {"tensors": taken}, "Ablation": ablation | {"other": lab.Ablation.compare("se", **ablation)},
        "GateJacobian": {"order": "modes"}, "GateStatistics.load": natural, "read_picture": recipe,
        "SiteStatistics": {"tensors": w.natural["se"].tensors, "name": "logit_mean"}, "colormap": {"name": "viridis"},
        "SqueezeEllipsoid.distance": {"squeeze": torch.rand(2, 8)}, "overlay": {"name": "turbo"}, "Flip": sides,
        "activation_grid": {"name": "viridis"}, "ablate": {"sites": ["se"]}, "gradient_path_profile": {"sites": ["se"]},
        "Modes": {"logits": torch.rand(2, 8)}, "modes": {"count": 2}, "Scale": {"low": 0.9, "high": 1.1},
        "Jitter": sides, "Rotate": sides, "Noise": noise, "Until": noise | {"inner": transform.Noise(), "share": 0.5},
        "Pipeline": sides | {"transforms": transform.robust()}, "SEModule": of_blocks, "CBAM": of_blocks,
        "ChannelAttention": of_blocks, "SpatialAttention": of_blocks, "interpolation": {"n": 3},
    }  # fmt: skip
