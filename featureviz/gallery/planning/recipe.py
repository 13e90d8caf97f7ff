"""The recipe of a gallery: options of ``fv.render``, and what a manifest says of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from torch import nn

from featureviz.ascent.runtime import Runtime
from featureviz.checks import SEEDS, VIEWS, choice, instance, whole
from featureviz.checks import STEPS as MOST_STEPS
from featureviz.errors import InvalidInput
from featureviz.image.base import height_width
from featureviz.image.picture import is_picture
from featureviz.image.start import describe_start
from featureviz.rendering.presets import STEPS, clear, clear_views, cooling_adam, fast, maco, plain
from featureviz.transform.pipeline import list_transforms

PRESETS: dict[str, Callable[..., dict[str, Any]]] = {"clear": clear, "fast": fast, "plain": plain, "maco": maco}
OPTIONS = ("steps", "size", "views", "seed", "transforms", "optimizer", "image", "runtime")


@final
@dataclass(frozen=True)
class Recipe:
    """How each tile of a gallery is rendered.

    ``text`` describes it as JSON values and is a part of each tile's hash. ``given`` holds the options of
    ``fv.render`` that differ from those of the preset; None where the recipe was read from a manifest that can only
    describe them, because they are objects of Python.
    """

    preset: str
    given: Mapping[str, Any] | None
    text: Mapping[str, Any]

    @classmethod
    def make(cls, preset: str = "clear", **given: Any) -> Recipe:
        """The options of a preset (``PRESETS``), changed by ``given`` ones.

        >>> Recipe.make("fast", steps=32).text["optimizer"]
        'Adam(lr=LinearCooldown(lr=0.05, share=0.25, end=0.2), betas=(0.5, 0.999))'
        """
        choice("recipe", preset, PRESETS)
        for name in given:
            choice("an option of a gallery's recipe", name, OPTIONS)
        given = {name: value for name, value in given.items() if value is not None}
        recipe = cls(preset, given, {})
        return cls(preset, given, {"preset": preset, **_describe(recipe.options)})

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``fv.render``."""
        if self.given is None:
            raise InvalidInput(
                "the recipe of this plan holds objects of Python, which a manifest only describes; make the plan again"
                " with the same arguments, then it fits the folder"
            )
        steps = {"steps": self.given["steps"]} if "steps" in self.given else {}
        options = {"size": 128, "views": 1, "seed": 0} | PRESETS[self.preset](**steps) | dict(self.given)
        if self.text and self.text != {"preset": self.preset, **_describe(options)}:
            raise InvalidInput(
                "the manifest's recipe is not what its options mean to this version of featureviz; make the plan again,"
                " for a new folder"
            )
        return options

    def to_json(self) -> dict[str, Any]:
        plain_values = self.given is not None and all(map(_is_plain, self.given.values()))
        return {**self.text, "given": dict(self.given or {}) if plain_values else None}

    @classmethod
    def from_json(cls, entry: Any) -> Recipe:
        text = dict(instance("the recipe of a manifest", entry, dict))
        given = text.pop("given", None)
        if text.get("preset") not in tuple(PRESETS) or not isinstance(given, dict | None):
            raise InvalidInput(f"the recipe of the manifest names no preset; expected one of {', '.join(PRESETS)}")
        if isinstance(given, dict) and not set(given) <= set(OPTIONS):
            raise InvalidInput(f"the recipe of the manifest has unknown options; expected some of {', '.join(OPTIONS)}")
        return cls(text["preset"], given, text)


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str) or (isinstance(value, list | tuple) and all(map(_is_plain, value)))


def _describe(options: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides pixels, as JSON values."""
    transforms = options.get("transforms")
    runtime = instance("runtime", options.get("runtime") or Runtime(), Runtime)
    described = {
        "steps": whole("steps", options.get("steps", STEPS), 0, MOST_STEPS),
        "size": list(height_width(options["size"])), "views": whole("views", options["views"], 1, VIEWS),
        "seed": whole("seed", options["seed"], *SEEDS),
        "transforms": [repr(t) for t in list_transforms(clear_views() if transforms is None else transforms)],
        "optimizer": _name(options.get("optimizer") or cooling_adam()), "image": _describe_image(options.get("image")),
        **{key: value for key, value in asdict(runtime).items() if key in ("precision", "redirect")},
    }  # fmt: skip
    for name, value in described.items():
        if "<lambda>" in str(value):
            raise InvalidInput(
                f"{name} is a lambda, whose name does not tell what it does, so a gallery could not be resumed; give a"
                " function with a name"
            )
        if re.search(r" at 0x[0-9a-f]+", str(value)):
            raise InvalidInput(
                f"{name} is described as {value}, which differs from run to run, so a gallery could not be resumed;"
                " give it a __repr__ that holds all of its settings"
            )
    return described


def _describe_image(image: Any) -> str:
    if is_picture(image):
        return describe_start(image)["start"]
    if isinstance(image, nn.Module):
        raise InvalidInput(
            f"a {type(image).__name__} was given for the image; expected what makes one for any number of images, such"
            " as fv.PixelImage, or a picture to start from"
        )
    return "FourierImage" if image is None else _name(image)


def _name(made: Any) -> str:
    return getattr(made, "__name__", None) or str(made)
