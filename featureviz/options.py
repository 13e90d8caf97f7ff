"""Command-line options that the ``featureviz`` command and the scripts share, each defined once."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence

from featureviz.errors import FeaturevizError
from featureviz.models import load
from featureviz.network.model import TappedModel
from featureviz.objectives.spec import parse_unit_list


def add_model_options(parser: argparse._ActionsContainer) -> None:
    """``model``, ``--weights`` and ``--input``, which ``load_model`` reads."""
    parser.add_argument("model", help="embedded, torchvision:NAME or timm:NAME")
    parser.add_argument("--weights", default="default", help="path to a state dict, or none for random weights")
    parser.add_argument("--input", type=positive_int, default=None, help="the network's input size in pixels")


def load_model(args: argparse.Namespace) -> TappedModel:
    """The network that the options of ``add_model_options`` name."""
    return load(args.model, weights=None if args.weights == "none" else args.weights, size=args.input)


def add_ascent_options(parser: argparse._ActionsContainer, *, steps: int | None, default_steps: str = "") -> None:
    """``--steps``, ``--size`` and ``--seed``; ``default_steps`` replaces the default in the help text."""
    text = f"steps of ascent (default: {default_steps or steps})"
    parser.add_argument("--steps", type=positive_int, default=steps, help=text)
    parser.add_argument("--size", type=positive_int, default=128, help="image size in pixels (default: 128)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and the random views (default: 0)")


def add_device_option(parser: argparse._ActionsContainer) -> None:
    """``--device``."""
    parser.add_argument("--device", default=None, help="cpu, cuda or mps (default: cpu)")


def add_units_option(parser: argparse._ActionsContainer, text: str) -> None:
    """``--units``; ``read_units`` gives the list of them."""
    form = "a list of indices and ranges FIRST:END or FIRST:END:STEP without END, as in 3 14 or 0:8,20"
    parser.add_argument("--units", type=unit_list, nargs="+", default=None, metavar="UNITS", help=f"{text}: {form}")


def read_units(args: argparse.Namespace) -> list[int] | None:
    """All units that ``--units`` names; None without the option."""
    return None if args.units is None else [unit for units in args.units for unit in units]


def unit_list(text: str) -> list[int]:
    """An argument that names units as a spec does, without brackets if you like; ``2-4`` is read as ``2:5``.

    >>> unit_list("0:3,7"), unit_list("[0:8:2]"), unit_list("2-4")
    ([0, 1, 2, 7], [0, 2, 4, 6], [2, 3, 4])
    """
    both = re.fullmatch(r"\s*([0-9]{1,10})-([0-9]{1,10})\s*", text)
    try:
        return parse_unit_list(f"{both[1]}:{int(both[2]) + 1}" if both else text)
    except FeaturevizError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive_int(text: str) -> int:
    """An argument that must be a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} was given; expected at least 1")
    return value


def protect_specs(arguments: Sequence[str]) -> list[str]:
    """Arguments in which argparse does not take a spec with a leading minus for an option: a space precedes it.

    >>> protect_specs(["render", "-gate:a:1", "-2*a:1", "--seed", "-3"])
    ['render', ' -gate:a:1', ' -2*a:1', '--seed', '-3']
    """
    return [f" {a}" if re.match(r"-(?!-)(?!\d*\.?\d+$)..", a) else a for a in arguments]


def run_command(program: str, work: Callable[[], object]) -> int:
    """Do the work of ``program`` and return its exit code: 0, or 2 after an error of featureviz, 130 after Ctrl-C.

    An error becomes one line on stderr.
    """
    try:
        work()
    except FeaturevizError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    return 0
