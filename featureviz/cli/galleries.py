"""The commands of ``featureviz`` for galleries: ``gallery``, ``site``, ``compare`` and ``timelapse``."""

from __future__ import annotations

import argparse
from typing import Any

from featureviz import options
from featureviz.ascent.runtime import Runtime
from featureviz.errors import InvalidInput
from featureviz.files import check_writable
from featureviz.gallery import (
    Engine,
    RayEngine,
    build_comparison,
    build_site,
    estimate,
    plan,
    render_gallery,
    render_here,
    timelapse,
)
from featureviz.gallery.planning.choosing import ALL
from featureviz.gallery.planning.recipe import PRESETS
from featureviz.objectives.spec import parse
from featureviz.options import positive_int

LOCAL, RAY = "local", "ray"
SIGNS = {"both": (1, -1), "excited": (1,), "suppressed": (-1,)}


def add_gallery_commands(commands: Any) -> None:
    """Add the commands to the sub-parsers of argparse."""
    text = "render every channel and every gate of a network, and build pages of them"
    _add_gallery(commands.add_parser("gallery", help=text))
    site = commands.add_parser("site", help="build the pages of a gallery again, finished or not")
    site.add_argument("folder", help="the --out of `featureviz gallery`")
    site.set_defaults(run=lambda args: print(build_site(args.folder)))
    compare = commands.add_parser("compare", help="build pages that show two galleries side by side")
    compare.add_argument("first", help="the --out of `featureviz gallery`")
    compare.add_argument("second", help="that of another model or recipe with the same layers")
    compare.add_argument("--out", required=True, help="folder for the pages")
    compare.set_defaults(run=lambda args: print(build_comparison(args.first, args.second, args.out)))
    _add_timelapse(commands.add_parser("timelapse", help="render specs as an animation: GIF, PNG, WebP or MP4"))


def _add_gallery(gallery: argparse.ArgumentParser) -> None:
    options.add_model_options(gallery)
    gallery.add_argument("--out", required=True, help="folder of the gallery; the same command goes on in it")
    what = gallery.add_argument_group("what is shown (default: all gates)")
    what.add_argument("--layers", nargs="+", default=[], metavar="LAYER", help="the channels of these layers")
    text = "the gates of these blocks; without names, of all"
    what.add_argument("--gates", nargs="*", default=None, metavar="BLOCK", help=text)
    what.add_argument("--all", action="store_true", help="all gates, and the channels of all layers of the main path")
    options.add_units_option(what, "only these units of each layer and block")
    text = "what excites units, what suppresses them, or both (default: both)"
    what.add_argument("--signs", choices=list(SIGNS), default="both", help=text)
    text = "pictures of each unit and sign, from different noise (default: 1)"
    what.add_argument("--variants", type=positive_int, default=1, help=text)
    text = "an objective in which {goal} stands for the unit's own, as in '{goal} - 0.1*features.3:4'"
    what.add_argument("--objective", default="{goal}", help=text)
    what.add_argument("--images", metavar="DIR", help="folder of photographs: show those that excite each unit most")
    how = gallery.add_argument_group("how it is rendered")
    how.add_argument("--recipe", choices=list(PRESETS), default="clear", help="a preset of fv.render (default: clear)")
    options.add_ascent_options(how, steps=None, default_steps="those of the recipe", size=None)
    how.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of the network")
    how.add_argument("--batch", type=positive_int, default=16, help="tiles at a time (default: 16)")
    options.add_device_option(how)
    text = "where: in this process, or on a cluster of Ray (default: local)"
    how.add_argument("--engine", choices=[LOCAL, RAY], default=LOCAL, help=text)
    how.add_argument("--workers", type=positive_int, default=None, help="of Ray (default: one for each GPU or core)")
    how.add_argument("--address", default=None, help="of a cluster of Ray (default: a cluster on this machine)")
    how.add_argument("--dry-run", action="store_true", help="measure a few steps, and say how long it would take")
    gallery.set_defaults(run=_run_gallery)


def _run_gallery(args: argparse.Namespace) -> None:
    engine = _choose_engine(args)
    if not args.dry_run:
        check_writable(args.out)  # before a network is downloaded
    model = options.load_model(args)
    everything = ALL if args.all else ()
    made = plan(
        model, layers=args.layers or everything, gates=everything if args.gates is None else args.gates or ALL,
        units=options.read_units(args), signs=SIGNS[args.signs], variants=args.variants, objective=args.objective,
        recipe=args.recipe, batch=args.batch, steps=args.steps, size=args.size, seed=args.seed,
        runtime=Runtime(args.precision) if args.precision != "float32" else None,
    )  # fmt: skip
    if args.dry_run:
        print(estimate(made, model, device=args.device))
        return
    print(render_gallery(made, model, args.out, pictures=args.images, engine=engine, device=args.device))


def _choose_engine(args: argparse.Namespace) -> Engine:
    if args.engine == RAY:
        return RayEngine(workers=args.workers, address=args.address)
    if args.workers is not None or args.address is not None:
        raise InvalidInput("--workers and --address are options of Ray: add --engine ray")
    return render_here


def _add_timelapse(command: argparse.ArgumentParser) -> None:
    options.add_model_options(command)
    command.add_argument("spec", nargs="+", help="one or more objectives, a picture each")
    command.add_argument("--out", required=True, help="a file: .gif, .png, .webp or .mp4")
    options.add_device_option(command)
    options.add_ascent_options(command, steps=128)
    command.set_defaults(run=_run_timelapse)


def _run_timelapse(args: argparse.Namespace) -> None:
    goals = [parse(spec) for spec in args.spec]
    how = {"steps": args.steps, "size": args.size, "seed": args.seed, "device": args.device}
    print(timelapse(options.load_model(args), goals, args.out, **how))
