"""Numbers and names as text on a page."""

from __future__ import annotations

import math
from collections.abc import Mapping

JOINER = "\N{ZERO WIDTH JOINER}"  # it holds emoji together


def make_visible(text: str) -> str:
    r"""``text`` with an escape in place of each character that does not show.

    Those are control characters, line breaks, marks that turn the direction of writing, and bytes of a file's name
    that are not UTF-8.

    >>> print(make_visible("a\nb\u202ec\udcff"))
    a\nb\u202ec\udcff
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == JOINER else c.encode("unicode-escape").decode() for c in text)


def with_minus(text: str) -> str:
    """Hyphens as minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")


def format_signed(value: float) -> str:
    """Two decimals, and none from 100 on.

    >>> format_signed(-3.14159), format_signed(1234.5)
    ('−3.14', '1234')
    """
    return with_minus(f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}")


def format_figure(value: float) -> str:
    """Three digits.

    >>> format_figure(-0.12345), format_figure(3.9), format_figure(1234.5), format_figure(1e-7), format_figure(0)
    ('−0.123', '3.90', '1234', '1.00e−07', '0')
    """
    if not value:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -4 <= exponent < 6:
        return with_minus(f"{value:.2e}")
    return with_minus(f"{value:.{max(0, 2 - exponent)}f}")


def format_share(share: float) -> str:
    """A share in percent.

    >>> format_share(0.123), format_share(1)
    ('12.3 %', '100 %')
    """
    return f"{100 * share:.1f} %".replace(".0 ", " ")


def format_percentile(percentile: float) -> str:
    """A percentile with one decimal; 0 and 100 are written only where no natural picture lies beyond."""
    return f"{min(max(percentile, 0.1), 99.9):.1f}" if 0 < percentile < 100 else f"{percentile:.0f}"


def describe_percentile(percentile: float, noun: str = "natural picture") -> str:
    """A percentile among natural pictures in words.

    >>> describe_percentile(99.87), describe_percentile(100)
    ('percentile 99.9 of natural pictures', 'above every natural picture')
    """
    if 0 < percentile < 100:
        return f"percentile {format_percentile(percentile)} of {noun}s"
    return f"{'above' if percentile >= 100 else 'below'} every {noun}"


def describe_unseen(unseen: Mapping[str, float]) -> str:
    """Scores on kinds of views that no ascent uses, in words.

    >>> describe_unseen({"jpeg": 3.141, "blur": -0.5, "crop": 2})
    'as JPEG 3.14, blurred −0.5, cropped 2'
    """
    names = {"jpeg": "as JPEG", "blur": "blurred", "crop": "cropped"}
    return with_minus(", ".join(f"{names[kind]} {score:.3g}" for kind, score in unseen.items()))


def describe_distance(distance: float) -> str:
    """How far a picture is from natural ones, in words.

    >>> describe_distance(1.92)
    '1.9 times as unusual as photographs'
    """
    return f"{distance:.1f} times as unusual as photographs"


def describe_versions(versions: Mapping[str, str]) -> str:
    """Names and version numbers in one line."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())
