"""Specs: the text form of an objective.

``parse`` reads a spec, ``repr`` of an objective writes it:

    features.12:17              a channel                    gate:features.12.block.2:17    a gate's logit
    features.12:[3, 14, 15]     one channel for each image   logit:207                      a class
    features.12:[0:8, 20:40:5]  ranges: FIRST:END:STEP       logit:"golden retriever"       a class by label
    features.12:17@3,4          a neuron, row 3 column 4     deepdream:features.9           a whole layer
    features.12:17@centre       the neuron in the centre     direction:features.12:[1, 0.5, -2]^2
    blocks.5:17@cls             a unit of the class token    blocks.5:17@patch:3,4  @patches  @reg:0  @max  @token:7
    head:blocks.5.attn:2:17     unit 17 of an attention's head 2, before the heads are mixed
    sae:NAME:123                a latent of a dictionary that ``fv.dictionary`` has given to the model
    gatevalue:  gated:  pregate:  bottleneck:                used like gate:, see ``gate_leaves``
    "conv-1":17                 a layer whose name has other characters than letters, digits, "_" and "."

Text in quotes has the escapes of JSON. A range leaves out its end: ``[0:8]`` is 0 to 7, one image for each.

These combine with ``+``, ``-``, ``*``, division by a number and parentheses. A number that is added stands in
parentheses, ``features.12:17 + (7)``, because ``features.12:0-7`` looks like a range. ``[a, b, c]`` is one objective
for each image.

``name(features.12, 3, penalty=0.1)`` calls an entry of the zoo (``featureviz zoo`` lists them), or a function under
``@objective`` or a class of objectives that the caller gives to ``parse``. Arguments are numbers, text in quotes, True,
False, None, lists, ``tensor([1.0, 0.5])`` and objectives; the first one, a layer's name as a rule, needs no quotes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, NoReturn, final

from featureviz.checks import show
from featureviz.errors import InvalidInput, UnknownFunction, unknown
from featureviz.naming import KINDS, call_name, quote_layer, shorten
from featureviz.objectives.algebra import Objective, PerImage, Product, combine
from featureviz.objectives.function import ObjectiveFactory
from featureviz.objectives.gate_leaves import Bottleneck, Gate, GatedChannel, GateValue, PreGate
from featureviz.objectives.latents.latent import Latent
from featureviz.objectives.leaves import Channel, DeepDream, Direction, Logit, Neuron
from featureviz.objectives.text.reader import Reader
from featureviz.objectives.text.registry import checked, installed
from featureviz.objectives.tokens import KINDS as TOKENS
from featureviz.objectives.tokens import Head, Token

MOST = 10_000  # objectives in a spec
SITE_KINDS = {kind.KIND: kind for kind in (Gate, GateValue, GatedChannel, PreGate, Bottleneck)}


def parse(text: str, functions: Mapping[str, ObjectiveFactory] | None = None) -> Objective:
    """The objective that ``text`` describes; ``functions`` are functions and classes that it may call, by name.

    It may also call the entries of the zoo; a name among ``functions`` comes first.

    >>> parse("2*features.12:17 - 0.5*features.3:4")
    2*features.12:17 - 0.5*features.3:4
    >>> parse("-gate:features.12.block.2:[0:100]").n
    100

    Raises:
        SpecError: ``text`` is no spec; the message marks the position.
    """
    given = {} if functions is None else functions
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidInput(f"functions={show(functions)} was given; expected a dictionary of functions by name")
    own = {call_name(f): f for f in given.values() if call_name(f)}  # as their specs call them
    return _Parser(text, own | dict(given)).parse()


def parse_unit_list(text: str) -> list[int]:
    """The units that a range or a list names, with or without brackets.

    >>> parse_unit_list("0:3, 7"), parse_unit_list("[0:8:2]")
    ([0, 1, 2, 7], [0, 2, 4, 6])

    Raises:
        SpecError: ``text`` names no units; the message marks the position.
    """
    reader = Reader(text if str(text).lstrip().startswith("[") else f"[{text}]")
    units = reader.units()
    if reader.token:
        reader.fail("expected the end")
    return [units] if isinstance(units, int) else units


@final
class _Parser(Reader):
    """A recursive-descent parser."""

    def __init__(self, text: str, functions: Mapping[str, ObjectiveFactory]) -> None:
        super().__init__(text)
        self.functions, self.leaves = functions, 0
        self.channel = functools.cache(Channel)  # equal terms of a sum are one object

    def parse(self) -> Objective:
        value = self.expression()
        if self.token:
            self.fail("expected the end, '+', '-' or '*'")
        if not isinstance(value, Objective):
            self.fail("a number alone is not an objective; expected LAYER:CHANNEL", 0)
        return value

    # ------------------------------------------------------------------------------------------------------ expressions
    def expression(self) -> Objective | float:
        """A sum of products."""
        start, sign, bare = self.index, 1.0, list[int]()
        terms = list[tuple[float, Objective | float]]()
        while True:
            place, value = self.index, self.product()
            terms.append((sign, value))
            if not isinstance(value, Objective) and self.tokens[self.index - 1] != ")":
                bare.append(place)
            if self.token not in ("+", "-"):
                break
            sign = 1.0 if self.take() == "+" else -1.0
        if len(terms) == 1:
            return terms[0][1]
        numbers = [sign * value for sign, value in terms if not isinstance(value, Objective)]
        if len(numbers) == len(terms):
            return sum(numbers)
        if bare:
            self.fail_bare(bare[0])
        return self.build(start, combine, terms)

    def fail_bare(self, at: int) -> NoReturn:
        """A number was added that is not in parentheses: the second half of a range, perhaps."""
        message, last = "a number is added to an objective; write it in parentheses, (7)", self.tokens[at]
        before = self.text[: self.position(at)][-200:]
        found = re.search(r'("[^"]*"|[\w.:]+):([0-9]+)\s*-\s*$', before)
        if found and last.isdigit() and int(found[2]) < int(last):
            message += f". For the units {found[2]} to {last} write {found[1]}:[{found[2]}:{int(last) + 1}]"
        self.fail(message, at)

    def product(self) -> Objective | float:
        start, weight, times, factors = self.index, 1.0, True, list[Objective]()
        while True:
            place, value = self.index, self.factor()
            if isinstance(value, Objective) and times:
                factors.append(value)
            elif isinstance(value, Objective) or (value == 0 and not times):
                self.fail("expected a number other than 0 to divide by", place)
            else:
                weight = weight * value if times else weight / value
            if self.token not in ("*", "/"):
                break
            times = self.take() == "*"
        return self.build(start, _multiply, weight, factors) if factors else weight

    def factor(self) -> Objective | float:
        start, negative = self.index, False
        while self.token in ("+", "-"):
            negative ^= self.take() == "-"
        value = self.atom()
        if not negative:
            return value
        return self.build(start, _multiply, -1.0, [value]) if isinstance(value, Objective) else -value

    def atom(self) -> Objective | float:
        start = self.index
        if self.token == "(":
            return self.enclosed("()", self.expression)
        if self.token == "[":
            return self.build(start, PerImage, self.listed(self.expression))
        if self.at_number() and self.following != ":":
            return float(self.number())
        if self.leaves == MOST:
            self.fail(f"a spec of more than {MOST:,} objectives was given")
        self.leaves += 1
        return self.call() if self.at_word() and self.following == "(" else self.leaf()

    # ----------------------------------------------------------------------------------------------------------- leaves
    def leaf(self) -> Objective:
        start, kind = self.index, self.kind()
        self.index += 2 if kind else 0
        if kind == "logit":
            return self.build(start, Logit, self.classes())
        name = self.name("expected an objective such as features.12:17, gate:features.12.block.2:17 or logit:207")
        if kind == "deepdream":
            return self.build(start, DeepDream, name)
        self.expect(":", f"expected ':' and a channel after {show(name)}, as in {shorten(quote_layer(name), 100)}:0")
        if kind == "direction":
            vector = self.vector()
            return self.build(start, Direction, name, vector, self.signed() if self.skip("^") else 0.0)
        head = self.head() if kind == "head" else 0
        units = self.units()
        if kind == "head":
            return self.build(start, Head, name, head, units)
        if kind == "sae":
            return self.build(start, Latent, name, units)
        if kind:
            return self.build(start, SITE_KINDS[kind], name, units)
        if self.skip("@"):
            if self.token in TOKENS:
                return self.build(start, Token, name, units, *self.token_place())
            return self.build(start, Neuron, name, units, *self.place())
        return self.build(start, self.channel if isinstance(units, int) else Channel, name, units)

    def kind(self) -> str:
        """The word before the name of a layer; "" if there is none.

        Many networks call a module ``head``, so ``head:1`` is its channel 1.
        """
        if self.token not in KINDS or self.following != ":":
            return ""
        named = self.token not in ("head", "sae") or self.tokens[self.index + 3 : self.index + 4] == [":"]
        return self.token if named else ""

    def place(self) -> tuple[int, int] | tuple[None, None]:
        if self.skip("centre"):
            return None, None
        row = self.integer(f"expected @centre, a row and a column, @3,4, or one of @{', @'.join(TOKENS)}")
        self.expect(",", "expected ',' and a column, as in @3,4")
        return row, self.integer("expected a column, as in @3,4")

    def head(self) -> int:
        head = self.integer("expected a head and its unit, as in head:blocks.5.attn:2:17")
        self.expect(":", "expected ':' and the unit of the head, as in head:blocks.5.attn:2:17")
        return head

    def token_place(self) -> list[Any]:
        """Which token: a word, and after a colon as many numbers as it takes."""
        at, numbers = self.take(), list[int]()
        for i in range(TOKENS[at]):
            self.expect(",:"[i == 0], f"expected {TOKENS[at]} numbers after @{at}, as in @patch:3,4 or @reg:0")
            numbers.append(self.integer(f"expected {TOKENS[at]} numbers after @{at}, as in @patch:3,4 or @reg:0"))
        return [at, *numbers]

    def classes(self) -> int | str | list[int | str]:
        """A class by its index or its label, or the list that a list of classes and ranges stands for."""
        classes = list[int | str]()

        def read() -> None:
            if self.at_number() or self.token == ":":
                self.add_units(classes)
            else:
                expected = 'expected a class: an index, a word, or a label in quotes, logit:"golden retriever"'
                classes.append(self.name(expected))

        if self.token != "[":
            read()
            return classes[0]
        self.listed(read)
        return classes

    def vector(self) -> list[Any]:
        if self.token != "[":
            self.fail("expected a vector, as in direction:features.12:[1, 0.5, -2]")
        return self.listed(self.vector if self.following == "[" else self.signed)

    # ------------------------------------------------------------------------------------------------------------ calls
    def call(self) -> Objective:
        start, name = self.index, self.take()
        make = self.functions[name] if name in self.functions else self.entry(name, start)
        args, keywords = list[Any](), dict[str, Any]()

        def read() -> None:
            if self.token != ")":
                self.separated(lambda: self.argument(args, keywords))

        self.enclosed("()", read)
        made = self.build(start, checked(name, make), *args, **keywords)
        if not isinstance(made, Objective):
            self.fail(f"{name} gave {show(made)}; expected an objective", start)
        return made

    def entry(self, name: str, start: int) -> ObjectiveFactory:
        """What makes the objective of the zoo that is called so."""
        entries = self.build(start, installed)
        if name in entries:
            return entries[name].make
        hint = "`featureviz zoo` lists them; give one of your own to parse(text, {name: function or class})."
        error = unknown("objective function", shorten(name, 100), [*self.functions, *entries], hint)
        return self.fail(str(error), start, UnknownFunction)

    def argument(self, args: list[Any], keywords: dict[str, Any]) -> None:
        """Read ``value`` or ``name=value``."""
        if self.following != "=":
            if keywords:
                self.fail("expected name=value, as before")
            args.append(self.value(word=not args))
            return
        if not self.token.isidentifier() or self.token in keywords:
            self.fail("expected a name that was not given before '='")
        name = self.take()
        self.index += 1
        keywords[name] = self.value()


def _multiply(weight: float, factors: list[Objective]) -> Objective:
    return combine([(weight, factors[0] if len(factors) == 1 else Product(factors))])
