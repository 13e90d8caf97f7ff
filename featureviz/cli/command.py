"""The parser of the ``featureviz`` command, and what its commands do."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from featureviz import __version__, options
from featureviz.ascent.runtime import Runtime
from featureviz.cli.galleries import add_gallery_commands
from featureviz.errors import InvalidInput, ModelError
from featureviz.gallery import gate_cards, render_demo, render_specs
from featureviz.gallery.folder import prepare_folder
from featureviz.image.around.alpha import AlphaImage
from featureviz.image.picture import read_picture
from featureviz.network.taps import OUTPUT
from featureviz.objectives.spec import parse
from featureviz.objectives.text import registry as zoo
from featureviz.options import positive_int
from featureviz.rendering.presets import LEARNING_RATE, STEPS, cooling_adam, fast, plain


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 on success, 2 after an error, which is one line on stderr, and 130 after Ctrl-C."""

    def work() -> None:
        args = make_parser().parse_args(options.protect_specs(sys.argv[1:] if argv is None else argv))
        args.run(args)

    return options.run_command("featureviz", work)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``args.run(args)`` runs the one that was given."""
    parser = argparse.ArgumentParser(
        prog="featureviz", description="Render what excites and what suppresses any unit of a vision network.",
        epilog="docs/objectives.md has every form of a spec; `featureviz zoo` lists the objectives that it may call.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"featureviz {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands.add_parser("demo", help="render what opens and closes twelve gates of the embedded network"))
    _add_render(commands.add_parser("render", help="render specs such as features.6:17 or -gate:features.9.block.2:3"))
    layers = commands.add_parser("layers", help="list a model's layers with their shapes")
    options.add_model_options(layers)
    layers.set_defaults(run=lambda args: print(*options.load_model(args, listing=True).layers(), sep="\n"))
    listing = commands.add_parser("zoo", help="list the objectives that a spec may call, each with an example")
    options.add_objectives_option(listing)
    listing.set_defaults(run=_list_zoo)
    _add_gates(commands.add_parser("gates", help="list a model's gates, or make a card of each with --cards"))
    add_gallery_commands(commands)
    return parser


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--out", default="gallery", help="folder for the gallery (default: gallery)")
    demo.add_argument("--gates", type=positive_int, default=12, help="how many gates (default: 12)")
    options.add_ascent_options(demo, steps=STEPS)
    demo.set_defaults(run=_run_demo)


def _add_render(render: argparse.ArgumentParser) -> None:
    options.add_model_options(render)
    render.add_argument("spec", nargs="+", help="one or more objectives; `featureviz zoo` lists those with names")
    options.add_objectives_option(render)
    options.add_dictionary_option(render)
    render.add_argument("--out", default="out", help="folder for the tiles and the page (default: out)")
    start = render.add_mutually_exclusive_group()
    start.add_argument("--image", metavar="FILE", help="a picture to start from, cropped to --size (default: noise)")
    start.add_argument("--alpha", action="store_true", help="with transparency (fv.AlphaImage)")
    render.add_argument("--views", type=positive_int, default=1, help="random views per image and step (default: 1)")
    render.add_argument("--best-of", type=positive_int, default=1, metavar="N", help="keep the best of N renders")
    render.add_argument(
        "--lr", type=float, default=None, help=f"Adam's learning rate at first (default: {LEARNING_RATE})"
    )
    preset = render.add_mutually_exclusive_group()
    preset.add_argument("--fast", action="store_true", help="use the preset fv.fast(): few steps")
    preset.add_argument("--plain", action="store_true", help="use the preset fv.plain(): the recipe of Lucid")
    render.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of the network")
    text = "compile the network (default: if that saves time)"
    render.add_argument("--compile", action=argparse.BooleanOptionalAction, default="auto", help=text)
    render.add_argument("--batch", type=positive_int, default=16, help="images at a time (default: 16)")
    options.add_device_option(render)
    options.add_ascent_options(render, steps=None, default_steps=f"{STEPS}; 64 with --fast, 512 with --plain")
    render.set_defaults(run=_run_render)


def _add_gates(gates: argparse.ArgumentParser) -> None:
    options.add_model_options(gates)
    cards = gates.add_argument_group("cards", "one page per gate: renders, natural pictures, effect on the output")
    cards.add_argument("--cards", action="store_true", help="make the cards")
    cards.add_argument("--images", metavar="DIR", help="folder of natural pictures")
    cards.add_argument("--site", nargs="+", default=[], help="blocks (default: all)")
    options.add_units_option(cards, "gates of each block")
    text = "without --units: how many gates, those that vary most between the pictures (default: 4)"
    cards.add_argument("--count", type=positive_int, default=4, help=text)
    cards.add_argument("--out", default="gates", help="folder for the pages (default: gates)")
    text = "statistics of the pictures: read if the file exists, otherwise written"
    cards.add_argument("--statistics", metavar="FILE", help=text)
    text = "layer that is compared when a gate is clamped (default: the output)"
    cards.add_argument("--layer", default=OUTPUT, help=text)
    options.add_device_option(cards)
    options.add_ascent_options(cards, steps=STEPS)
    gates.set_defaults(run=_run_gates)


def _run_demo(args: argparse.Namespace) -> None:
    print(render_demo(args.out, count=args.gates, steps=args.steps, size=args.size, seed=args.seed))


def _run_render(args: argparse.Namespace) -> None:
    own = options.read_objectives(args)
    goals = [parse(spec, own) for spec in args.spec]
    prepare_folder(args.out)  # before a network is downloaded
    model, runtime = options.load_model(args), Runtime(precision=args.precision, compile=args.compile)
    model = options.add_dictionaries(args, model)
    image = partial(AlphaImage, channels=model.channels) if args.alpha else None
    if args.image is not None:
        image = read_picture(args.image, args.size, channels=model.channels)
    page = render_specs(
        model, goals, args.out, batch=args.batch, best_of=args.best_of, image=image, size=args.size,
        views=args.views, seed=args.seed, device=args.device, runtime=runtime, **_choose_recipe(args),
    )  # fmt: skip
    print(page)


def _list_zoo(args: argparse.Namespace) -> None:
    entries = zoo.read_file(args.objectives) if args.objectives else zoo.installed()
    for entry in entries.values():
        print(f"{entry.signature}\n    {entry.summary}\n    featureviz render embedded {shlex.quote(entry.example)}")


def _choose_recipe(args: argparse.Namespace) -> dict[str, Any]:
    """Steps, transforms and optimizer: those of a preset, otherwise the options or their defaults."""
    for name, preset in (("fast", fast), ("plain", plain)):
        if getattr(args, name):
            if args.lr is not None:
                raise InvalidInput(
                    f"--{name} and --lr were both given, but --{name} sets the learning rate: leave one of them out"
                )
            return preset(args.steps) if args.steps else preset()
    return {"steps": args.steps or STEPS, "optimizer": cooling_adam(LEARNING_RATE if args.lr is None else args.lr)}


def _run_gates(args: argparse.Namespace) -> None:
    if args.cards and args.images is None:
        raise InvalidInput(
            "--cards compares gates with natural pictures: give a folder of them with --images DIR, best some hundred"
        )
    if not args.cards and (args.images or args.site or args.units is not None or args.statistics):
        raise InvalidInput("--images, --site, --units and --statistics are options of cards: add --cards")
    if args.cards:
        prepare_folder(args.out)
    model = options.load_model(args, listing=not args.cards)
    if not model.gates:
        raise ModelError(
            f"{model.name} has no squeeze-and-excitation gates; `featureviz layers` lists what can be rendered instead"
        )
    if not args.cards:
        print(model.gates)
        return
    page = gate_cards(
        model.on(args.device), args.images, args.out, sites=args.site, units=options.read_units(args) or (),
        count=args.count, statistics=args.statistics, layer=args.layer, steps=args.steps, size=args.size,
        seed=args.seed,
    )  # fmt: skip
    print(page)
