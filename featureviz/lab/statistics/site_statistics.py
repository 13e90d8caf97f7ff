"""One block's statistics: tensors by name, some of which may not have been measured or kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from torch import Tensor

from featureviz.errors import InvalidInput
from featureviz.lab.statistics.measuring import correlation

OF_CLASSES = ("class_means", "eta_squared")


class _Part:
    """A tensor that a block's statistics hold, or an error that says how to get it."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, site: SiteStatistics, owner: type) -> Tensor:
        return site.part(self.name)


@final
class SiteStatistics:
    """One block's C gates on N natural images; sd and covariance are the sample's (N - 1).

    What was not measured or not kept raises ``InvalidInput`` with the remedy.
    """

    quantiles = _Part("of logits at LEVELS `[Q,C]`; see `GateStatistics` for their error")
    logit_mean = _Part("`[C]`")
    logit_sd = _Part("`[C]`")
    logit_covariance = _Part("`[C,C]`")
    value_mean = _Part("`[C]`")
    value_sd = _Part("`[C]`")
    closed = _Part("share of images on which the value is at most 0.01, `[C]`")
    opened = _Part("share of images on which the value is at least 0.99, `[C]`")
    squeeze_quantiles = _Part("of the squeeze `mean_hw x` at LEVELS, `[Q,C]`")
    squeeze_mean = _Part("`[C]`")
    squeeze_sd = _Part("`[C]`")
    squeeze_covariance = _Part("`[C,C]`; singular where N <= C or channels are dead")
    class_means = _Part("mean value on each class seen, `[K,C]`")
    eta_squared = _Part("share of the variance of values between classes, `[C]`; 0 for a gate that stands still")
    logit_sample = _Part("logits of the images in `GateStatistics.sample`, `[R,C]`")
    squeeze_sample = _Part("squeezes of the images in `GateStatistics.sample`, `[R,C]`")
    histogram_counts = _Part("of logits, `[C,512]`")
    histogram_start = _Part("where each gate's first bin begins, `[C]`")
    histogram_width = _Part("of each gate's bins, `[C]`")
    lowest = _Part("the smallest logits, ascending, `[K,C]`")
    lowest_images = _Part("the numbers of the images of `lowest`, `[K,C]`")
    highest = _Part("the largest logits, descending, `[K,C]`")
    highest_images = _Part("the numbers of the images of `highest`, `[K,C]`")

    def __init__(self, parts: Mapping[str, Tensor], name: str = "", labelled: bool = False) -> None:
        self.parts, self.name, self.labelled = dict(parts), name, labelled

    def part(self, name: str) -> Tensor:
        if name in self.parts:
            return self.parts[name]
        if name in OF_CLASSES and not self.labelled:
            raise InvalidInput(
                f"there is no {name} of block {self.name!r}: it was measured without labels; measure with pictures in"
                " class folders, or with (images, labels) pairs"
            )
        raise InvalidInput(
            f"there is no {name} of block {self.name!r} in these statistics: a compact file leaves it out; measure"
            " again, or save with compact=False"
        )

    @property
    def saturated(self) -> Tensor:
        """Share of images on which the value is within 0.01 of 0 or of 1, ``[C]``."""
        return self.closed + self.opened

    @property
    def static_share(self) -> float:
        """``1 - E_c[var_n g_c] / var(g)``: 1 where no gate depends on the image."""
        return float(self.part("static_share"))

    @property
    def effective_rank(self) -> float:
        """Of ``correlation``: exp of the entropy of its normalised eigenvalues (Roy & Vetterli 2007).

        How many independent gates would vary as these do: 1 to C, never more than N - 1; 0 where no gate moves.
        """
        return float(self.part("effective_rank"))

    @property
    def correlation(self) -> Tensor:
        """Co-gating: of the logits of every two gates, ``[C,C]``; 0, with itself also, for one that stands still."""
        return correlation(self.logit_covariance, self.logit_mean)
