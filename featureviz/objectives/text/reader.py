"""Reads the text of a spec: its tokens, the values in it, and errors that mark their place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import islice
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from featureviz.checks import show
from featureviz.errors import FeaturevizError, InvalidInput, SpecError
from featureviz.naming import CONSTANTS, MOST_INDEX, NUMBER, WORD, check_count, expand_range, shorten

T = TypeVar("T")

LONGEST, LONGEST_NUMBER, DEEPEST = 500_000, 400, 50  # characters of a spec and of a number, brackets in brackets
AROUND = 60  # characters that an error shows on either side of its position

_TOKEN = re.compile(rf'\s*+({NUMBER}|{WORD}|"(?:[^"\\]++|\\.)*+"?+|\S)', re.S)
_NUMBER, _WORD = re.compile(NUMBER), re.compile(WORD)


class Reader:
    """Reads the values of a text, token after token; ``index`` is that of the next one.

    Two empty tokens mark the end. Every error is a ``SpecError`` that marks its place.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise SpecError(f"{show(text)} was given; expected a spec, which is text such as 'features.12:17'")
        if len(text) > LONGEST:
            raise SpecError(f"a spec of {len(text):,} characters was given; expected at most {LONGEST:,}")
        self.text = text.rstrip()
        self.tokens = [*_TOKEN.findall(self.text), "", ""]
        self.index = self.depth = self.unit_count = 0

    @property
    def token(self) -> str:
        return self.tokens[self.index]

    @property
    def following(self) -> str:
        return self.tokens[self.index + 1] if self.token else ""

    def at_number(self) -> bool:
        return _NUMBER.fullmatch(self.token) is not None

    def at_word(self) -> bool:
        return _WORD.fullmatch(self.token) is not None

    def take(self) -> str:
        self.index += 1
        return self.tokens[self.index - 1]

    def skip(self, token: str) -> bool:
        """Go past the token if it is the next one."""
        found = self.token == token
        self.index += found
        return found

    def expect(self, token: str, message: str = "") -> None:
        if not self.skip(token):
            self.fail(message or f"expected {token!r} or ','")

    def enclosed(self, brackets: str, read: Callable[[], T]) -> T:
        """What ``read`` reads between two brackets."""
        self.expect(brackets[0])
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"brackets are nested more than {DEEPEST} deep")
        value = read()
        self.expect(brackets[1])
        self.depth -= 1
        return value

    def separated(self, read: Callable[[], T]) -> list[T]:
        """What ``read`` reads, one after the other, with commas between them."""
        values = [read()]
        while self.skip(","):
            values.append(read())
        return values

    def listed(self, read: Callable[[], T]) -> list[T]:
        return self.enclosed("[]", lambda: self.separated(read))

    def name(self, expected: str) -> str:
        """A word, or text in quotes."""
        if self.token.startswith('"'):
            return self.quoted()
        return self.take() if self.at_word() else self.fail(expected)

    def quoted(self) -> str:
        try:
            text = json.loads(self.token, strict=False)
        except ValueError:
            self.fail('expected a closing ", and no escapes but those of JSON')
        self.index += 1
        return text

    def number(self) -> int | float:
        """A whole number, or a float where it has a point or an exponent."""
        if not self.at_number():
            self.fail("expected a number")
        if len(self.token) > LONGEST_NUMBER:
            self.fail(f"a number of {len(self.token):,} characters was given; expected at most {LONGEST_NUMBER}")
        token = self.take()
        return int(token) if token.isdigit() else float(token)

    def signed(self) -> int | float:
        negative = self.token == "-"
        self.index += self.token in ("+", "-")
        value = self.number()
        return (-value or -0.0) if negative else value

    def integer(self, expected: str) -> int:
        """An index."""
        if not self.at_number() or not self.token.isdigit():
            self.fail(expected)
        digits = self.token.lstrip("0") or "0"
        if len(digits) > 10 or int(digits) > MOST_INDEX + 1:  # which may be the end of a range
            self.fail(f"expected an index from 0 to {MOST_INDEX}")
        self.index += 1
        return int(digits)

    def units(self) -> int | list[int]:
        """One index, or the list of them that a list of indices and ranges stands for."""
        if self.token == "[":
            units = list[int]()
            self.listed(lambda: self.add_units(units))
            return units
        unit = self.integer("expected a channel, 17, or one for each image, [3, 14, 15] or [0:8]")
        if self.token == ":":
            self.fail("a range is in brackets, as in [0:8]")
        return unit

    def add_units(self, units: list[Any]) -> None:
        """Append an index, or the indices of a range."""
        start, before = self.index, len(units)
        first = 0 if self.token == ":" else self.integer("expected an index, 17, or a range, 0:8")
        if self.skip(":"):
            end = self.integer("expected the end of the range, as in [0:8]")
            step = self.integer("expected a step, as in [0:8:2]") if self.skip(":") else 1
            units.extend(self.build(start, expand_range, first, end, step))
        else:
            units.append(first)
        self.unit_count += len(units) - before
        self.build(start, check_count, self.unit_count)  # of the whole spec, or it would take minutes

    def value(self, *, word: bool = False) -> Any:
        """An argument of a call; ``word`` says whether text may be without quotes."""
        start, token, ends = self.index, self.token, (",", ")", "]")
        if token == "[":
            return self.enclosed("[]", lambda: [] if self.token == "]" else self.separated(self.value))
        if token == "<":
            self.fail("<...> stands for a value that a spec cannot hold; make this objective in Python")
        if token == "tensor" and self.following == "(":
            self.index += 1
            return self.build(start, _to_tensor, self.enclosed("()", self.value))
        if token in ("+", "-") and self.tokens[self.index + 2] in ends:
            return self.signed()
        return self.literal(word) if self.following in ends else self.expression()

    def literal(self, word: bool) -> Any:
        """A value of one token."""
        if self.token.startswith('"'):
            return self.quoted()
        if self.token in CONSTANTS:
            return CONSTANTS[self.take()]
        if self.at_number():
            return self.number()
        if not word or not self.at_word():
            self.fail("expected a number, text in double quotes, True, False, None, a list or an objective")
        return self.take()

    def expression(self) -> Any:
        """An argument that is none of these."""
        self.fail("expected a value")

    def build(self, start: int, make: Callable[..., T], /, *args: Any, **keywords: Any) -> T:
        """``make(*args, **keywords)``; an error marks the token ``start``."""
        try:
            return make(*args, **keywords)
        except FeaturevizError as error:
            self.fail(str(error), start)
        except Exception as error:  # of a function or class that the caller gave, whatever it raises
            name = getattr(make, "__name__", type(make).__name__)
            self.fail(f"{name}: {type(error).__name__}: {error}", start, cause=error)

    def position(self, at: int) -> int:
        """The character at which a token begins."""
        match = next(islice(_TOKEN.finditer(self.text), at, None), None)
        return match.start(1) if match else len(self.text)

    def fail(
        self, message: str, at: int | None = None, kind: type[Exception] = SpecError, cause: Exception | None = None
    ) -> NoReturn:
        """Raise an error that marks the token ``at``, the next one by default, in the text around it."""
        place = self.position(self.index if at is None else at)
        first, last = max(0, place - AROUND), place + AROUND
        before = ("..." if first else "") + self.text[first:place]
        after = self.text[place:last] + ("..." if last < len(self.text) else "")
        shown = "".join(c if c.isprintable() else " " for c in before + after)
        raise kind(f"{shorten(message, 1000)}\n  {shown}\n  {' ' * len(before)}^ position {place}") from cause


def _to_tensor(values: Any) -> Tensor:
    try:
        made = torch.tensor(values, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"tensor({show(values)}): {error}; expected numbers in lists of equal length") from None
    return made.float() if made.is_floating_point() else made
