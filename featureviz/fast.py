"""The preset of everything that makes the same picture sooner and was shown not to cost it its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from featureviz.ascent import adam
from featureviz.errors import InvalidInput


def fast(steps: int = 64) -> dict[str, Any]:
    """Options of :func:`featureviz.render` for a look, or for a gallery of thousands.

    Adam with a shorter memory of its direction, ``betas=(0.5, 0.999)``, which turns sooner while the picture is young;
    a :class:`Landing` of the learning rate; and few steps. What was tried and left out is in docs/speed.md, with the
    figures.

    >>> import featureviz as fv
    >>> model = fv.load("embedded")
    >>> fv.render(model, "features.6:3", **fv.fast(4), size=64, progress=False).scores.shape
    torch.Size([4, 1])
    """
    return {"steps": steps, "optimizer": adam(0.05, betas=(0.5, 0.999)), "lr": Landing(0.05)}


@final
@dataclass(frozen=True)
class Landing:
    """A learning rate held at ``lr``, then falling in a straight line to ``end * lr`` over the last ``share``.

    Called with the share of the steps that are done, 0 to 1.

    >>> landing = Landing(0.1, share=0.5, end=0.2)
    >>> landing(0.0), landing(0.5), round(landing(0.75), 3), round(landing(1.0), 3)
    (0.1, 0.1, 0.06, 0.02)
    """

    lr: float
    share: float = 0.25
    end: float = 0.2

    def __post_init__(self) -> None:
        if not (self.lr > 0 and 0 < self.share <= 1 and 0 <= self.end <= 1):
            raise InvalidInput(f"{self} was given; expected lr > 0, share in (0, 1], end in [0, 1]")

    def __call__(self, done: float) -> float:
        fallen = max(0.0, done - (1 - self.share)) / self.share
        return self.lr * (1 - (1 - self.end) * fallen)
