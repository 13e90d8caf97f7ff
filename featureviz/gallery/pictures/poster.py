"""A gallery as one picture: a poster with captions, or a plain contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from featureviz.checks import flag, show, whole
from featureviz.errors import InvalidInput
from featureviz.files import PathLike, check_path, show_path, write_bytes
from featureviz.gallery.pictures.layout import Layout, arrange
from featureviz.gallery.pictures.sections import PHOTOGRAPH, Section, list_sections
from featureviz.gallery.pictures.words import fit_text, introduce, sign_off
from featureviz.gallery.store.reading import Gallery
from featureviz.gallery.tiles import encode_jpeg
from featureviz.image.picture import cover, read_picture
from featureviz.lab.draw.canvas import FAINT, GREY, INK, PALE, PIXELS, Canvas, measure_text
from featureviz.rendering.png import encode_png, name_png

JPEG, QUALITY, LONGEST = (".jpg", ".jpeg"), 90, 65_500  # the largest side of a JPEG


def poster(
    gallery: Gallery | PathLike, path: PathLike, *, layers: Sequence[str] | str | None = None,
    signs: Sequence[int] | None = None, columns: int | None = None, photographs: bool = False, captions: bool = True,
    note: str = "",
) -> Path:  # fmt: skip
    """Write a gallery as one picture, and return its path.

    Each layer is a section. In it each unit is a column: what excites it, and below it what suppresses it, with the
    number of the unit and, for a gate, its values on views that the ascent did not use.

    Args:
        gallery: a gallery, finished or not, or its folder. ``gallery.select(units=range(16))`` has fewer units.
        path: the file: a PNG, or a JPEG (.jpg), which has about a quarter of the bytes.
        layers: the layers and blocks that are shown; all by default.
        signs: 1 for what excites, -1 for what suppresses; both by default.
        columns: how many units are side by side. The poster is at most 2,000 pixels wide, and tiles are never enlarged.
        photographs: whether to show above each column the photograph that excites the unit most, and below it the one
            that suppresses it most.
        captions: False for a contact sheet: the tiles and no text.
        note: a line below the title, such as the source of the weights and of the photographs.

    Raises:
        InvalidInput: no tile is finished, there are no photographs, a file is missing, or the picture would be too
            large.

    >>> import featureviz as fv, tempfile
    >>> model = fv.load("embedded")
    >>> made = fv.gallery.plan(model, gates="features.9.block.2", units=[3, 5], steps=1, size=32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gallery = fv.gallery.render_plan(made, model, folder, progress=False)
    ...     poster(gallery, f"{folder}/poster.png").name
    'poster.png'
    """
    target = _name_file(path)
    photographs, captions = flag("photographs", photographs), flag("captions", captions)
    if not isinstance(note, str):
        raise InvalidInput(f"note={show(note)} was given; expected a text")
    opened = gallery if isinstance(gallery, Gallery) else Gallery.open(gallery)
    chosen = opened.select(layers, signs=signs)
    sections = list_sections(chosen, photographs)
    where = show_path(opened.folder)
    if not sections:
        raise InvalidInput(f"the gallery in {where} has no finished tile of these; render it first")
    if photographs and not any(row.label == PHOTOGRAPH for section in sections for row in section.rows):
        raise InvalidInput(f"the gallery in {where} has no photographs; render it with --images DIR, or leave them out")
    first = next(row for row in sections[0].rows if row.label != PHOTOGRAPH)
    tile = _read(next(iter(first.files.values())))
    columns = None if columns is None else whole("columns", columns, 1, 4096)
    layout = arrange(sections, (tile.shape[-2], tile.shape[-1]), columns, captions)
    head = introduce(chosen, photographs, note, layout.width - 2 * layout.margin) if captions else []
    canvas = _open_canvas(layout, sections, head, target)
    y = _draw_head(canvas, layout, head)
    for section in sections:
        _draw_section(canvas, layout, section, y, shades=target.suffix.lower() not in JPEG)
        y += layout.height_of(section)
    if captions:
        text = fit_text(sign_off(opened), 12, layout.width - 2 * layout.margin)
        canvas.text(layout.margin, y, text, GREY, 12)
    write_bytes(target, _encode(canvas.picture(), target))
    return target


def _name_file(path: PathLike) -> Path:
    target = Path(check_path(path))
    return target if target.suffix.lower() in JPEG else name_png(path)


def _encode(picture: Tensor, path: Path) -> bytes:
    if path.suffix.lower() not in JPEG:
        return encode_png(picture)
    return encode_jpeg(picture, QUALITY, subsampling=0)


def _open_canvas(layout: Layout, sections: Sequence[Section], head: Sequence[tuple[str, int]], target: Path) -> Canvas:
    foot = 12 + layout.margin if layout.captions else -layout.between  # a line; no space below a contact sheet
    height = layout.head_height(head) + sum(map(layout.height_of, sections)) + foot
    most = PIXELS // 4 // layout.width
    most = min(most, LONGEST) if target.suffix.lower() in JPEG else most
    if height > most:
        raise InvalidInput(
            f"the poster would have {layout.width:,} x {height:,} pixels; expected at most {most:,} rows: give fewer"
            " layers, or more columns"
        )
    return Canvas(layout.width, height)


def _draw_head(canvas: Canvas, layout: Layout, head: Sequence[tuple[str, int]]) -> int:
    """Draw the title and the lines below it; returns where the first section begins."""
    y = layout.margin
    for i, (text, size) in enumerate(head):
        canvas.text(layout.margin, y, text, GREY if i else INK, size, bold=not i)
        y += layout.line_height(size)
    return layout.head_height(head)


def _draw_section(canvas: Canvas, layout: Layout, section: Section, y: int, *, shades: bool) -> None:
    if layout.captions:
        right = layout.width - layout.margin
        canvas.box(layout.margin, y, right, y + 1, FAINT)
        name = fit_text(section.name, 18, (right - layout.margin) * 0.7)
        canvas.text(layout.margin, y + 32, name, INK, 18, "ls", bold=True)
        x = layout.margin + measure_text(name, 18) + 14
        canvas.text(x, y + 32, fit_text(section.remark, 14, right - x), GREY, 14, "ls")
    y += layout.section_head
    for start in range(0, len(section.units), layout.columns):
        units = section.units[start : start + layout.columns]
        for row, (label, tone, files) in enumerate((r.label, r.tone, r.files) for r in section.rows):
            top = y + row * (layout.tile[0] + layout.near)
            if layout.captions:
                canvas.text(layout.left - 10, top + layout.tile[0] / 2, label, tone, layout.label_size, "rm")
            for i, unit in enumerate(units):
                _draw_tile(canvas, layout, files.get(unit), layout.place(i), top, shades=shades)
        if layout.captions:
            for i, unit in enumerate(units):
                bottom = y + len(section.rows) * (layout.tile[0] + layout.near)
                _draw_caption(canvas, layout, section, unit, layout.place(i), bottom)
        y += layout.band_height(section)


def _draw_tile(canvas: Canvas, layout: Layout, file: Path | None, x: int, y: int, *, shades: bool) -> None:
    height, width = layout.tile
    if file is None:
        canvas.box(x, y, x + width, y + height, PALE)
        return
    picture = _read(file)
    if picture.shape[-2:] != (height, width):
        shape = _cover_shape(picture, width / height)
        picture = cover(picture[None], shape)[0]
    canvas.image(picture, x, y, width, height, shades=shades)


def _read(file: Path) -> Tensor:
    try:
        return read_picture(file)
    except InvalidInput as error:
        raise InvalidInput(f"{error}; or run the gallery again, which renders only what is damaged") from error


def _cover_shape(picture: Tensor, ratio: float) -> tuple[int, int]:
    """The largest height and width of this ratio (width / height) inside the picture."""
    height, width = picture.shape[-2:]
    return (height, max(1, round(height * ratio))) if width > height * ratio else (max(1, round(width / ratio)), width)


def _draw_caption(canvas: Canvas, layout: Layout, section: Section, unit: int, x: int, y: int) -> None:
    """The number of the unit, then its values as far as there is room."""
    size, base, right = layout.label_size, y + layout.label_size + 2, x + layout.tile[1]
    parts = [(str(unit), INK, True), *((text, tone, False) for text, tone in section.values[unit])]
    for text, tone, bold in parts:
        width = measure_text(text, size)
        if x + width > right:
            return
        canvas.text(x, base, text, tone, size, "ls", bold=bold)
        x += round(width) + 6
