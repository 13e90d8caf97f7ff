"""Weights from a file, as training scripts save them: no code is run, and they are found in whatever is around."""

from __future__ import annotations

import argparse
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from featureviz.checks import holds_numbers
from featureviz.errors import ModelError
from featureviz.files import PathLike, open_file, show_path
from featureviz.objectives.latents.encoders import Dictionary

DEPTH = 3  # of dictionaries inside each other
AROUND = {"module", "_orig_mod"}  # what DataParallel and torch.compile put into the names of tensors
_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS: list[Any] = [  # options and best scores
    argparse.Namespace, np.dtype, type(np.dtype(float)), _SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"),
]  # fmt: skip
ENCODER = {  # the names of its tensors in files, here and elsewhere
    "weight": ("W_enc", "encoder.weight", "weight"), "bias": ("b_enc", "encoder.bias", "bias"),
    "centre": ("b_dec", "centre"), "threshold": ("threshold",),
}  # fmt: skip
_LOCK = threading.Lock()  # torch has one list of harmless types for all threads

State = Mapping[str, Tensor]


class Fit(NamedTuple):
    """Tensors of a file under the names of a network, where in the file they are, and how many of them fit."""

    place: str
    state: State
    fitting: int


def load_checkpoint(net: nn.Module, path: PathLike) -> None:
    """Load the weights in a file into ``net``.

    The file holds a state dict, alone or in dictionaries (``{"model": ...}``), with or without prefixes of its names
    (``module.``, ``model.``, ``_orig_mod.``). Of several the one that fits best is taken. Up to half of the network's
    tensors may be missing, with a warning: a file of features has no classifier.

    Raises:
        InvalidInput: there is no such file, or it is no regular one.
        ModelError: it cannot be read, or does not fit; the message says what it holds.
    """
    name, own = show_path(path), net.state_dict()
    states = find_states(read_checkpoint(path))
    if not states:
        raise ModelError(f"{name} holds no tensors; expected a state dict, name to tensor")
    fits = [fit_names(own, place, state) for place, state in states.items()]
    best = max(fits, key=lambda fit: fit.fitting)
    missing, wrong = _compare(own, best.state)
    if wrong or len(missing) > len(own) // 2:
        raise ModelError(_describe_misfit(name, net, best, states[best.place], missing, wrong))
    equal = [fit for fit in fits if fit.fitting == best.fitting and fit is not best]
    if others := [fit.place for fit in equal if _differ(own, fit.state, best.state)]:
        text = f"{name} holds several sets of weights; took {best.place!r}, not {_quote(others)}"
        warnings.warn(text, stacklevel=5)
    if missing:
        text = f"{name} lacks {len(missing)} tensors, which stay random; the first is {missing[0]!r}"
        warnings.warn(text, stacklevel=5)
    try:
        net.load_state_dict(best.state, strict=False)
    except Exception as error:  # such as tensors without values
        raise ModelError(f"{name} cannot be loaded into {type(net).__name__}: {_first_line(error)}") from error


def read_checkpoint(path: PathLike) -> Mapping[Any, Any]:
    """The dictionary in a file of torch or safetensors."""
    content = read_saved(
        path, "a state dict (.pt, .pth, .safetensors), as torch.save(net.state_dict(), path) writes it"
    )
    if not isinstance(content, Mapping):
        raise ModelError(f"{show_path(path)} holds a {type(content).__name__}; expected a state dict, name to tensor")
    return content


def read_dictionary(path: PathLike) -> Dictionary:
    """The encoder in a file of torch or safetensors, alone or in dictionaries.

    ``W_enc`` is ``[C,K]`` for C channels and K latents, ``weight`` and ``encoder.weight`` are ``[K,C]``. The file may
    also hold ``b_enc`` (or ``bias``) and ``threshold``, ``[K]``, and ``b_dec`` (or ``centre``), ``[C]``, which is
    subtracted from activations; where an encoder does not do so, that moves the score of a latent by a constant.

    Raises:
        InvalidInput: there is no such file, or the shapes do not fit each other.
        ModelError: it cannot be read, or holds no encoder.
    """
    states = find_states(read_checkpoint(path)).values()
    state = next((state for state in states if any(name in state for name in ENCODER["weight"])), None)
    if state is None:
        held = _quote([name for tensors in states for name in tensors]) or "none"
        raise ModelError(
            f"{show_path(path)} holds no encoder; its tensors: {held}; expected W_enc [C,K], weight [K,C] or"
            " encoder.weight [K,C]"
        )
    found = {key: next((state[n] for n in names if n in state), None) for key, names in ENCODER.items()}
    return Dictionary(
        state["W_enc"].transpose(0, -1) if "W_enc" in state else found["weight"], found["bias"], centre=found["centre"],
        activation="relu" if found["threshold"] is None else "jumprelu", threshold=found["threshold"],
    )  # fmt: skip


