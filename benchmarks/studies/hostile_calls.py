"""Calls of every public function, class and method, with one hostile argument in the place of a valid one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import is_dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch

import featureviz as fv
from benchmarks.studies.hostile_arguments import RENDER, by_function, by_parameter, make_values, make_world
from benchmarks.studies.hostile_cases import SIZE, Case, Mismatch
from featureviz import lab, transform

OPERATORS = (
    "__call__", "__getitem__", "__contains__", "__len__", "__add__", "__sub__", "__rsub__", "__mul__", "__truediv__",
)  # fmt: skip
ABSTRACT = (fv.Objective, fv.Parameterization, transform.Transform, transform.Warp, transform.Pixelwise)


def make_object(kind: type) -> Any:
    """An object whose methods are called."""
    w = make_world()
    make: dict[type, Callable[[], Any]] = {
        fv.TappedModel: lambda: w.model, fv.GateSite: lambda: w.model.gates["se"],
        fv.Activations: lambda: w.activations,
        fv.Rendering: lambda: replace(w.rendering, slope=torch.rand(1, SIZE, SIZE)),
        fv.Rows: lambda: w.activations.rows, lab.GateStatistics: lambda: w.natural,
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
        model = {fv.Head: w.attending, fv.Latent: w.reading}.get(type(result), w.model)
        fv.evaluate(model, result, w.pictures[: result.n], draws=1)
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
