"""Command-line options that the ``featureviz`` command and the scripts share, each defined once."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from featureviz.errors import FeaturevizError, InvalidInput
from featureviz.models import load
from featureviz.models.checkpoint import read_dictionary
from featureviz.models.weights import DEFAULT
from featureviz.network.model import TappedModel
from featureviz.objectives.function import ObjectiveFactory
from featureviz.objectives.latents.encoders import dictionary
from featureviz.objectives.spec import parse_unit_list
from featureviz.objectives.text import registry as zoo


def add_model_options(parser: argparse._ActionsContainer) -> None:
    """``model``, ``--weights`` and ``--input``, which ``load_model`` reads."""
    parser.add_argument("model", help="embedded, torchvision:NAME or timm:NAME")
    parser.add_argument("--weights", default="default", help="path to a state dict, or none for random weights")
    parser.add_argument("--input", type=positive_int, default=None, help="the network's input size in pixels")


def load_model(args: argparse.Namespace, *, listing: bool = False) -> TappedModel:
    """The network that the options of ``add_model_options`` name; for ``listing`` its names, nothing is downloaded."""
    random = args.weights == "none" or (listing and args.weights == DEFAULT)
    return load(args.model, weights=None if random else args.weights, size=args.input)


def add_ascent_options(
    parser: argparse._ActionsContainer, *, steps: int | None, default_steps: str = "", size: int | None = 128
) -> None:
    """``--steps``, ``--size`` and ``--seed``; ``default_steps`` replaces the default in the help text."""
    text = f"steps of ascent (default: {default_steps or steps})"
    parser.add_argument("--steps", type=positive_int, default=steps, help=text)
    text = f"image size in pixels (default: {size or 'that of the recipe'})"
    parser.add_argument("--size", type=positive_int, default=size, help=text)
    parser.add_argument("--seed", type=int, default=0, help="of the noise and the random views (default: 0)")


def add_device_option(parser: argparse._ActionsContainer) -> None:
    """``--device``."""
    parser.add_argument("--device", default=None, help="cpu, cuda or mps (default: cpu)")


def add_objectives_option(parser: argparse._ActionsContainer) -> None:
    """``--objectives``; ``read_objectives`` gives what specs may call."""
    text = "Python file with objectives of your own, each under @fv.zoo.entry(EXAMPLE)"
    parser.add_argument("--objectives", metavar="FILE", default=None, help=text)


def read_objectives(args: argparse.Namespace) -> dict[str, ObjectiveFactory]:
    """The objectives of the file that ``--objectives`` names."""
    entries = {} if args.objectives is None else zoo.read_file(args.objectives)
    return {name: entry.make for name, entry in entries.items()}


def add_dictionary_option(parser: argparse._ActionsContainer) -> None:
    """``--dictionary``, which ``add_dictionaries`` reads."""
    text = (
        "a dictionary, such as a sparse autoencoder, whose latent 123 is the spec sae:NAME:123; the file (.pt or"
        " .safetensors) holds W_enc [C,K] or weight [K,C], and may hold b_enc [K] and b_dec [C]"
    )
    parser.add_argument("--dictionary", metavar="NAME=LAYER:FILE", action="append", default=[], help=text)


def add_dictionaries(args: argparse.Namespace, model: TappedModel) -> TappedModel:
    """A model that has the dictionaries of ``--dictionary``."""
    for text in args.dictionary:
        name, _, place = text.partition("=")
        layer, _, file = place.rpartition(":")
        if not (name and layer and file):
            raise InvalidInput(
                f"--dictionary {text!r} was given; expected NAME=LAYER:FILE, as in demo=features.6:demo.safetensors"
            )
        model = dictionary(model, layer, read_dictionary(file), name=name)
    return model


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
    try:
        value = int(text)
    except ValueError:  # also of a number with thousands of digits
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text.strip()[:20]!r} was given; expected a whole number of at least 1")
    return value


def protect_specs(arguments: Sequence[str]) -> list[str]:
    """Arguments in which argparse does not take a spec with a leading minus for an option: a space precedes it.

    >>> protect_specs(["render", "-gate:a:1", "-2*a:1", "--seed", "-3"])
    ['render', ' -gate:a:1', ' -2*a:1', '--seed', '-3']
    """
    return [f" {a}" if re.match(r"-(?!-)(?!\d*\.?\d+$)..", a) else a for a in arguments]


def run_command(program: str, work: Callable[[], object]) -> int:
    """Do the work of ``program`` and return its exit code: 0, 2 after an error, 130 after Ctrl-C.

    An error becomes one line on stderr. A reader of standard output that has read enough (``| head``) is no error.
    """
    _prepare_streams()
    code = _run(program, work)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _stop_writing(program, error) or code
    return code


def _run(program: str, work: Callable[[], object]) -> int:
    try:
        work()
    except SystemExit as end:  # of argparse, after the help or a wrong usage
        return _fail(program, end.code) if isinstance(end.code, str) else int(end.code or 0)
    except FeaturevizError as error:
        return _fail(program, str(error))
    except KeyboardInterrupt as error:
        return _fail(program, f"interrupted; {error}" if str(error) else "interrupted", 130)
    except OSError as error:
        return _stop_writing(program, error)
    return 0


def _prepare_streams() -> None:
    """Let anything be printed: bytes of names that are not UTF-8, and where a stream was closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nothing = open(os.devnull, "w", errors="backslashreplace")  # noqa: SIM115 - until the process ends
            setattr(sys, name, nothing)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stop_writing(program: str, error: OSError) -> int:
    """The exit code after an error of the system, mostly of standard output, to which nothing more is written."""
    with suppress(OSError, ValueError), open(os.devnull, "w") as nothing:  # a stream may have no file, as in a test
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 0
    place = f" ({error.filename})" if error.filename else ""
    return _fail(program, f"{error.strerror or error}{place}; give another place to write to")


def _fail(program: str, message: str, code: int = 2) -> int:
    with suppress(OSError):  # stderr may be full too
        print(f"{program}: {message}", file=sys.stderr, flush=True)
    return code
