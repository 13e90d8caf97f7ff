"""The page of one gate, drawn from its entry in ``report.json`` and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from featureviz.gallery.cards.card_style import STYLE
from featureviz.gallery.cards.plots import Axis, histogram, mark, scales, scatter, span
from featureviz.gallery.page import write_html

Entry = Mapping[str, Any]

CORNERS = {  # of channel and gate: what an image there is to the network
    "high-open": ("channel high, gate open", "seen and passed on", "open"),
    "high-shut": ("channel high, gate shut", "seen but vetoed", "shut"),
    "low-open": ("channel low, gate open", "waiting for what is absent", "open"),
    "low-shut": ("channel low, gate shut", "absent and shut", "shut"),
}
OPEN, SHUT = 0.95, 0.05  # a gate's value that counts as such
TONES = {"excited": "open", "suppressed": "shut"} | {kind: tone for kind, (_, _, tone) in CORNERS.items()}


def write_card(folder: Path, entry: Entry, footer: str) -> Path:
    """``folder / entry["page"]``, with a link to ``index.html``."""
    body = "".join(
        (
            _header(entry),
            f'<div class="top">{_ends(entry)}{_distribution(entry)}</div>',
            _quadrants(entry),
            _drivers(entry),
            _pictures(entry),
            _held(entry),
            f"<footer>{escape(footer)}</footer>",
        )
    )
    return write_html(folder / entry["page"], entry["spec"], body, STYLE)


def _header(e: Entry) -> str:
    n = e["natural"]
    return (
        '<nav><a href="index.html">All gates</a></nav>'
        f'<header><h1 class="gate">{escape(e["spec"])}</h1>'
        f"<p>One of {e['gates in block']} gates of a block ({escape(e['block'])}, {escape(e['nonlinearity'])}). On"
        f" {n['images']:,} natural pictures it is <strong>{n['value mean']:.2f} ± {n['value sd']:.2f}</strong> (mean"
        f" and standard deviation); it is shut, 0.01 or less, on {_share(n['closed'])} of them, and open, 0.99 or"
        f" more, on {_share(n['opened'])}.</p></header>"
    )


def _ends(e: Entry) -> str:
    figures = "".join(
        _figure(
            e["renders"][kind]["file"],
            f"{kind} {e['renders'][kind]['value']:.2f}",
            [f"logit {_signed(e['renders'][kind]['logit'])}", standing(e["renders"][kind]["percentile"])],
            TONES[kind],
        )
        for kind in ("excited", "suppressed")
    )
    return (
        '<section class="part"><h3>What opens it, what closes it</h3>'
        "<p>Painted from noise by gradient ascent on the logit. The figure is the gate's value, a mean over 16 views"
        f' that the ascent never saw.</p><div class="pair">{figures}</div>'
        f'<ul class="said"><li class="open">{escape(_told(e, "up"))}</li>'
        f'<li class="shut">{escape(_told(e, "down"))}</li></ul></section>'
    )


def _distribution(e: Entry) -> str:
    n, axis = e["natural"], Axis(e["axis"]["low"], e["axis"]["high"])
    bars, quantiles = n["histogram"], list(n["quantiles"].values())
    rows = [_row("noise", "", e["noise"], axis, quantiles)]
    rows += [_row(_short(kind), TONES[kind], r, axis, quantiles) for kind, r in e["renders"].items()]
    low, high = e["reach"]["down"]["bound"], e["reach"]["up"]["bound"]
    if low is not None:
        rows.append(
            f'<div><span>mixtures</span><span class="line">{span(axis, low, high)}</span>'
            f'<span class="n both">{_minus(f"{low:.3g} to {high:.3g}")}</span></div>'
        )
    return (
        '<section class="part"><h3>Where these stand in nature</h3>'
        f"<p>The gate's logit on {n['images']:,} natural pictures, and under it the gate's value, from"
        ' <b style="color:var(--shut)">0</b> to <b style="color:var(--open)">1</b>. Each row is a render, named by'
        " channel and gate; the bands hold 90 and 99.8 % of natural pictures. <em>Mixtures</em>: how far"
        " any mixture of the natural pictures' channel means could bring it.</p>"
        '<div class="dist"><div><span class="line"></span><span></span><span class="head n">logit</span>'
        '<span class="head n">gate</span></div><div><span>median</span><span class="line">'
        f"{histogram(axis, bars['start'], bars['width'], bars['counts'])}"
        f"{scales(axis, e['axis']['values'], e['axis']['ticks'])}</span>"
        f'<span class="n">{_signed(n["quantiles"]["50"])}</span>'
        f'<span class="n">{n["quantile values"]["50"]:.2f}</span></div>{"".join(rows)}</div></section>'
    )


def _row(label: str, tone: str, found: Entry, axis: Axis, quantiles: Sequence[float]) -> str:
    return (
        f'<div><b class="{tone}">{escape(label)}</b><span class="line">'
        f"{mark(axis, quantiles, found['logit'], tone)}</span>"
        f'<span class="n">{_signed(found["logit"])}</span><span class="n">{found["value"]:.2f}</span></div>'
    )


def _told(e: Entry, side: str) -> str:
    """What nature gives on one side, and what the render reached, in words."""
    r, up = e["reach"][side], side == "up"
    name, verb, done = ("excited", "open", "open") if up else ("suppressed", "close", "shut")
    value = e["renders"][name]["value"]
    to = "up" if up else "down"
    text = f"Natural pictures bring it {to} to a logit of {_signed(r['picture'])} (gate {r['picture value']:.2f})"
    if r["bound"] is not None:
        text += f"; mixtures of their channel means could, to {_signed(r['bound'])} ({r['bound value']:.2f})"
        impossible = r["bound value"] < 0.5 if up else r["bound value"] > 0.5
        text += f", so that nothing like them can {verb} it" if impossible else ""
    text += f". The {name} render reached {_signed(r['logit'])} ({value:.2f}): "
    if r["verdict"] == "short":
        there = value >= OPEN if up else value <= SHUT
        return text + (f"less than some natural picture, but {done}." if there else "the ascent fell short of nature.")
    if r["verdict"] == "past":
        return text + "past any mixture of them."
    way = "" if r["share"] is None else f", {100 * r['share']:.0f} % of the way from the natural mean to that bound"
    return text + f"beyond every natural picture{way}."


def _quadrants(e: Entry) -> str:
    figures, marks = [], []
    for kind, (title, meaning, tone) in CORNERS.items():
        r = e["renders"][kind]
        missed = [what for what, there in r["reached"].items() if not there]
        there = (
            f"{' and '.join(missed)} not reached".replace("content", "channel") if missed else "\N{CHECK MARK} reached"
        )
        lines = [
            meaning,
            f"percentiles: channel {_percent(r['content percentile'])}, gate {_percent(r['percentile'])}",
            f"{_share(r['natural share'])} of natural pictures",
        ]
        figures.append(_figure(r["file"], title, lines, tone, (there, not missed)))
        marks.append((_short(kind), tone, r["content"], r["logit"]))
    n = e["natural"]
    plot = scatter(n["sample"], (tuple(n["corners"]["content"]), tuple(n["corners"]["logit"])), marks)
    return (
        '<section class="part"><h3>The channel and its gate</h3><p>The block passes on channel times gate. Each render'
        " asks for one of the four ways in which the two can meet: the channel's mean before the gate, and the gate's"
        " logit, each above its natural 90th percentile or below its 10th. Were the two independent, 1 % of natural"
        f' pictures would be in each corner.</p><div class="two"><div class="pair corners">{"".join(figures)}</div>'
        f'<div class="plot"><div class="axes"><span>gate open \N{UPWARDS ARROW}</span></div>{plot}<div class="axes">'
        "<span>dots: natural pictures; lines: their 10th and 90th percentiles</span>"
        "<span>channel high \N{RIGHTWARDS ARROW}</span></div></div></div></section>"
    )


def _drivers(e: Entry) -> str:
    if e["missing"]:
        return f'<section class="part"><h3>What drives it</h3><p>{escape(e["missing"])}</p></section>'
    sides = "".join(
        f'<div><h4 class="{tone}">{title}</h4>'
        f'<div class="tiles">{"".join(map(_driver, e[key])) or "No channel does."}</div></div>'
        for key, title, tone in (("opens", "open it", "open"), ("closes", "close it", "shut"))
    )
    return (
        '<section class="part"><h3>The channels that open and close it</h3><p>The gate sees nothing but the means of'
        " the block's channels. Logits that one natural standard deviation of a channel adds, at the natural mean; the"
        " picture is what excites that channel, and below it what this picture does to the gate.</p>"
        f'<div class="two">{sides}</div></section>'
    )


def _driver(d: Entry) -> str:
    lines = [
        _minus(f"{d['strength']:+.2f} logits"),
        f"gate on it: {d['gate']['value']:.2f}",
    ]
    return _figure(d["file"], f"channel {d['channel']}", lines)


def _pictures(e: Entry) -> str:
    if not e["most"] and not e["least"]:
        said = (
            "The pictures that were measured are not at hand: the statistics came from elsewhere, or not from a folder."
        )
        return f'<section class="part"><h3>Natural pictures</h3><p>{said}</p></section>'
    sides = "".join(
        f'<div><h4 class="{tone}">{title}</h4><div class="tiles">'
        + "".join(_figure(p["file"], f"{p['value']:.2f}", [f"logit {_signed(p['logit'])}"], tone) for p in e[key])
        + "</div></div>"
        for key, title, tone in (("most", "most open", "open"), ("least", "most shut", "shut"))
    )
    return (
        '<section class="part"><h3>Natural pictures</h3><p>On which of them the gate is most open, and most shut, as'
        f' the network sees them.</p><div class="two">{sides}</div></section>'
    )


def _held(e: Entry) -> str:
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
    what = "class scores" if classes else "output"
    return (
        f'<section class="part"><h3>What its reaction is worth</h3><p>The network\'s {what} over {first["count"]:,}'
        " natural pictures when this one gate no longer looks at the picture. Held at its natural mean, only its"
        " reaction is gone.</p><table><thead><tr><th>held at</th><th>output moves by</th>"
        f"{head}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _figure(file: str, title: str, lines: Sequence[str], tone: str = "", said: tuple[str, bool] | None = None) -> str:
    told = "<br>".join(escape(line) for line in lines)
    if said:
        told += f'<br><span class="{"yes" if said[1] else "no"}">{escape(said[0])}</span>'
    alt = escape(f"{title}: {lines[0]}", quote=True)
    return (
        f'<figure><img src="{escape(file, quote=True)}" alt="{alt}" loading="lazy">'
        f'<figcaption><b class="{tone}">{escape(title)}</b>{told}</figcaption></figure>'
    )


def standing(percentile: float) -> str:
    """A percentile among natural pictures in words.

    >>> standing(99.87), standing(100)
    ('percentile 99.9 of nature', 'above every natural picture')
    """
    if percentile >= 100:
        return "above every natural picture"
    if percentile <= 0:
        return "below every natural picture"
    return f"percentile {_percent(percentile)} of nature"


def _short(kind: str) -> str:
    """A render's name in a plot: ``"high, open"`` for a corner."""
    return kind.replace("-", ", ")


def _percent(percentile: float) -> str:
    return f"{min(max(percentile, 0.1), 99.9):.1f}" if 0 < percentile < 100 else f"{percentile:.0f}"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %".replace(".0 ", " ")


def _signed(value: float) -> str:
    return _minus(f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}")


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
