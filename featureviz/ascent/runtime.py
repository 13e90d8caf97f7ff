"""How the work is done: what changes seconds and memory, and pictures only by rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from featureviz.checks import STEPS, choice, show, whole
from featureviz.errors import InvalidInput
from featureviz.network.execution.precision import Precision

WORTH_COMPILING = 20_000  # views through the network: about where the seconds saved exceed those spent on compiling


@final
@dataclass(frozen=True)
class Runtime:
    """How an ascent runs.

    Args:
        precision: of the network, ``"float32"`` or ``"bfloat16"``; image, views and scores are float32 anyway.
        compile: whether to compile the network, which takes tens of seconds, once for each shape; ``"auto"`` does so
            where at least 20,000 views are asked for.
        capture: whether to replay the step from a CUDA graph; ``"auto"`` does so on a CUDA device where at least 32
            steps are asked for. What cannot be captured is named in a warning and runs eagerly.
        redirect: how many of the first steps send gradients through activations that are dead for a whole image, as
            Lucid does. Where none is dead nothing changes.

    >>> Runtime(precision="bfloat16", redirect=0)
    Runtime(precision='bfloat16', compile='auto', capture='auto', redirect=0)
    """

    precision: Precision = "float32"
    compile: bool | Literal["auto"] = "auto"
    capture: bool | Literal["auto"] = "auto"
    redirect: int = 16

    def __post_init__(self) -> None:
        choice("precision", self.precision, ("float32", "bfloat16"))
        for name in ("compile", "capture"):
            value = getattr(self, name)
            if not isinstance(value, bool) and not (isinstance(value, str) and value == "auto"):
                raise InvalidInput(f"{name}={show(value)} was given; expected True, False or 'auto'")
        object.__setattr__(self, "redirect", whole("redirect", self.redirect, 0, STEPS))

    def compiles(self, views: int) -> bool:
        """Whether the network is compiled for so many views in all."""
        return views >= WORTH_COMPILING if self.compile == "auto" else self.compile
