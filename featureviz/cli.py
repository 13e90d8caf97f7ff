"""The ``featureviz`` command."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featureviz.errors import FeaturevizError, InvalidInput, ModelError
from featureviz.network.taps import OUTPUT

if TYPE_CHECKING:
    from featureviz.network.model import TappedModel


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it did what was asked, 2 with a line on stderr when it could not."""
    args = _parser().parse_args(shielded(sys.argv[1:] if argv is None else argv))
    try:
        return args.run(args)
    except FeaturevizError as error:
        print(f"featureviz: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("featureviz: interrupted", file=sys.stderr)
        return 130


def shielded(arguments: Sequence[str]) -> list[str]:
    """A spec may begin with a minus; a space before it tells argparse that it is not an option.

    >>> shielded(["render", "-gate:a:1", "--out", "x"])
    ['render', ' -gate:a:1', '--out', 'x']
    """
    return [f" {a}" if re.match(r"-[^-\d].", a) else a for a in arguments]


def _demo(args: argparse.Namespace) -> int:
    from featureviz.gallery import demo

    print(demo(args.out, count=args.gates, steps=args.steps, size=args.size, seed=args.seed))
    return 0


def _render(args: argparse.Namespace) -> int:
    from featureviz.ascent.runtime import Runtime
    from featureviz.gallery import render_specs

    runtime = Runtime(precision=args.precision, compile=args.compile)
    page = render_specs(
        _model(args), args.spec, args.out, batch=args.batch, size=args.size, views=args.views, seed=args.seed,
        device=args.device, best_of=args.best_of, runtime=runtime, **_ascent(args),
    )  # fmt: skip
    print(page)
    return 0


def _ascent(args: argparse.Namespace) -> dict[str, Any]:
    """Steps and learning rate: those asked for, or the preset's."""
    from featureviz.ascent.optimizers import Adam
    from featureviz.rendering.presets import STEPS, fast

    if args.fast and args.lr is not None:
        raise InvalidInput("--fast has a learning rate of its own: leave out --lr or --fast")
    if args.fast:
        return fast(args.steps) if args.steps else fast()
    return {"steps": args.steps or STEPS, "optimizer": Adam() if args.lr is None else Adam(args.lr)}


def _layers(args: argparse.Namespace) -> int:
    for layer in _model(args).layers():
        print(layer)
    return 0


def _gates(args: argparse.Namespace) -> int:
    if args.cards and args.images is None:
        raise InvalidInput(
            "--cards holds gates against natural pictures: give a folder of them with --images DIR, best some hundred"
        )
    if not args.cards and (args.images or args.site or args.units or args.statistics):
        raise InvalidInput("--images, --site, --units and --statistics are for cards: add --cards")
    model = _model(args)
    if not model.gates:
        raise ModelError(
            f"{model.name} has no squeeze-and-excitation gates; `featureviz layers` lists what can be rendered instead"
        )
    print(_cards(args, model.on(args.device)) if args.cards else model.gates)
    return 0


def _cards(args: argparse.Namespace, model: TappedModel) -> Path:
    from featureviz.gallery.cards.cards import gate_cards

    return gate_cards(
        model, args.images, args.out, sites=args.site, units=args.units, count=args.count, statistics=args.statistics,
        layer=args.layer, steps=args.steps, size=args.size, seed=args.seed,
    )  # fmt: skip


def _model(args: argparse.Namespace):
    from featureviz.models import load

    weights = None if args.weights == "none" else args.weights
    return load(args.model, weights=weights, size=args.input)


def _parser() -> argparse.ArgumentParser:
    from featureviz import __version__

    parser = argparse.ArgumentParser(
        prog="featureviz", description="Render what excites and what suppresses any unit of a vision network."
    )
    parser.add_argument("--version", action="version", version=f"featureviz {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="what opens and closes twelve gates of the embedded network")
    demo.add_argument("--out", default="gallery", help="folder for the gallery (default: gallery)")
    demo.add_argument("--gates", type=positive, default=12, help="how many gates (default: 12)")
    _options(demo, steps=160)
    demo.set_defaults(run=_demo)

    render = commands.add_parser("render", help="render specs such as features.12:17 or -gate:features.12.block.2:3")
    _model_options(render)
    render.add_argument("spec", nargs="+", help="objectives, as many as you like")
    render.add_argument("--out", default="out", help="folder for the tiles and the page (default: out)")
    render.add_argument("--views", type=positive, default=1, help="random views an image and step (default: 1)")
    render.add_argument("--best-of", type=positive, default=1, metavar="N", help="keep the best of so many renders")
    render.add_argument("--lr", type=float, default=None, help="Adam's learning rate (default: 0.05)")
    render.add_argument("--fast", action="store_true", help="64 steps that count: the preset fv.fast()")
    render.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of the network")
    render.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default="auto", help="the network (default: if it pays)"
    )
    render.add_argument("--batch", type=positive, default=16, help="images at a time (default: 16)")
    render.add_argument("--device", default=None, help="cpu, cuda, mps (default: cpu)")
    _options(render, steps=None, default="512, or 64 with --fast")
    render.set_defaults(run=_render)

    layers = commands.add_parser("layers", help="list a model's layers with their shapes")
    _model_options(layers)
    layers.set_defaults(run=_layers)
    _gates_parser(commands.add_parser("gates", help="list a model's gates, or make a card of each with --cards"))
    return parser


def _gates_parser(gates: argparse.ArgumentParser) -> None:
    _model_options(gates)
    cards = gates.add_argument_group("cards", "a page a gate: renders, natural pictures, what it is worth")
    cards.add_argument("--cards", action="store_true", help="make them")
    cards.add_argument("--images", metavar="DIR", help="folder of natural pictures")
    cards.add_argument("--site", nargs="+", default=[], help="blocks (default: all)")
    cards.add_argument("--units", nargs="+", type=int, default=[], help="gates of each block")
    cards.add_argument(
        "--count", type=positive, default=4, help="without --units: how many gates, those that vary most (default: 4)"
    )
    cards.add_argument("--out", default="gates", help="folder for the pages (default: gates)")
    cards.add_argument("--statistics", metavar="FILE", help="the pictures' statistics: read if there, else written")
    cards.add_argument("--layer", default=OUTPUT, help="what is compared when a gate is held (default: the output)")
    cards.add_argument("--device", default=None, help="cpu, cuda, mps (default: cpu)")
    _options(cards, steps=128)
    gates.set_defaults(run=_gates)


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="embedded, torchvision:NAME or timm:NAME")
    parser.add_argument("--weights", default="default", help="path to a state dict, or none for random weights")
    parser.add_argument("--input", type=positive, default=None, help="the network's input size in pixels")


def _options(parser: argparse._ActionsContainer, steps: int | None, default: str = "") -> None:
    parser.add_argument("--steps", type=positive, default=steps, help=f"steps of ascent (default: {default or steps})")
    parser.add_argument("--size", type=positive, default=128, help="image size in pixels (default: 128)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")


def positive(text: str) -> int:
    """An argument that must be a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} was given; expected at least 1")
    return value
