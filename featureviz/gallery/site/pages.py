"""A page from a template: every text escaped, nothing from elsewhere, no script or style inside the page."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined  # torch depends on jinja2
from markupsafe import Markup

from featureviz.files import write_bytes
from featureviz.gallery.site import words
from featureviz.gallery.site.plot_axis import PlotAxis, draw_bars, draw_polyline
from featureviz.lab.statistics.measuring import OPEN, SHUT

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; frame-src 'self';"
    " base-uri 'none'; form-action 'none'"
)


@cache
def load_templates() -> Environment:
    """The templates. Texts are escaped; a name that a page lacks is an error."""
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_finish, auto_reload=False,
    )  # fmt: skip
    found.globals |= {"PlotAxis": PlotAxis, "OPEN": OPEN, "SHUT": SHUT, "policy": POLICY}
    found.filters |= {
        "bars": draw_bars, "polyline": draw_polyline, "mean": fmean, "median": median, "minus": words.with_minus,
        "signed": words.format_signed, "figure": words.format_figure, "share": words.format_share,
        "percentile": words.format_percentile, "standing": words.describe_percentile, "unseen": words.describe_unseen,
        "distance": words.describe_distance, "versions": words.describe_versions,
    }  # fmt: skip
    return found


def _finish(value: Any) -> Any:
    """What a template writes for a value; HTML of the templates themselves is ``Markup``."""
    return words.make_visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def write_page(path: Path, template: str, root: str = "", **content: Any) -> Path:
    """Write a page from a template; ``root`` leads from the page to the folder with the assets."""
    write_file(path, load_templates().get_template(template).render(content, root=root).encode())
    return path


def write_assets(folder: Path, *names: str) -> None:
    """Write the style, or the script, that pages in ``folder`` link to."""
    for name in names:
        write_file(folder / name, (HERE / name).read_bytes())


def write_file(path: Path, data: bytes) -> None:
    """Write a file of the site; one that holds the same already is left alone.

    An old one is removed first, since file systems wait for the disk when a file replaces another: 4 ms a page.
    """
    with suppress(OSError):
        if path.read_bytes() == data:
            return
        path.unlink()
    write_bytes(path, data)
