"""Hostile specs: random texts, mutations of valid ones, planted ones, and the texts of random objectives."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from functools import partial
from typing import Any

import torch

import featureviz as fv
import objectives_zoo as zoo
from benchmarks.studies.hostile_cases import Case, Mismatch

TOKENS = (
    *"+-*/()[],:@^=\"'\\ \n\t.eE_#{}<>", "features.6", "stem", "0", "1", "17", "0.5", "1e3", "1e999", "9" * 50,
    "centre", "gate:", "gatevalue:", "gated:", "pregate:", "bottleneck:", "logit:", "direction:", "deepdream:", "input",
    "output", "l1(", "sparse_channel(", "diversity(", "tensor(", "None", "True", "nan", "inf", '"a b"', '"\\u00e9"',
    '"\\ud800"', "³", "é", "\0", "\ud800", "٣", "0:8", "[0:8:2]", "0-7", "penalty=",
)  # fmt: skip
VALID = (
    "features.6:17", "features.6:[0:8, 20:40:5]", "stem:17@3,4", "stem:1@centre", "-gate:a.b:17", "logit:[1, cat]",
    'logit:"golden retriever"', "deepdream:features.9", "direction:stem:[1, 0.5, -2]^2", '"conv-1":3 + (7)',
    "2*features.12:17 - 0.5*features.3:4", "[a:1, -b:2, 0.5*c:3*d:4]", "sparse_channel(stem, 3, penalty=0.5)",
    "(a:1 + b:2)*(c:3 - (1))/4", "l1(input, 0.5) - 2*diversity(features.6)",
)  # fmt: skip
PLANTED = (  # what is repeated, before and after the bar as often
    "(|)", "[|]", "-|", "((a:1|+1))", "9|:1", "a:1+|", "a:1*|", "a:1/2-|", '"|', "l1(|", " |", "a:[|]", "a:[0:65536]+|",
    "[a:[0:9],|]", "direction:a:[|]", "direction:a:[1,|]", "logit:[0:9,|]", "l1(a,[|])", "l1(a,-|", "a|:1", "a.|:1",
    "a:1@|", "tensor([|])", "x(|)", "\\|", "a:0:|", "1e|", ".|", "2*(|a:1)", "(a:1+(1))*|", "a:1-(|",
)  # fmt: skip
NAMES = (
    "stem", "features.6", "conv-1", 'a"b', "gate", "gate:x", "é", "1", "1.5", "", " ", "tensor", "None", "a\\b", "\n",
    "³", "centre", "input", "l1", "[0]", "a:b", "\ud800", "1e3",
)  # fmt: skip
FUNCTIONS: dict[str, Any] = {name: entry.make for name, entry in fv.zoo.installed().items()}


def make_specs(seed: int, count: int) -> list[Case]:
    """Random texts, mutations of valid specs, specs that were planted, and random objectives, in turn."""
    rng = random.Random(seed)
    planted = [repeat(text, times) for times in (60, 3_000, 100_000) for text in PLANTED]
    rng.shuffle(planted)
    cases = list[Case]()
    for i in range(count):
        if i % 4 == 3:
            cases.append(Case(f"objective {seed}:{i}", partial(read_back, f"{seed}:{i}")))
            continue
        text = mutate(rng.choice(VALID), rng)
        if i % 4 == 0:
            text = "".join(rng.choices(TOKENS, k=rng.randint(0, 30)))
        elif i % 4 == 1 and planted:
            text = planted.pop()
        cases.append(Case(f"parse({text[:80]!r})", partial(read, text)))
    return cases


def repeat(text: str, times: int) -> str:
    first, _, last = text.partition("|")
    return first * times + "a:1" * (last != "") + last * times


def mutate(text: str, rng: random.Random) -> str:
    """The text with parts left out, doubled, reversed or replaced."""
    for _ in range(rng.randint(1, 4)):
        i, j = sorted(rng.randint(0, len(text)) for _ in range(2))
        new = rng.choice(["", text[i:j] * 2, rng.choice(TOKENS), rng.choice(VALID), text[i:j][::-1]])
        text = text[:i] + new + text[rng.choice([i, j]) :]
    return text


def read(text: str) -> None:
    """Parse the text in less than a second; what parses is read back."""
    start, found = time.process_time(), None
    with suppress(fv.FeaturevizError):
        found = fv.parse(text, FUNCTIONS)
    took = time.process_time() - start
    if took > 1:
        raise Mismatch(f"{len(text)} characters took {took:.1f} s")
    if found is not None:
        check_read_back(found)


def read_back(seed: str) -> None:
    rng = random.Random(seed)
    check_read_back(make_objective(rng, rng.choice([1, 1, 2, 7])))


def check_read_back(made: fv.Objective) -> None:
    """The text of an objective gives the same objective."""
    try:
        found = fv.parse(repr(made), FUNCTIONS)
    except fv.FeaturevizError as error:
        raise Mismatch(f"{made!r:.100} is not read back: {error}") from error
    if describe(made) != describe(found):
        raise Mismatch(f"{made!r:.100} is read back as {found!r:.100}")


def describe(made: fv.Objective) -> list[Any]:
    """All that an objective is made of."""
    parts = made.named_modules(remove_duplicate=False)
    values = ("spec", "layers", "n", "weights", "constant", "across_batch")
    return [
        (name, type(part), *(getattr(part, value, None) for value in values), [b.tolist() for b in part.buffers(False)])
        for name, part in parts
    ]


def make_objective(rng: random.Random, n: int, depth: int = 0) -> fv.Objective:
    """A random objective for n images."""
    name, unit = rng.choice(NAMES), rng.choice([0, 1, 17, 65535, 10**6])
    units: Any = unit if n == 1 else [unit + i * rng.choice([1, 1, 3]) for i in range(n)]
    kind = rng.randrange(11 if depth < 3 else 8)
    if kind >= 8:
        terms = [make_objective(rng, n, depth + 1) for _ in range(rng.randint(1, 3))]
        total, numbers = terms[0], [0.1, -1.0, 7, 1e-300, 1e300, rng.gauss(0, 1) * 10.0 ** rng.randint(-30, 30)]
        for term in terms[1:]:
            total = total * term if kind == 8 else total + rng.choice(numbers) * term
        return rng.choice(numbers) * total + rng.choice([0, *numbers]) if kind == 9 else total
    vector = torch.randn(n, 3, generator=torch.Generator().manual_seed(unit))
    makers = [
        lambda: fv.Channel(name, units), lambda: fv.Neuron(name, units, rng.choice([0, 5]), 3),
        lambda: fv.DeepDream(name), lambda: fv.Direction(name, vector, rng.choice([0, 0.5])),
        lambda: fv.Logit(rng.choice([units, rng.choice(NAMES)])), lambda: zoo.sparse_channel(name, unit, rng.random()),
        lambda: rng.choice([fv.Gate, fv.GateValue, fv.GatedChannel, fv.PreGate, fv.Bottleneck])(name, units),
        lambda: fv.PerImage([make_objective(rng, 1, depth + 1) for _ in range(n)]),
    ]  # fmt: skip
    return makers[kind]()
