"""When an image is finished: what its scores say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from featureviz.errors import InvalidInput


@final
@dataclass(frozen=True)
class Plateau:
    """When an image is finished: after ``patience`` windows in a row that brought it no further.

    The scores are cut into windows with means m_0, m_1, ... A window brings it further if
    ``m_k > b + tolerance * (b - m_0)``, and b, at first m_0, is then m_k. Gain is measured by gain, so neither the
    score's scale, its sign nor a constant added to it matter; a gain too small for one window counts once it has added
    up; and noise that lifts single windows only delays the end. Strips of training in a row without progress are
    Prechelt's (1998, "Early stopping - but when?", UP_s); a bar that only progress moves is that of patience elsewhere.

    Args:
        patience: windows in a row.
        tolerance: the least gain of those windows together, as a share of the gain since the first window.
        window: steps.
        at_least: no image ends before that many steps.

    >>> import torch
    >>> steps = torch.arange(400.0)
    >>> rises, flat = -3 + steps / 400, -3 + steps.clamp(max=100) / 400
    >>> Plateau().reached(rises), Plateau().reached(flat), Plateau().reached(flat[:120])
    (False, True, False)
    """

    patience: int = 6
    tolerance: float = 0.02
    window: int = 16
    at_least: int = 128

    def __post_init__(self) -> None:
        for name, least in (("patience", 1), ("tolerance", 0), ("window", 1), ("at_least", 0)):
            if not getattr(self, name) >= least:
                raise InvalidInput(f"{name}={getattr(self, name)} was given; expected at least {least}")

    def reached(self, scores: Tensor) -> bool:
        """Whether an image with these scores ``[T]`` is finished; windows are counted back from the last step."""
        windows = len(scores) // self.window
        if len(scores) < self.at_least or not windows:
            return False
        means = scores[-windows * self.window :].double().view(windows, -1).mean(1).tolist()
        best, waited = means[0], 0
        for mean in means[1:]:
            further = mean > best + self.tolerance * (best - means[0])
            best, waited = (mean, 0) if further else (best, waited + 1)
        return waited >= self.patience
