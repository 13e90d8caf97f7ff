"""Giving an ascent, in the memory that it has, other units of the same layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from featureviz.ascent import Ascent
from featureviz.crop import cropped
from featureviz.errors import InvalidInput
from featureviz.evaluate import prepared
from featureviz.image import Parameterization
from featureviz.objective import Objective


def retarget(
    ascent: Ascent,
    objective: Objective,
    image: Parameterization,
    *,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    start: int | Sequence[int] = 0,
) -> None:
    """Start ``ascent`` anew: its steps are those of a new one with this ``objective``, ``image`` and ``seed``.

    No tensor moves, so that a captured step serves the next units too. The learning rate stays as it is.

    Args:
        ascent: eager, or what a :class:`~featureviz.capture.Captured` holds.
        objective: of the same structure; what its buffers hold may differ, such as its units.
        image: likewise; its leaves are copied.
        seed: of the draws.
        numbers: the number of each image; 0, 1, 2... if left out.
        start: the step that keys its first draws; one an image only if ``ascent`` was made with one an image.

    Raises :class:`~featureviz.errors.InvalidInput` that names what else differs, and for Adagrad, which makes its state
    when it is made; nothing has changed then.
    """
    n, whole = len(ascent.image), prepared(objective, ascent.model)
    crop = cropped(ascent.model, whole, ascent.size)
    old, new = ascent.objective, whole if crop is None else crop.objective
    if numbers is not None and len(numbers) != n:
        raise InvalidInput(f"numbers={list(numbers)} was given for {n} images; expected one each")
    if not isinstance(start, int) and [len(start)] != list(ascent.rng.step.shape):
        raise InvalidInput(f"start={list(start)} was given; expected a step, as the Ascent was made with")
    if isinstance(ascent.optimizer, torch.optim.Adagrad):
        raise InvalidInput("Adagrad makes its state when it is made, so it cannot start anew; make a new Ascent")
    differing = [*_differences(old, new, "the objective"), *_differences(ascent.image, image, "the image")]
    if (crop and crop.box) != (ascent.crop and ascent.crop.box):
        differing.append("it sees another part of the views")
    if differing:
        raise InvalidInput(
            f"{objective.spec} and its image cannot take the place of {old.spec}: {'; '.join(differing)}. Make a new"
            " Ascent"
        )
    with torch.no_grad():
        for mine, theirs in zip(_tensors(ascent.image), _tensors(image), strict=True):
            mine.copy_(theirs)
        for before, after in zip(old.modules(), new.modules(), strict=True):
            for name, tensor in _own(before).items():
                setattr(after, name, tensor.copy_(_own(after)[name]))
        ascent.scores.zero_()
        ascent._done.zero_()
        ascent._failed_at.fill_(-1)
    ascent._whole, ascent.objective = whole, new
    ascent.crop = ascent.crop and replace(ascent.crop, objective=new)
    first = start if isinstance(start, int) else torch.tensor(start)
    ascent.rng.rekey(seed, n if numbers is None else torch.tensor(numbers), first)
    ascent.steps_done = 0
    renew(ascent.optimizer)


def renew(optimizer: torch.optim.Optimizer) -> None:
    """Let ``optimizer`` start from nothing: what its next step makes for state goes to where the old state is."""
    old = {leaf: dict(state) for leaf, state in optimizer.state.items()}
    if not old:
        return  # it has not made a step since it was made, or since the last time
    optimizer.state.clear()

    def settle(*_: Any) -> None:
        handle.remove()
        for leaf, state in old.items():
            for name, value in optimizer.state[leaf].items():
                place = state.get(name)
                if isinstance(place, Tensor) and isinstance(value, Tensor):
                    optimizer.state[leaf][name] = place.copy_(value)

    handle = optimizer.register_step_post_hook(settle)


def _differences(old: nn.Module, new: nn.Module, who: str) -> Iterator[str]:
    """What of ``new`` a step recorded with ``old`` would not see."""
    mine, theirs = dict(old.named_modules()), dict(new.named_modules())
    if {n: type(m) for n, m in mine.items()} != {n: type(m) for n, m in theirs.items()}:
        yield f"{who} is made of {_made_of(theirs)}, not of {_made_of(mine)}"
        return
    for path, module in mine.items():
        other = theirs[path]
        part = f"{who}'s {getattr(module, 'spec', path)}" if path else who
        free = {*vars(nn.Module()), *getattr(type(module), "IN_BUFFERS", ())}
        a, b = ({k: v for k, v in vars(m).items() if k not in free} for m in (module, other))
        for name in sorted(a.keys() | b.keys()):
            if name not in a or name not in b or not _same(a[name], b[name]):
                yield f"{part} has {name}={b.get(name)!r}, not {a.get(name)!r}"
        if _shapes(module) != _shapes(other):
            yield f"{part} holds {_shapes(other)}, not {_shapes(module)}"


def _made_of(modules: dict[str, nn.Module]) -> str:
    return " ".join(type(m).__name__ for m in modules.values())


def _own(module: nn.Module) -> dict[str, Tensor]:
    """Its buffers and parameters, without its parts'."""
    return {**dict(module.named_buffers(recurse=False)), **dict(module.named_parameters(recurse=False))}


def _tensors(module: nn.Module) -> list[Tensor]:
    return [tensor for part in module.modules() for tensor in _own(part).values()]


def _shapes(module: nn.Module) -> dict[str, tuple[Any, ...]]:
    return {name: (*t.shape, t.dtype, t.requires_grad) for name, t in _own(module).items()}


def _same(a: Any, b: Any) -> bool:
    """Whether it makes no difference which one a step was recorded with; in doubt it does."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool((a.cpu() == b.cpu()).all())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    return (a == b) is True
