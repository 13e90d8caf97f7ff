"""Specs: the text form of an objective.

``parse`` reads a spec, ``repr`` of an objective writes it:

    features.12:17              a channel                    gate:features.12.block.2:17    a gate's logit
    features.12:[3, 14, 15]     one channel for each image   logit:207                      a class
    features.12:17@3,4          a neuron, row 3 column 4     logit:"golden retriever"       a class by label
    features.12:17@centre       the neuron in the centre     deepdream:features.9           a whole layer
    direction:features.12:[1, 0.5, -2]^2                     dot product times cosine squared
    gatevalue:  gated:  pregate:  bottleneck:                used like gate:, see ``gate_leaves``
    "conv-1":17                 a layer whose name has other characters than letters, digits, "_" and "."

These combine with ``+``, ``-``, ``*``, division by a number and parentheses. ``[a, b, c]`` is one objective for each
image, ``name(layer, ...)`` calls a function that the caller passes to ``parse``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, NoReturn, final

from featureviz.errors import FeaturevizError, SpecError, unknown
from featureviz.naming import KINDS
from featureviz.objectives.algebra import Objective, PerImage
from featureviz.objectives.function import ObjectiveFactory
from featureviz.objectives.gate_leaves import Bottleneck, Gate, GatedChannel, GateValue, PreGate
from featureviz.objectives.leaves import Channel, DeepDream, Direction, Logit, Neuron

_NAME = r'[\w.]*\w|"[^"]+"'
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(?![\w.]*:)")
_CALL = re.compile(r'([A-Za-z_]\w*)\s*\(\s*([\w.: ]*[\w.]|"[^"]+")\s*(,|\))')
_SITE_KINDS = {kind.KIND: kind for kind in (Gate, GateValue, GatedChannel, PreGate, Bottleneck)}
_LEAF = re.compile(rf"(?:({'|'.join(KINDS)}):)?({_NAME})?")
_UNITS = re.compile(r"\d+|\[\s*\d+(\s*,\s*\d+)*\s*\]")
_PLACE = re.compile(r"@\s*(?:centre|(\d+)\s*,\s*(\d+))")
_VECTOR = re.compile(r"\[[-+\d.,eE\s\[\]]*\]")
_POWER = re.compile(r"\^(\d+\.?\d*)")
_CLASS = re.compile(r'"([^"]+)"|\w+')  # a label in quotes; an index or a label of one word


def parse(text: str, functions: Mapping[str, ObjectiveFactory] | None = None) -> Objective:
    """The objective that ``text`` describes; ``functions`` are the ``@fv.objective`` functions it may call, by name.

    >>> parse("2*features.12:17 - 0.5*features.3:4")
    2*features.12:17 - 0.5*features.3:4
    >>> parse("-gate:features.12.block.2:17").layers
    ('gate:features.12.block.2',)

    Raises:
        SpecError: the text is not a spec; the message marks the position.
        UnknownName: the text calls a function that is not in ``functions``.
    """
    return _Parser(text, functions or {}).parse()


@final
class _Parser:
    """A recursive-descent parser; ``position`` is the index of the next character."""

    def __init__(self, text: str, functions: Mapping[str, ObjectiveFactory]) -> None:
        self.text, self.functions, self.position = text, functions, 0

    def parse(self) -> Objective:
        value = self.parse_sum()
        if self.peek():
            self.fail("expected the end, '+', '-' or '*'")
        if not isinstance(value, Objective):
            self.position = 0
            self.fail("a number alone is not an objective; expected LAYER:CHANNEL")
        return value

    def parse_sum(self) -> Objective | float:
        value = self.parse_product()
        while self.peek() in ("+", "-"):
            plus = self.take() == "+"
            right = self.parse_product()
            value = value + right if plus else value - right
        return value

    def parse_product(self) -> Objective | float:
        value = self.parse_factor()
        while self.peek() in ("*", "/"):
            times, place = self.take() == "*", self.position
            right = self.parse_factor()
            if times:
                value = value * right
            elif isinstance(right, Objective) or right == 0:
                self.position = place
                self.fail("expected a number other than 0 to divide by")
            else:
                value = value / right
        return value

    def parse_factor(self) -> Objective | float:
        sign = self.peek()
        if sign in ("+", "-"):
            self.take()
            value = self.parse_factor()
            return value if sign == "+" else -value
        if sign == "(":
            self.take()
            value = self.parse_sum()
            self.expect(")")
            return value
        if sign == "[":
            return self.parse_per_image()
        if number := self.match(_NUMBER):
            return float(number[0])
        return self.parse_call() or self.parse_leaf()

    def parse_per_image(self) -> Objective:
        start, terms = self.position, []
        while self.peek() in ("[", ","):
            self.take()
            term = self.parse_sum()
            if not isinstance(term, Objective):
                self.fail("expected an objective, not a number")
            terms.append(term)
        self.expect("]")
        return self.build(start, PerImage, terms)

    def parse_call(self) -> Objective | None:
        start = self.position
        match = self.match(_CALL)
        if not match:
            return None
        name, layer = match[1], match[2].strip('"')
        if name not in self.functions:
            raise unknown("objective function", name, self.functions, "Pass it: parse(text, {name: function}).")
        end = _find_closing(self.text, self.text.index("(", start))
        if end is None:
            self.position = start
            self.fail("expected ')' to close this call")
        rest = self.text[match.end() : end] if match[3] == "," else ""
        arguments = self.evaluate(f"[{rest}]", "expected numbers, strings or lists of them")
        self.position = end + 1
        return self.build(start, self.functions[name], layer, *arguments)

    def parse_leaf(self) -> Objective:
        start = self.position
        match = self.match(_LEAF)
        kind, name = (match[1], match[2]) if match else (None, None)
        if kind == "logit":
            return self.parse_logit(start)
        if not name:
            self.position = start
            self.fail("expected an objective such as features.12:17, gate:features.12.block.2:17 or logit:207")
        name = name.strip('"')
        if kind == "deepdream":
            return self.build(start, DeepDream, name)
        self.expect(":", f"expected ':' and a channel after {name!r}, as in {name}:0")
        if kind == "direction":
            return self.parse_direction(start, name)
        units = self.parse_units()
        if kind in _SITE_KINDS:
            return self.build(start, _SITE_KINDS[kind], name, units)
        place = self.match(_PLACE)
        if not place:
            return self.build(start, Channel, name, units)
        y, x = (int(place[1]), int(place[2])) if place[1] else (None, None)
        return self.build(start, Neuron, name, units, y, x)

    def parse_logit(self, start: int) -> Objective:
        self.position = start + len("logit:")
        several = self.peek() == "["
        classes: list[int | str] = []
        while not classes or (several and self.peek() == ","):
            if several:
                self.take()
            match = self.read(
                _CLASS, 'expected a class: an index, a word, or a label in quotes, logit:"golden retriever"'
            )
            classes.append(match[1] or (int(match[0]) if match[0].isdigit() else match[0]))
        if several:
            self.expect("]")
        return self.build(start, Logit, classes if several else classes[0])

    def parse_direction(self, start: int, name: str) -> Objective:
        opening = self.read(_VECTOR, "expected a vector, as in direction:features.12:[1, 0.5, -2]").start()
        self.position = opening
        end = _find_closing(self.text, opening) or opening
        vector = self.evaluate(self.text[opening : end + 1], "expected numbers with commas between [ and ]")
        self.position = end + 1
        power = self.match(_POWER)
        return self.build(start, Direction, name, vector, float(power[1]) if power else 0.0)

    def parse_units(self) -> int | list[int]:
        match = self.read(_UNITS, "expected a channel, 17, or one for each image, [3, 14, 15]")
        numbers = [int(n) for n in re.findall(r"\d+", match[0])]
        return numbers if match[0].startswith("[") else numbers[0]

    def build(self, start: int, make: Any, *args: Any) -> Objective:
        """``make(*args)``; the message of an error marks ``start``."""
        try:
            return make(*args)
        except FeaturevizError as error:
            self.position = start
            self.fail(str(error))

    def evaluate(self, literal: str, expected: str) -> list[Any]:
        try:
            return ast.literal_eval(literal)
        except (SyntaxError, ValueError):
            self.fail(expected)

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The match at ``position``, which goes to its end, or None."""
        match = pattern.match(self.text, self.position)
        self.position = match.end() if match else self.position
        return match

    def read(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        """The match after spaces; an error if there is none."""
        self.peek()
        return self.match(pattern) or self.fail(expected)

    def peek(self) -> str:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def take(self) -> str:
        sign = self.peek()
        self.position += 1
        return sign

    def expect(self, sign: str, message: str = "") -> None:
        if self.peek() != sign:
            self.fail(message or f"expected {sign!r}")
        self.position += 1

    def fail(self, message: str) -> NoReturn:
        raise SpecError(f"{message}\n  {self.text}\n  {' ' * self.position}^ position {self.position}") from None


def _find_closing(text: str, opening: int) -> int | None:
    """The index of the bracket that closes the one at ``opening``; None if there is none."""
    depth = 0
    for i in range(opening, len(text)):
        depth += (text[i] in "([") - (text[i] in ")]")
        if depth == 0:
            return i
    return None
