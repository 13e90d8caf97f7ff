"""The page of one gate, and gates as cards of a gallery; drawn from their entries in ``report.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from featureviz.gallery.cards.plots import PlotAxis, draw_histogram, draw_row, draw_scatter, with_minus
from featureviz.gallery.page import (
    describe_distance,
    describe_percentile,
    describe_unseen,
    draw_card,
    draw_figure,
    format_percentile,
    write_gallery,
    write_page,
)
from featureviz.lab.statistics.measuring import OPEN, SHUT

Entry = Mapping[str, Any]
PATHS = 4  # gates from which on the median of their path scores is shown; that of a single picture is noise

INTRO = (
    "A squeeze-and-excitation gate looks at the whole picture and decides how much of one channel passes: 1 lets the"
    " channel through, 0 blocks it."
)
HOW_BELIEVABLE = (
    "Below each percentile is the logit of the picture as JPEG, blurred by one pixel, and cropped: changes that no"
    " ascent sees, and in which a picture that only fools the network loses its effect. The last line is the picture's"
    " distance from photographs in all gates of the network, in natural standard deviations; that of photographs is 1."
)
KEY = '<div class="key">' + "".join(
    f'<span><i style="background:var(--{tone})"{dot}></i>{text}</span>'
    for tone, dot, text in (
        ("range", "", "natural pictures, 99.8 %"), ("band", "", "90 %, and their median"),
        ("ink", " class=dot", "noise"), ("shut", " class=dot", "suppressed"), ("open", " class=dot", "excited"),
    )
) + "</div>"  # fmt: skip

MEANINGS = {  # of the four combinations of channel and gate
    "high-open": "present and passed on", "high-shut": "present but blocked",
    "low-open": "absent, would be passed on", "low-shut": "absent, would be blocked",
}  # fmt: skip
TONES = {"excited": "open", "suppressed": "shut"} | {kind: kind.split("-")[1] for kind in MEANINGS}


def draw_gate(entry: Entry, subtitle: str, remark: str = "", href: str = "") -> str:
    """A gate with its two renders, and with its values on them, on noise and on natural pictures."""
    renders = [(name, TONES[name], entry["renders"][name]) for name in ("excited", "suppressed")]
    figures = [
        draw_figure(r["file"], f"{name} {r['value']:.2f}", _describe_picture(r), tone) for name, tone, r in renders
    ]
    marks = [(entry["noise"]["value"], "ink"), *((r["value"], tone) for _, tone, r in reversed(renders))]
    return draw_card(
        entry["spec"], subtitle,
        f'<div class="pair">{"".join(figures)}</div>'
        f"{draw_row(PlotAxis(0, 1), entry['natural']['quantile values'].values(), marks)}"
        '<div class="axes"><span>0 closed</span><span>open 1</span></div>'
        + (f'<p class="remark">{escape(remark)}</p>' if remark else ""),
        href,
    )  # fmt: skip


def _describe_picture(render: Entry) -> list[str]:
    """Lines below a picture: its percentile, its logits on unseen views, and its distance to natural pictures."""
    percentile, unseen = describe_percentile(render["percentile"]), describe_unseen(render["unseen"])
    return [percentile, f"logit {unseen}", describe_distance(render["distance"])]


def write_index(folder: Path, run: Entry, entries: Sequence[Entry], footer: str) -> Path:
    """Write ``index.html``: the finished gates, each with its two renders and a link to its page."""
    skipped = [s["file"] for s in run["skipped"]]
    intro = [
        f"{INTRO} This page shows what excites and what suppresses gates of <strong>{escape(run['model'])}</strong>,"
        f" compared with {run['natural images']:,} natural pictures. Each gate has a card of its own.",
        HOW_BELIEVABLE,
    ]
    paths = [e["path score"] for e in entries if e["path score"] is not None]
    if len(paths) >= PATHS:
        intro.append(
            "The pictures that open these gates pass through the gates of the blocks before as the natural pictures do"
            f" that open them: path score {median(paths):.2f}, a median over {len(paths)} gates; 1 is as alike as those"
            " natural pictures are to each other, 0 is unrelated."
        )
    if len(entries) < run["planned"]:
        intro.append(f"<strong>{len(entries)} of {run['planned']} gates are done;</strong> the others are missing.")
    if skipped:
        names, many = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else ""), len(skipped) > 1
        files, were = f"{len(skipped)} files" if many else "1 file", "were" if many else "was"
        intro.append(f"{files} could not be read and {were} left out: {escape(names)}.")
    cards = []
    for e in entries:
        natural, goals = e["natural"], [r["reached"] for r in e["renders"].values() if "reached" in r]
        cards.append(draw_gate(
            e, f"natural pictures {natural['value mean']:.2f} ± {natural['value sd']:.2f}",
            f"{sum(all(goal.values()) for goal in goals)} of 4 combinations of channel and gate reached.", e["page"],
        ))  # fmt: skip
    return write_gallery(folder, "Gate cards", intro, cards, footer, key=KEY)


def write_card(folder: Path, entry: Entry, footer: str) -> Path:
    """Write ``folder / entry["page"]``, with a link to ``index.html``."""
    body = (
        f'{_draw_header(entry)}<div class="top">{_draw_ends(entry)}{_draw_distribution(entry)}</div>'
        f"{_draw_corners(entry)}{_draw_drivers(entry)}{_draw_examples(entry)}{_draw_ablations(entry)}"
    )
    return write_page(folder / entry["page"], entry["spec"], body, footer)


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
        draw_figure(
            r["file"], f"{kind} {r['value']:.2f}",
            [f"logit {_signed(r['logit'])}", *_describe_picture(r)], TONES[kind],
        )
        for kind, r in e["renders"].items() if kind not in MEANINGS
    )  # fmt: skip
    return _draw_section(
        "What opens it, what closes it",
        "Rendered from noise by gradient ascent on the logit. The figure is the gate's value, a mean over 16 views"
        f" that the ascent did not use. {HOW_BELIEVABLE}",
        f'<div class="pair">{figures}</div><ul class="said"><li class="open">{_describe_reach(e, "up")}</li>'
        f'<li class="shut">{_describe_reach(e, "down")}</li></ul>',
    )


def _describe_reach(e: Entry, side: str) -> str:
    """How far natural pictures and the render bring the gate up or down, in words."""
    r, up = e["reach"][side], side == "up"
    name, verb = ("excited", "open") if up else ("suppressed", "close")
    value = e["renders"][name]["value"]
    text = f"Natural pictures bring its logit {side} to {_signed(r['picture'])} (gate {r['picture value']:.2f})"
    if r["bound"] is not None:
        text += f"; mixtures of their channel means bring it to {_signed(r['bound'])} ({r['bound value']:.2f})"
        text += (
            f", so no such mixture can {verb} it" if (r["bound value"] < 0.5 if up else r["bound value"] > 0.5) else ""
        )
    reached = value >= OPEN if up else value <= SHUT
    way = "" if r["share"] is None else f", {100 * r['share']:.0f} % of the way from the natural mean to the mixtures"
    end = {
        "short": "not as far as some natural pictures" + (f", but the gate is {TONES[name]}" if reached else ""),
        "beyond": f"beyond every natural picture{way}",
        "past": "beyond all mixtures",
    }[r["verdict"]]
    return f"{text}. The {name} render brings it to {_signed(r['logit'])} ({value:.2f}), {end}."


def _draw_distribution(e: Entry) -> str:
    n, axis = e["natural"], PlotAxis(e["axis"]["low"], e["axis"]["high"])
    quantiles, values = n["quantiles"], n["quantile values"]

    def draw_line(label: str, tone: str, plot: str, *numbers: str) -> str:
        cells = "".join(f'<span class="n">{number}</span>' for number in numbers)
        return f'<div><b class="{tone}">{label}</b><span class="line">{plot}</span>{cells}</div>'

    def draw_response(label: str, tone: str, r: Entry) -> str:
        plot = draw_row(axis, quantiles.values(), [(r["logit"], tone or "ink")])
        return draw_line(label, tone, plot, _signed(r["logit"]), f"{r['value']:.2f}")

    histogram = draw_histogram(axis, **n["histogram"], ticks=e["axis"]["ticks"])
    rows = [
        draw_line("", "", "", "logit", "gate"),
        draw_line("median", "", histogram, _signed(quantiles["50"]), f"{values['50']:.2f}"),
        draw_response("noise", "", e["noise"]),
        *(draw_response(_short(kind), TONES[kind], r) for kind, r in e["renders"].items()),
    ]
    low, high = e["reach"]["down"]["bound"], e["reach"]["up"]["bound"]
    if low is not None:
        ends = draw_row(axis, quantiles.values(), [(low, "soft"), (high, "soft")])
        rows.append(draw_line("mixtures", "", ends, f"{_signed(low)} to {_signed(high)}"))
    return _draw_section(
        "Renders compared with natural pictures",
        f"The histogram shows the gate's logit on {n['images']:,} natural pictures; below it are logits and the gate's"
        " value for each. Each row is a render, named by channel and gate; the bands hold 90 and 99.8 % of the natural"
        " pictures. <em>Mixtures</em> is the range of logits for all mixtures of the natural pictures' channel means.",
        f'<div class="dist">{"".join(rows)}</div>',
    )


def _draw_corners(e: Entry) -> str:
    figures, marks, n = [], [], e["natural"]
    for kind, meaning in MEANINGS.items():
        r, tone = e["renders"][kind], TONES[kind]
        missed = ["channel" if what == "content" else what for what, reached in r["reached"].items() if not reached]
        channel, gate = (format_percentile(r[which]) for which in ("content percentile", "percentile"))
        lines = [
            meaning, f"{' and '.join(missed)} not reached" if missed else "\N{CHECK MARK} reached",
            f"percentiles: channel {channel}, gate {gate}", f"{_share(r['natural share'])} of natural pictures",
        ]  # fmt: skip
        figures.append(draw_figure(r["file"], "channel {}, gate {}".format(*kind.split("-")), lines, tone))
        marks.append((_short(kind), tone, r["content"], r["logit"]))
    plot = draw_scatter(n["sample"], (n["corners"]["content"], n["corners"]["logit"]), marks)
    return _draw_section(
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
    title = "The channels that open and close it"
    if e["missing"]:
        return _draw_section(title, escape(e["missing"]))

    def draw(d: Entry, _tone: str) -> str:
        lines = [with_minus(f"{d['strength']:+.2f} logits"), f"gate value {d['gate']['value']:.2f}"]
        return draw_figure(d["file"], f"channel {d['channel']}", lines)

    return _draw_section(
        title,
        "The gate depends on the means of the block's channels. The figure is the change of its logit when a channel"
        " rises by one natural standard deviation from the natural mean. The picture is a render that excites the"
        " channel, with the gate's value on it.",
        _draw_sides(draw, ("open it", e["opens"]), ("close it", e["closes"])),
    )


def _draw_examples(e: Entry) -> str:
    def draw(p: Entry, tone: str) -> str:
        return draw_figure(p["file"], f"{p['value']:.2f}", [f"logit {_signed(p['logit'])}"], tone)

    if not e["most"] and not e["least"]:
        text = "The measured pictures are not at hand: the statistics are from elsewhere, or not of a folder."
        return _draw_section("Natural pictures", text)
    text = "The pictures on which the gate is most open and most shut, cropped as the network reads them."
    return _draw_section(
        "Natural pictures", text, _draw_sides(draw, ("most open", e["most"]), ("most shut", e["least"]))
    )


def _draw_ablations(e: Entry) -> str:
    names = {"mean": "its natural mean", "one": "always open", "zero": "always shut"}
    first = e["ablations"]["mean"]
    classes = first["flipped"] is not None
    head = "<th>KL, millinats</th><th>first class differs</th>" if classes else ""
    rows = ""
    for way, h in e["ablations"].items():
        rows += f"<tr><th>{names[way]}, {h['value']:.2f}</th><td>{100 * h['change']:.2f} %</td>"
        rows += f"<td>{1000 * h['divergence']:.2f}</td><td>{_share(h['flipped'])}</td></tr>" if classes else "</tr>"
    return _draw_section(
        "Its effect on the output",
        f"How the network's {'class scores' if classes else 'output'} on {first['count']:,} natural pictures change"
        " when this one gate is clamped to a constant. Clamped to its natural mean, the gate only loses its dependence"
        " on the picture.",
        f"<table><thead><tr><th>clamped to</th><th>change of the output</th>{head}</tr></thead>{rows}</table>",
    )


def _draw_section(title: str, text: str, body: str = "") -> str:
    """A section: its heading, a paragraph of HTML, and what follows."""
    return f'<section class="part"><h3>{title}</h3><p>{text}</p>{body}</section>'


def _draw_sides(draw: Callable[[Entry, str], str], *sides: tuple[str, list[Entry]]) -> str:
    """Two columns of pictures: for what opens the gate, and for what closes it."""
    columns = (
        f'<div><h4 class="{tone}">{title}</h4><div class="tiles">'
        f"{''.join(draw(entry, tone) for entry in entries) or 'None.'}</div></div>"
        for tone, (title, entries) in zip(("open", "shut"), sides, strict=True)
    )
    return f'<div class="two">{"".join(columns)}</div>'


def _short(kind: str) -> str:
    """A render's name in a plot: ``"high, open"`` for a corner."""
    return kind.replace("-", ", ")


def _share(share: float) -> str:
    return f"{100 * share:.1f} %".replace(".0 ", " ")


def _signed(value: float) -> str:
    return with_minus(f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}")
