"""Spec strings: objectives as people write them, parsed into objectives and printed back by ``repr``.

    features.12:17              a channel                    gate:features.12.block.2:17    a gate's logit
    features.12:[3, 14, 15]     one channel an image         logit:207                      a class
    features.12:17@3,4          a neuron, row 3 column 4     logit:"golden retriever"       a class by label
    features.12:17@centre       the neuron in the middle     deepdream:features.9           a whole layer
    direction:features.12:[1, 0.5, -2]^2                     dot product times cosine squared
    gatevalue: gated: pregate: bottleneck:                      as gate:, see featureviz.objectives.gate_leaves
    "conv-1":17                 any other layer's name

with ``+ - *``, division by a number, parentheses, ``[a, b, c]`` for one objective an image, and ``name(layer, ...)``
for functions that the caller hands in.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from featureviz.errors import FeaturevizError, SpecError, unknown
from featureviz.objectives.algebra import Objective, PerImage
from featureviz.objectives.function import ObjectiveFactory
from featureviz.objectives.gate_leaves import Bottleneck, GatedChannel, GateValue, PreGate
from featureviz.objectives.leaves import Channel, DeepDream, Direction, Gate, Logit, Neuron

_NAME = r'[\w.]*\w|"[^"]+"'
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(?![\w.]*:)")
_CALL = re.compile(r'([A-Za-z_]\w*)\s*\(\s*([\w.: ]*[\w.]|"[^"]+")\s*(,|\))')
_OF_SITE = {"gate": Gate, "gatevalue": GateValue, "gated": GatedChannel, "pregate": PreGate, "bottleneck": Bottleneck}
_LEAF = re.compile(rf"(?:({'|'.join([*_OF_SITE, 'direction', 'deepdream', 'logit'])}):)?({_NAME})?")
_UNITS = re.compile(r"\d+|\[\s*\d+(\s*,\s*\d+)*\s*\]")
_PLACE = re.compile(r"@\s*(?:centre|(\d+)\s*,\s*(\d+))")
_VECTOR = re.compile(r"\[[-+\d.,eE\s\[\]]*\]")
_POWER = re.compile(r"\^(\d+\.?\d*)")
_LABEL = re.compile(r'"([^"]+)"')


def parse(text: str, functions: Mapping[str, ObjectiveFactory] | None = None) -> Objective:
    """The objective that ``text`` writes.

    >>> parse("2*features.12:17 - 0.5*features.3:4")
    2*features.12:17 - 0.5*features.3:4
    >>> parse("-gate:features.12.block.2:17").layers
    ('gate:features.12.block.2',)

    Raises:
        SpecError: with the position, where the text is not a spec.
    """
    return _Parser(text, functions or {}).everything()


class _Parser:
    def __init__(self, text: str, functions: Mapping[str, ObjectiveFactory]) -> None:
        self.text, self.functions, self.at = text, functions, 0

    def everything(self) -> Objective:
        value = self.sum()
        if self.peek():
            self.fail("expected the end, '+', '-' or '*'")
        if not isinstance(value, Objective):
            self.at = 0
            self.fail("a number alone is not an objective; expected LAYER:CHANNEL")
        return value

    def sum(self) -> Objective | float:
        value = self.product()
        while self.peek() in ("+", "-"):
            plus = self.take() == "+"
            right = self.product()
            value = value + right if plus else value - right
        return value

    def product(self) -> Objective | float:
        value = self.factor()
        while self.peek() in ("*", "/"):
            times, place = self.take() == "*", self.at
            right = self.factor()
            if times:
                value = value * right
            elif isinstance(right, Objective) or right == 0:
                self.at = place
                self.fail("expected a number other than 0 to divide by")
            else:
                value = value / right
        return value

    def factor(self) -> Objective | float:
        sign = self.peek()
        if sign in ("+", "-"):
            self.take()
            value = self.factor()
            return value if sign == "+" else -value
        if sign == "(":
            self.take()
            value = self.sum()
            self.expect(")")
            return value
        if sign == "[":
            return self.per_image()
        number = _NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
            return float(number[0])
        return self.call() or self.leaf()

    def per_image(self) -> Objective:
        start, parts = self.at, []
        while self.peek() in ("[", ","):
            self.take()
            part = self.sum()
            if not isinstance(part, Objective):
                self.fail("expected an objective, not a number")
            parts.append(part)
        self.expect("]")
        return self.built(start, PerImage, parts)

    def call(self) -> Objective | None:
        found = _CALL.match(self.text, self.at)
        if not found:
            return None
        start, name = self.at, found[1]
        if name not in self.functions:
            raise unknown("objective function", name, self.functions, "Hand it in: parse(text, {name: function}).")
        end = _closing(self.text, self.text.index("(", start))
        if end is None:
            self.fail("expected ')' to close this call")
        rest = self.text[found.end() : end] if found[3] == "," else ""
        try:
            arguments = ast.literal_eval(f"[{rest}]")
        except (SyntaxError, ValueError):
            self.at = found.end()
            self.fail("expected numbers, strings or lists of them")
        self.at = end + 1
        return self.built(start, self.functions[name], found[2].strip('"'), *arguments)

    def leaf(self) -> Objective:
        start = self.at
        found = _LEAF.match(self.text, self.at)
        kind, name = (found[1], found[2]) if found else (None, None)
        if kind == "logit":
            return self.logit(start)
        if not found or not name:
            self.fail("expected an objective such as features.12:17, gate:features.12.block.2:17 or logit:207")
        self.at, name = found.end(), name.strip('"')
        if kind == "deepdream":
            return self.built(start, DeepDream, name)
        self.expect(":", f"expected ':' and a channel after {name!r}, as in {name}:0")
        if kind == "direction":
            return self.direction(start, name)
        units = self.units()
        if kind in _OF_SITE:
            return self.built(start, _OF_SITE[kind], name, units)
        place = _PLACE.match(self.text, self.at)
        if not place:
            return self.built(start, Channel, name, units)
        self.at = place.end()
        y, x = (int(place[1]), int(place[2])) if place[1] else (None, None)
        return self.built(start, Neuron, name, units, y, x)

    def logit(self, start: int) -> Objective:
        self.at = start + len("logit:")
        several = self.peek() == "["
        wanted: list[int | str] = []
        while not wanted or (several and self.peek() == ","):
            if several:
                self.take()
            self.peek()
            label, units = _LABEL.match(self.text, self.at), re.compile(r"\w+").match(self.text, self.at)
            found = label or units
            if not found:
                self.fail('expected a class: an index, a word, or a label in quotes, logit:"golden retriever"')
            self.at = found.end()
            wanted.append(label[1] if label else int(found[0]) if found[0].isdigit() else found[0])
        if several:
            self.expect("]")
        return self.built(start, Logit, wanted if several else wanted[0])

    def direction(self, start: int, name: str) -> Objective:
        self.peek()
        found = _VECTOR.match(self.text, self.at)
        if not found:
            self.fail("expected a vector, as in direction:features.12:[1, 0.5, -2]")
        end = _closing(self.text, self.at)
        try:
            vector = ast.literal_eval(self.text[self.at : (end or -2) + 1])
        except (SyntaxError, ValueError):
            self.fail("expected numbers with commas between [ and ]")
        self.at = (end or self.at) + 1
        power = _POWER.match(self.text, self.at)
        self.at = power.end() if power else self.at
        return self.built(start, Direction, name, vector, float(power[1]) if power else 0.0)

    def units(self) -> int | list[int]:
        self.peek()
        found = _UNITS.match(self.text, self.at)
        if not found:
            self.fail("expected a channel, 17, or one an image, [3, 14, 15]")
        self.at = found.end()
        numbers = [int(n) for n in re.findall(r"\d+", found[0])]
        return numbers if found[0].startswith("[") else numbers[0]

    def built(self, start: int, make: Any, *args: Any) -> Objective:
        """``make(*args)``, its complaint placed at ``start``."""
        try:
            return make(*args)
        except FeaturevizError as error:
            self.at = start
            self.fail(str(error))

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        sign = self.peek()
        self.at += 1
        return sign

    def expect(self, sign: str, message: str = "") -> None:
        if self.peek() != sign:
            self.fail(message or f"expected {sign!r}")
        self.at += 1

    def fail(self, message: str) -> NoReturn:
        raise SpecError(f"{message}\n  {self.text}\n  {' ' * self.at}^ position {self.at}") from None


def _closing(text: str, opening: int) -> int | None:
    """Where the bracket at ``opening`` closes."""
    depth = 0
    for i in range(opening, len(text)):
        depth += (text[i] in "([") - (text[i] in ")]")
        if depth == 0:
            return i
    return None
