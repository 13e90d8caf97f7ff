"""Calls of every public function, class and method, with one hostile argument in the place of a valid one."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import is_dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import featureviz as fv
from benchmarks.studies.hostile_cases import LABELS, SIZE, Case, Mismatch, make_model, make_network
from featureviz import lab, transform

RENDER: dict[str, Any] = {"steps": 2, "size": SIZE, "progress": False, "runtime": fv.Runtime(compile=False)}
OPERATORS = (
    "__call__", "__getitem__", "__contains__", "__len__", "__add__", "__sub__", "__rsub__", "__mul__", "__truediv__",
)  # fmt: skip
ABSTRACT = (fv.Objective, fv.Parameterization, transform.Transform, transform.Warp, transform.Pixelwise)


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


class World(NamedTuple):
    """What the valid calls share; a hostile call must not change it."""

    model: fv.TappedModel
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
    return World(model, pictures, activations, natural, rendering, folder)


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
        "Head": {"head": 0}, "load": {"name": "embedded", "weights": None}, "wrap": {"name": ""},
        "render": {"image": None},
        "TappedModel": sides | {
            "running": w.model.running, "find_gates": lambda _: w.model.gates, "taken": taken, "device": "cpu",
            "taps": w.model.taps(["stem"], (SIZE, SIZE)), "make": lambda _: 1, "image": (32, 48),
        },
        "TappedModel()": {"size": SIZE}, "GateSite": of_blocks | {"value": torch.rand(2, 8)}, "Channel": one,
        "Direction": one, "Logit": one, "PerImage": one, "Quadrant": {"gate": "open"}, "Neuron": {"x": None, "y": None},
        "FourierImage": {"image": None}, "PixelImage": {"image": None}, "best_of": {"objective": "stem:1"},
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
        "Jitter": sides, "Rotate": sides, "Noise": noise, "Until": noise | {"inner": transform.Noise()},
        "Pipeline": sides | {"transforms": transform.robust()}, "SEModule": of_blocks, "CBAM": of_blocks,
        "ChannelAttention": of_blocks, "SpatialAttention": of_blocks, "interpolation": {"n": 3},
    }  # fmt: skip


def make_object(kind: type) -> Any:
    """An object whose methods are called."""
    w = make_world()
    make: dict[type, Callable[[], Any]] = {
        fv.TappedModel: lambda: w.model, fv.GateSite: lambda: w.model.gates["se"],
        fv.Activations: lambda: w.activations,
        fv.Rendering: lambda: w.rendering, fv.Rows: lambda: w.activations.rows, lab.GateStatistics: lambda: w.natural,
        fv.HeldOut: lambda: w.rendering.held_out, lab.SiteStatistics: lambda: w.natural["se"],
        lab.Ablation: lambda: lab.Ablation.compare("se", "clamped", torch.rand(2, 5), torch.rand(2, 5), scores=True),
        lab.GateJacobian: lambda: lab.gate_jacobian(w.model, "se", torch.rand(8)),
        lab.GateWeights: lambda: lab.gate_weights(w.model, "se"), lab.Modes: lambda: lab.modes(w.natural, "se", 2),
        lab.GatedMaps: lambda: lab.gated_maps(w.model, "se", w.pictures[0]),
        lab.GradientPaths: lambda: lab.gradient_paths(w.model, "logit:1", w.pictures[:1], "se"),
        lab.SqueezeEllipsoid: lambda: lab.SqueezeEllipsoid.fit(w.natural, "se"),
    }  # fmt: skip
    return make[kind]() if kind in make else call(Target(f"{kind.__name__}()", kind, lambda: kind))


class Target(NamedTuple):
    """Something public: its name, what has its signature, and how to get what is called."""

    name: str
    signature: Callable[..., Any]
    get: Callable[[], Callable[..., Any]]


HELD = (
    fv.Rendering,
    fv.TappedModel,
    lab.GateStatistics,
    lab.SiteStatistics,
    lab.GateAblator,
    lab.Pictures,
)
PARTS_OF_MODEL = {"collect", "noise_images", "input_size", "rerun", "cached", "taps", "train"}  # called by the engine


def find_targets() -> Iterator[Target]:
    """Every public function and constructor, and the methods of what a user holds in hand, inherited ones once.

    The other methods, such as ``draw`` of a transform, are called by the engine, with its own values.
    """
    seen = set[Any]()
    for package in (fv, lab, transform, fv.nn):
        for name in package.__all__:
            public = getattr(package, name)
            if not inspect.isclass(public):
                yield from [Target(name, public, partial(getattr, package, name))] if callable(public) else []
                continue
            checked = not (is_dataclass(public) or issubclass(public, tuple)) or hasattr(public, "__post_init__")
            made = public is not fv.TappedModel  # which ``wrap`` makes
            if checked and made and public not in ABSTRACT and not issubclass(public, Exception):
                yield Target(f"{name}()", public, partial(getattr, package, name))
            for member, found in find_members(public).items():
                if found not in seen and public in HELD and member not in PARTS_OF_MODEL:
                    seen.add(found)
                    yield make_target(public, member, found)


def find_members(kind: type) -> dict[str, Any]:
    """The public methods, operators and properties that the library gives to a class."""
    bases = [base for base in reversed(kind.__mro__) if base.__module__.startswith(("featureviz", "objectives_zoo"))]
    members = {name: value for base in bases for name, value in vars(base).items()}
    kinds = (property, classmethod, staticmethod)
    return {
        name: value
        for name, value in members.items()
        if (not name.startswith("_") or name in OPERATORS) and (inspect.isfunction(value) or isinstance(value, kinds))
    }


def make_target(kind: type, member: str, found: Any) -> Target:
    name = f"{kind.__name__}.{member}"
    if isinstance(found, property):
        return Target(name, lambda: None, lambda: lambda: getattr(make_object(kind), member))
    if isinstance(found, (classmethod, staticmethod)):
        return Target(name, found.__func__, partial(getattr, kind, member))
    return Target(name, found, lambda: getattr(make_object(kind), member))


def find_parameters(target: Target) -> list[inspect.Parameter]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(target.signature).parameters.values()
    return [p for p in parameters if p.kind not in variable and p.name not in ("self", "cls")]


def call(target: Target, **hostile: Any) -> Any:
    """The result of a valid call, or of one in which these arguments are other ones."""
    kind = target.name.partition(".")[0].removesuffix("()")
    own = by_function().get(kind, {}) | by_function().get(target.name, {}) | hostile
    args, keywords = list[Any](), RENDER.copy() if target.name == "best_of" else {}
    for p in find_parameters(target):
        value = own[p.name] if p.name in own else by_parameter().get(p.name, p.default)
        if p.kind is p.KEYWORD_ONLY:
            keywords[p.name] = value
        else:
            args.append(value)
    return target.get()(*args, **keywords)


def use(result: Any) -> None:
    """What a user would do with a result; an argument may show to be wrong only here."""
    w, optimizers = make_world(), (fv.Adam, fv.Scheduled)
    if isinstance(result, fv.Objective):
        fv.evaluate(w.model, result, w.pictures[: result.n], draws=1)
    elif isinstance(result, fv.TappedModel):
        fv.layers(result)
    elif isinstance(result, transform.Transform):
        fv.evaluate(w.model, "stem:1", w.pictures[:1], draws=1, transforms=[result])
    elif isinstance(result, fv.Runtime):
        options: dict[str, Any] = RENDER | {"runtime": replace(result, compile=False)}
        fv.render(w.model, "stem:1", **options)
    elif isinstance(result, (*optimizers, fv.LinearCooldown)):
        optimizer = result if isinstance(result, optimizers) else fv.Adam(result)
        fv.render(w.model, "stem:1", optimizer=optimizer, **RENDER)
    elif isinstance(result, AbstractContextManager):
        with result:
            w.model(w.pictures[:2], ["output"])
    else:
        use_other(result)


def use_other(result: Any) -> None:
    w = make_world()
    if isinstance(result, fv.Parameterization):
        result()
    elif isinstance(result, transform.Pipeline):
        result(w.pictures[:2], fv.Rng(0, 2), (SIZE, SIZE))
    elif type(result).__module__ == "featureviz.nn.attention":
        result(torch.rand(2, 8, 6, 6))
    elif isinstance(result, (Iterator, lab.Pictures)):
        list(islice(iter(result), 9))
    elif inspect.isfunction(result):  # a factory of objectives
        use(result("stem"))
    elif hasattr(result, "site") and callable(result):  # from a squeeze to logits
        result(torch.rand(2, 8))
    else:
        repr(result)


def run_valid(target: Target) -> None:
    """The valid call; it must not raise."""
    try:
        use(call(target))
    except fv.FeaturevizError as error:
        raise Mismatch(f"the valid call fails: {error}") from error


def run_hostile(target: Target, parameter: str, value: Any) -> None:
    """A call with one hostile argument; whatever becomes of it, the model stays as it is."""
    try:
        use(call(target, **{parameter: value}))
    finally:
        w = make_world()
        if not torch.equal(w.model(w.pictures[:2], ["output"])["output"], w.activations["output"]):
            raise Mismatch("the model gives another output afterwards")


def make_calls() -> list[Case]:
    """Every valid call, and then each with every hostile value in the place of each argument."""
    targets, values = list(find_targets()), make_values()
    valid = [Case(f"{target.name}, a valid call", partial(run_valid, target)) for target in targets]
    return valid + [
        Case(f"{target.name}: {p.name}={text}", partial(run_hostile, target, p.name, value))
        for target in targets
        for p in find_parameters(target)
        for text, value in values.items()
    ]
