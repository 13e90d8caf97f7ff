"""The tools that are compared, by name; a tool's module is imported only when a worker needs it."""

from __future__ import annotations

from importlib import import_module

from benchmarks.contenders.base import Contender

CONTENDERS = {  # name -> "module:class"
    "featureviz": "benchmarks.contenders.featureviz:Featureviz",
    "featureviz fast": "benchmarks.contenders.featureviz:FeaturevizFast",
    "featureviz compiled": "benchmarks.contenders.featureviz:FeaturevizCompiled",
    "lucent": "benchmarks.contenders.lucent:Lucent",
    "lucent single": "benchmarks.contenders.lucent:LucentSingle",
    "lucent kept": "benchmarks.contenders.lucent:LucentKept",
    "dreamlens": "benchmarks.contenders.dreamlens:DreamLens",
    "dreamlens batched": "benchmarks.contenders.dreamlens:DreamLensBatched",
    "dreamlens optimize": "benchmarks.contenders.dreamlens:DreamLensOptimize",
    "torch-dreams": "benchmarks.contenders.torch_dreams:TorchDreams",
    "faccent": "benchmarks.contenders.faccent:Faccent",
    "horama": "benchmarks.contenders.horama:Horama",
}
BATCHED = ("featureviz", "featureviz compiled", "lucent", "dreamlens optimize")  # compared on 64 images in one batch
PACKAGES = {  # the module that a user of each tool imports
    "featureviz": "featureviz",
    "lucent": "lucent.optvis.render",
    "dreamlens": "dreamlens",
    "torch-dreams": "torch_dreams",
    "faccent": "faccent",
    "horama": "horama",
}
DISTRIBUTIONS = ("torch-lucent", "dreamlens", "torch-dreams", "faccent", "horama", "kornia")


def load_contender(name: str) -> type[Contender]:
    """The class of a name in ``CONTENDERS``, or at ``"module:class"``."""
    module, _, class_name = CONTENDERS.get(name, name).partition(":")
    return getattr(import_module(module), class_name)


def read_notes(name: str) -> str:
    """How the tool works, in a few words; empty if its module cannot be imported."""
    try:
        return getattr(load_contender(name), "notes", "")
    except ImportError:
        return ""
