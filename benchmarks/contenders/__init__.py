"""Who takes part: name -> "module:class", found when a worker needs it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.contenders.base import Contender

CONTENDERS = {
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
CROWD = ("featureviz", "featureviz compiled", "lucent", "dreamlens optimize")  # many images in one batch, side by side
PACKAGES = {  # what a user of each imports
    "featureviz": "featureviz",
    "lucent": "lucent.optvis.render",
    "dreamlens": "dreamlens",
    "torch-dreams": "torch_dreams",
    "faccent": "faccent",
    "horama": "horama",
}
DISTRIBUTIONS = ("torch-lucent", "dreamlens", "torch-dreams", "faccent", "horama", "kornia")


def contender(place: str) -> type[Contender]:
    """The class at ``"module:class"``, or of a name in ``CONTENDERS``."""
    module, _, name = CONTENDERS.get(place, place).partition(":")
    return getattr(import_module(module), name)


def notes(name: str) -> str:
    """How it goes about it, in a few words; nothing where its module cannot be imported."""
    try:
        return getattr(contender(name), "notes", "")
    except ImportError:
        return ""
