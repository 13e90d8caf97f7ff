"""The page of one gate, drawn from its entry in ``report.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from featureviz.gallery.cards.card_style import STYLE
from featureviz.gallery.cards.plots import PlotAxis, draw_histogram, draw_mark, draw_scales, draw_scatter, draw_span
from featureviz.gallery.page import describe_percentile, format_percentile, write_html
from featureviz.lab.statistics.measuring import OPEN, SHUT

Entry = Mapping[str, Any]

CORNERS = {  # the four combinations of channel and gate: title, meaning, tone
    "high-open": ("channel high, gate open", "present and passed on", "open"),
    "high-shut": ("channel high, gate shut", "present but blocked", "shut"),
    "low-open": ("channel low, gate open", "absent, would be passed on", "open"),
    "low-shut": ("channel low, gate shut", "absent, would be blocked", "shut"),
}
TONES = {"excited": "open", "suppressed": "shut"} | {kind: tone for kind, (_, _, tone) in CORNERS.items()}


def write_card(folder: Path, entry: Entry, footer: str) -> Path:
    """Write ``folder / entry["page"]``, with a link to ``index.html``."""
    parts = (
        _draw_header(entry),
        f'<div class="top">{_draw_ends(entry)}{_draw_distribution(entry)}</div>',
        _draw_corners(entry),
        _draw_drivers(entry),
        _draw_examples(entry),
        _draw_held(entry),
        f"<footer>{escape(footer)}</footer>",
    )
    return write_html(folder / entry["page"], entry["spec"], "".join(parts), STYLE)


def _draw_header(e: Entry) -> str:
    n = e["natural"]
    return (
        '<nav><a href="index.html">All gates</a></nav>'
        f'<header><h1 class="gate">{escape(e["spec"])}</h1>'
        f"<p>One of {e['gates in block']} gates of a block ({escape(e['block'])}, {escape(e['nonlinearity'])}). On"
        f" {n['images']:,} natural pictures its value is <strong>{n['value mean']:.2f} ± {n['value sd']:.2f}</strong>"
        f" (mean and standard deviation). It is shut, {SHUT} or less, on {_share(n['closed'])} of them, and open,"
        f" {OPEN} or more, on {_share(n['opened'])}.</p></header>"
    )


def _draw_ends(e: Entry) -> str:
    figures = "".join(
        _draw_figure(
            e["renders"][kind]["file"],
            f"{kind} {e['renders'][kind]['value']:.2f}",
            [f"logit {_signed(e['renders'][kind]['logit'])}", describe_percentile(e["renders"][kind]["percentile"])],
            TONES[kind],
        )
        for kind in ("excited", "suppressed")
    )
    return _draw_part(
        "What opens it, what closes it",
        "Rendered from noise by gradient ascent on the logit. The figure is the gate's value, a mean over 16 views"
        " that the ascent did not use.",
        f'<div class="pair">{figures}</div>'
        f'<ul class="said"><li class="open">{escape(_describe_reach(e, "up"))}</li>'
        f'<li class="shut">{escape(_describe_reach(e, "down"))}</li></ul>',
    )


def _draw_distribution(e: Entry) -> str:
    n, axis = e["natural"], PlotAxis(e["axis"]["low"], e["axis"]["high"])
    bars, quantiles = n["histogram"], list(n["quantiles"].values())
    rows = [_draw_row("noise", "", e["noise"], axis, quantiles)]
    rows += [_draw_row(_short(kind), TONES[kind], r, axis, quantiles) for kind, r in e["renders"].items()]
    low, high = e["reach"]["down"]["bound"], e["reach"]["up"]["bound"]
    if low is not None:
        rows.append(
            f'<div><span>mixtures</span><span class="line">{draw_span(axis, low, high)}</span>'
            f'<span class="n both">{_minus(f"{low:.3g} to {high:.3g}")}</span></div>'
        )
    return _draw_part(
        "Renders compared with natural pictures",
        f"The histogram shows the gate's logit on {n['images']:,} natural pictures. The strip below it is the gate's"
        ' value, from <b style="color:var(--shut)">0</b> to <b style="color:var(--open)">1</b>. Each row is a render,'
        " named by channel and gate; the bands hold 90 and 99.8 % of the natural pictures. <em>Mixtures</em> is the"
        " range of logits for all mixtures of the natural pictures' channel means.",
        '<div class="dist"><div><span class="line"></span><span></span><span class="head n">logit</span>'
        '<span class="head n">gate</span></div><div><span>median</span><span class="line">'
        f"{draw_histogram(axis, bars['start'], bars['width'], bars['counts'])}"
        f"{draw_scales(axis, e['axis']['values'], e['axis']['ticks'])}</span>"
        f'<span class="n">{_signed(n["quantiles"]["50"])}</span>'
        f'<span class="n">{n["quantile values"]["50"]:.2f}</span></div>{"".join(rows)}</div>',
    )


def _draw_row(label: str, tone: str, render: Entry, axis: PlotAxis, quantiles: Sequence[float]) -> str:
    return (
        f'<div><b class="{tone}">{escape(label)}</b><span class="line">'
        f"{draw_mark(axis, quantiles, render['logit'], tone)}</span>"
        f'<span class="n">{_signed(render["logit"])}</span><span class="n">{render["value"]:.2f}</span></div>'
    )


def _describe_reach(e: Entry, side: str) -> str:
    """How far natural pictures and the render bring the gate up or down, in words."""
    r, up = e["reach"][side], side == "up"
    name, verb, state = ("excited", "open", "open") if up else ("suppressed", "close", "shut")
    value = e["renders"][name]["value"]
    text = f"Natural pictures bring its logit {side} to {_signed(r['picture'])} (gate {r['picture value']:.2f})"
    if r["bound"] is not None:
        text += f"; mixtures of their channel means bring it to {_signed(r['bound'])} ({r['bound value']:.2f})"
        impossible = r["bound value"] < 0.5 if up else r["bound value"] > 0.5
        text += f", so no such mixture can {verb} it" if impossible else ""
    text += f". The {name} render brings it to {_signed(r['logit'])} ({value:.2f}), "
    if r["verdict"] == "short":
        reached = value >= OPEN if up else value <= SHUT
        return text + ("not as far as some natural pictures" + (f", but the gate is {state}." if reached else "."))
    if r["verdict"] == "past":
        return text + "beyond all mixtures."
    way = "" if r["share"] is None else f", {100 * r['share']:.0f} % of the way from the natural mean to the mixtures"
    return text + f"beyond every natural picture{way}."


def _draw_corners(e: Entry) -> str:
    figures, marks = [], []
    for kind, (title, meaning, tone) in CORNERS.items():
        r = e["renders"][kind]
        missed = ["channel" if what == "content" else what for what, reached in r["reached"].items() if not reached]
        verdict = f"{' and '.join(missed)} not reached" if missed else "\N{CHECK MARK} reached"
        lines = [
            meaning,
            f"percentiles: channel {format_percentile(r['content percentile'])},"
            f" gate {format_percentile(r['percentile'])}",
            f"{_share(r['natural share'])} of natural pictures",
        ]
        figures.append(_draw_figure(r["file"], title, lines, tone, (verdict, not missed)))
        marks.append((_short(kind), tone, r["content"], r["logit"]))
    n = e["natural"]
    plot = draw_scatter(n["sample"], (tuple(n["corners"]["content"]), tuple(n["corners"]["logit"])), marks)
    return _draw_part(
        "The channel and its gate",
        "The output of the block is channel times gate. Each render has one of the four combinations as its goal: the"
        " channel's mean before the gate, and the gate's logit, each above its natural 90th percentile or below its"
        " 10th. If channel and gate were independent, each corner would hold 1 % of the natural pictures.",
        f'<div class="two"><div class="pair corners">{"".join(figures)}</div>'
        f'<div class="plot"><div class="axes"><span>gate open \N{UPWARDS ARROW}</span></div>{plot}<div class="axes">'
        "<span>dots: natural pictures; lines: their 10th and 90th percentiles</span>"
        "<span>channel high \N{RIGHTWARDS ARROW}</span></div></div></div>",
    )


def _draw_drivers(e: Entry) -> str:
    if e["missing"]:
        return _draw_part("What drives it", escape(e["missing"]))
    sides = "".join(
        f'<div><h4 class="{tone}">{title}</h4>'
        f'<div class="tiles">{"".join(map(_draw_driver, e[key])) or "No channel does."}</div></div>'
        for key, title, tone in (("opens", "open it", "open"), ("closes", "close it", "shut"))
    )
    return _draw_part(
        "The channels that open and close it",
        "The gate depends on the means of the block's channels. The figure is the change of its logit when a channel"
        " rises by one natural standard deviation from the natural mean. The picture is a render that excites the"
        " channel, with the gate's value on it.",
        f'<div class="two">{sides}</div>',
    )


def _draw_driver(d: Entry) -> str:
    lines = [_minus(f"{d['strength']:+.2f} logits"), f"gate value {d['gate']['value']:.2f}"]
    return _draw_figure(d["file"], f"channel {d['channel']}", lines)


def _draw_examples(e: Entry) -> str:
    if not e["most"] and not e["least"]:
        text = "The measured pictures are not at hand: the statistics are from elsewhere, or not of a folder."
        return _draw_part("Natural pictures", text)
    sides = "".join(
        f'<div><h4 class="{tone}">{title}</h4><div class="tiles">'
        + "".join(_draw_figure(p["file"], f"{p['value']:.2f}", [f"logit {_signed(p['logit'])}"], tone) for p in e[key])
        + "</div></div>"
        for key, title, tone in (("most", "most open", "open"), ("least", "most shut", "shut"))
    )
    return _draw_part(
        "Natural pictures",
        "The pictures on which the gate is most open and most shut, cropped as the network reads them.",
        f'<div class="two">{sides}</div>',
    )


def _draw_held(e: Entry) -> str:
    names = {"mean": "its natural mean", "one": "always open", "zero": "always shut"}
    first = e["held"]["mean"]
    classes = first["flipped"] is not None
    head = "<th>KL, millinats</th><th>first class differs</th>" if classes else ""
    rows = "".join(
        f"<tr><th>{names[way]}, {h['value']:.2f}</th><td>{100 * h['change']:.2f} %</td>"
        + (f"<td>{1000 * h['divergence']:.2f}</td><td>{_share(h['flipped'])}</td>" if classes else "")
        + "</tr>"
        for way, h in e["held"].items()
    )
    return _draw_part(
        "Its effect on the output",
        f"How the network's {'class scores' if classes else 'output'} on {first['count']:,} natural pictures change"
        " when this one gate is held at a constant value. Held at its natural mean, the gate only loses its dependence"
        " on the picture.",
        f"<table><thead><tr><th>held at</th><th>change of the output</th>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>",
    )


def _draw_part(title: str, text: str, body: str = "") -> str:
    """A section: its heading, a paragraph of HTML, and what follows."""
    return f'<section class="part"><h3>{title}</h3><p>{text}</p>{body}</section>'


def _draw_figure(
    file: str, title: str, lines: Sequence[str], tone: str = "", verdict: tuple[str, bool] | None = None
) -> str:
    text = "<br>".join(escape(line) for line in lines)
    if verdict:
        text += f'<br><span class="{"yes" if verdict[1] else "no"}">{escape(verdict[0])}</span>'
    alt = escape(f"{title}: {lines[0]}", quote=True)
    return (
        f'<figure><img src="{escape(file, quote=True)}" alt="{alt}" loading="lazy">'
        f'<figcaption><b class="{tone}">{escape(title)}</b>{text}</figcaption></figure>'
    )


def _short(kind: str) -> str:
    """A render's name in a plot: ``"high, open"`` for a corner."""
    return kind.replace("-", ", ")


def _share(share: float) -> str:
    return f"{100 * share:.1f} %".replace(".0 ", " ")


def _signed(value: float) -> str:
    return _minus(f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}")


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