def read_saved(path: PathLike, expected: str) -> Any:
    """What ``torch.save`` or safetensors wrote to a file; nothing in the file is run.

    Raises:
        InvalidInput: there is no such file, or it is no regular one.
        ModelError: it cannot be read; the message names what was ``expected``.
    """
    with open_file(path) as file:
        head = file.read(9)
        file.seek(0)
        try:
            if head[8:] == b"{":  # of safetensors, after the length of its header
                return _read_safetensors(path)
            with _harmless_types():
                return torch.load(file, map_location="cpu", weights_only=True)
        except ModelError:
            raise
        except Exception as error:  # torch raises many types for files that it cannot read
            inner = error.__context__ or error  # torch puts advice to run the file's code before what went wrong
            forbidden = re.search(r"unsupported (?:global: )?(?:GLOBAL|class) (\S+)", str(inner), re.IGNORECASE)
            why = f"it would run {forbidden[1]}" if forbidden else f"{type(inner).__name__}: {_first_line(inner)}"
            raise ModelError(f"cannot read {show_path(path)}: {why}; expected {expected}") from error


def _read_safetensors(path: PathLike) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ModelError(f"{show_path(path)} needs safetensors to be read; pip install safetensors") from error
    return load_file(path)


@contextmanager
def _harmless_types() -> Iterator[None]:
    """Options and scores beside the weights are no reason to refuse a file."""
    with _LOCK:
        known = torch.serialization.get_safe_globals()
        with torch.serialization.safe_globals([t for t in HARMLESS if t not in known]):
            yield


def find_states(content: Mapping[Any, Any]) -> dict[str, State]:
    """Every dictionary that holds tensors by name, by its place in the file.

    >>> list(find_states({"model": {"w": torch.zeros(1)}, "epoch": 3, "more": {"ema": {"w": torch.ones(1)}}}))
    ['model', 'more.ema']
    """
    found, seen, todo = dict[str, State](), set[int](), [("", content)]
    while todo:
        place, inside = todo.pop(0)
        if id(inside) in seen or place.count(".") >= DEPTH:
            continue
        seen.add(id(inside))
        if state := {k: v for k, v in inside.items() if isinstance(k, str) and holds_numbers(v)}:
            found[place] = state
        todo += [(f"{place}.{k}".strip("."), v) for k, v in inside.items() if isinstance(v, Mapping)]
    return found


def fit_names(own: State, place: str, state: State) -> Fit:
    """The tensors under the names of the network: without what is around a part of it, and without the best prefix."""
    fits: list[Fit] = []
    for names in (list(state), [_drop_around(key) for key in state]):
        renamed = dict(zip(names, state.values(), strict=True))
        for prefix in _find_prefixes(own, renamed):
            short = {key.removeprefix(prefix): value for key, value in renamed.items() if key.startswith(prefix)}
            fitting = sum(key in own and own[key].shape == value.shape for key, value in short.items())
            fits.append(Fit(place, short, fitting))
    return max(fits, key=lambda fit: fit.fitting)


def _drop_around(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in AROUND)


def _find_prefixes(own: State, state: State) -> list[str]:
    """What is before the network's own names, the most frequent first; at most two, and none."""
    counts: dict[str, int] = {}
    for name in state:
        parts = name.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in own:
                prefix = ".".join(parts[:i]) + "."
                counts[prefix] = counts.get(prefix, 0) + 1
    return ["", *sorted(counts, key=lambda prefix: -counts[prefix])[:2]]


def _compare(own: State, state: State) -> tuple[list[str], list[str]]:
    """The names of the network that are missing, and those whose tensors have another shape."""
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    return missing, [k for k in own if k in state and state[k].shape != own[k].shape]


def _differ(own: State, one: State, other: State) -> bool:
    return any(not torch.equal(one[key].float(), other[key].float()) for key in own if key in one and key in other)


def _describe_misfit(
    name: str, net: nn.Module, best: Fit, held: State, missing: Sequence[str], wrong: Sequence[str]
) -> str:
    own = net.state_dict()
    text = f"{name} does not fit {type(net).__name__}: {len(missing)} of {len(own)} tensors are missing"
    if wrong:
        key = wrong[0]
        text += f", {len(wrong)} have another shape: {key!r} is {list(best.state[key].shape)} in the file and"
        return f"{text} {list(own[key].shape)} in the network; options make another network, as in NAME?num_classes=10"
    near = get_close_matches(missing[0], held, n=1, cutoff=0.5)
    place = f" under {best.place!r}" if best.place else ""
    text += f", such as {_quote(missing)}; the file holds {len(held)}{place}: {_quote(list(held))}"
    return text + (f"; nearest to {missing[0]!r} is {near[0]!r}" if near else "")


def _quote(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:150]
