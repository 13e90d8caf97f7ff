"""Where things are on a poster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from featureviz.errors import InvalidInput
from featureviz.gallery.pictures.sections import Section
from featureviz.lab.draw.canvas import measure_text

WIDEST, NARROWEST = 2000, 760  # pixels of a poster
FEWEST, MOST = 16, 32  # columns, where nobody says how many
SHAPE = 1.5  # height to width of a poster, as far as the number of columns can make it
SMALLEST = 8  # pixels of a tile


@final
@dataclass(frozen=True)
class Layout:
    """Sizes in pixels.

    ``tile`` is (height, width), ``near`` the space between the pictures of a unit, ``gap`` that between units,
    ``between`` that between sections, ``left`` where the first column begins.
    """

    width: int
    columns: int
    tile: tuple[int, int]
    left: int
    margin: int
    captions: bool
    near: int
    gap: int
    between: int = 26

    @property
    def label_size(self) -> int:
        """The size of the text of captions and labels."""
        return min(13, max(9, self.tile[1] // 8))

    @property
    def section_head(self) -> int:
        """The height of a section's title."""
        return 46 if self.captions else 0

    def place(self, column: int) -> int:
        """The left side of a column."""
        return self.left + column * (self.tile[1] + self.gap)

    def band_height(self, section: Section) -> int:
        """The height of the pictures of one row of units, with their caption and the space below."""
        caption = self.label_size + 18 if self.captions else self.gap - self.near
        return len(section.rows) * (self.tile[0] + self.near) + caption

    def height_of(self, section: Section) -> int:
        """The height of a section with the space below."""
        bands = -(-len(section.units) // self.columns)
        last = 0 if self.captions else self.gap
        return self.section_head + bands * self.band_height(section) - last + self.between

    def line_height(self, size: int) -> int:
        """The height of a line of text at the head."""
        return round(size * 1.5)

    def head_height(self, head: Sequence[tuple[str, int]]) -> int:
        """The height of everything above the first section."""
        return self.margin + sum(self.line_height(size) for _, size in head) + (self.between if head else 0)


def arrange(sections: Sequence[Section], tile: tuple[int, int], columns: int | None, captions: bool) -> Layout:
    """The layout of a poster of tiles of this size, (height, width), which are made smaller to fit, never larger."""
    margin, near, gap = (44, 3, 8) if captions else (0, 2, 6)
    labels = {row.label for section in sections for row in section.rows}
    left = margin + (round(max(measure_text(label, 13) for label in labels)) + 16 if captions else 0)
    most = max(len(section.units) for section in sections)
    if columns is None:
        count = sum(len(section.units) * len(section.rows) for section in sections)
        columns = min(MOST, max(FEWEST, round((count / SHAPE) ** 0.5)))
        columns = -(-most // -(-most // columns))  # rows of nearly the same length
    columns = min(columns, most)
    wide = min(tile[1], (WIDEST - left - margin + gap) // columns - gap)
    if wide < SMALLEST:
        raise InvalidInput(f"columns={columns} was given; {(WIDEST - left - margin) // (SMALLEST + gap)} have room")
    high = max(1, round(tile[0] * wide / tile[1]))
    width = left + columns * (wide + gap) - gap + margin
    return Layout(
        max(width, NARROWEST) if captions else width, columns, (high, wide), left, margin, captions, near, gap
    )
