"""The statistics of one block's gates, and the table with a line for each block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from torch import Tensor

from featureviz.checks import instance
from featureviz.errors import InvalidInput
from featureviz.lab.statistics.co_gating import correlation

OF_CLASSES = ("class_means", "eta_squared")


@final
class SiteStatistics:
    """One block's C gates on N natural images; sd and covariance are those of the sample (N - 1).

    A tensor that was not measured or not kept raises ``InvalidInput``.
    """

    quantiles: Tensor  # of logits at LEVELS, [Q,C]; ``GateStatistics`` says how exact they are
    logit_mean: Tensor  # [C]
    logit_sd: Tensor  # [C]
    logit_covariance: Tensor  # [C,C]
    value_mean: Tensor  # [C]
    value_sd: Tensor  # [C]
    closed: Tensor  # the share of images on which the value is at most 0.01, [C]
    opened: Tensor  # the share of images on which the value is at least 0.99, [C]
    squeeze_quantiles: Tensor  # of the squeeze mean_hw x at LEVELS, [Q,C]
    squeeze_mean: Tensor  # [C]
    squeeze_sd: Tensor  # [C]
    squeeze_covariance: Tensor  # [C,C]; singular if N <= C or a channel is dead
    class_means: Tensor  # the mean value on the images of each class, [K,C]
    eta_squared: Tensor  # the share of the variance of values that lies between classes, [C]; 0 for a constant gate
    logit_sample: Tensor  # the logits of the images in GateStatistics.sample, [R,C]
    squeeze_sample: Tensor  # the squeezes of the images in GateStatistics.sample, [R,C]
    histogram_counts: Tensor  # of logits, [C,512]
    histogram_start: Tensor  # where the first bin of each gate begins, [C]
    histogram_width: Tensor  # of the bins of each gate, [C]
    lowest: Tensor  # the smallest logits, ascending, [K,C]
    lowest_images: Tensor  # the numbers of the images of ``lowest``, [K,C]
    highest: Tensor  # the largest logits, descending, [K,C]
    highest_images: Tensor  # the numbers of the images of ``highest``, [K,C]

    def __init__(self, tensors: Mapping[str, Tensor], name: str = "", labelled: bool = False) -> None:
        self.tensors = dict(instance("tensors", tensors, Mapping))
        self.name, self.labelled = name, labelled

    def __getattr__(self, name: str) -> Tensor:
        if name not in SiteStatistics.__annotations__:
            raise AttributeError(f"SiteStatistics has no attribute {name!r}")
        return self.tensor(name)

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name."""
        if instance("name", name, str) in self.tensors:
            return self.tensors[name]
        why = "a compact file leaves it out; measure again, or save with compact=False"
        if name in OF_CLASSES and not self.labelled:
            why = "measured without labels; measure with pictures in class folders, or with (images, labels) pairs"
        raise InvalidInput(f"there is no {name} of block {self.name!r}: {why}")

    @property
    def saturated(self) -> Tensor:
        """The share of images on which the value is within 0.01 of 0 or of 1, ``[C]``."""
        return self.closed + self.opened

    @property
    def static_share(self) -> float:
        """``1 - E_c[var_n g_c] / var(g)``; it is 1 if no gate depends on the image."""
        return float(self.tensor("static_share"))

    @property
    def effective_rank(self) -> float:
        """Exp of the entropy of the normalised eigenvalues of ``correlation`` (Roy & Vetterli 2007).

        It is the number of independent gates that would vary as much: from 1 to C and at most N - 1, or 0 if no gate
        varies.
        """
        return float(self.tensor("effective_rank"))

    @property
    def correlation(self) -> Tensor:
        """The correlation of the logits of every two gates, ``[C,C]``; a constant gate gets 0, on the diagonal too."""
        return correlation(self.logit_covariance, self.logit_mean)

    def row(self) -> dict[str, Any]:
        """The block as plain values: means over its gates, None for what is not known."""

        def mean(name: str) -> float | None:
            return float(self.tensors[name].mean()) if name in self.tensors else None

        closed, opened = mean("closed"), mean("opened")
        return {
            "block": self.name, "gates": self.value_mean.numel(), "mean": mean("value_mean"), "sd": mean("value_sd"),
            "closed": closed, "opened": opened,
            "saturated": None if closed is None or opened is None else closed + opened,
            "static_share": mean("static_share"), "effective_rank": mean("effective_rank"),
            "eta_squared": mean("eta_squared"),
        }  # fmt: skip


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of ``SiteStatistics.row`` as lines of text with a heading; ``-`` for what is not known."""
    labelled = any(row["eta_squared"] is not None for row in rows)
    width = max(len("block"), *(len(row["block"]) for row in rows))
    head = f"{'block':{width}}  gates   mean     sd  saturated  static  eff. rank" + "   eta^2" * labelled
    return "\n".join([head, *(_format_row(row, width, labelled) for row in rows)])


def _format_row(row: Mapping[str, Any], width: int, labelled: bool) -> str:
    def cell(key: str, form: str, factor: float = 1.0, unit: str = "") -> str:
        size = int(form.split(".")[0]) + len(unit)
        return f"{'-':>{size}}" if row[key] is None else f"{factor * row[key]:{form}}{unit}"

    cells = [
        f"{row['block']:{width}}", f"{row['gates']:5}", cell("mean", "5.3f"), cell("sd", "5.3f"),
        cell("saturated", "7.1f", 100, " %"), cell("static_share", "4.0f", 100, " %"), cell("effective_rank", "9.1f"),
    ]  # fmt: skip
    return "  ".join([*cells, cell("eta_squared", "6.3f")] if labelled else cells)
