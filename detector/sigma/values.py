"""Values: what a rule asks of a value, as a test of one value found in an event.

Source: SigmaHQ/sigma-specification v2, modifiers appendix.
"""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final, TypeAlias, cast

import re2
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SigmaType,
    SpecialChars,
)

from detector.sigma.parse import UnsupportedError

Test: TypeAlias = Callable[[Any], bool]


def compile_value(name: str, value: SigmaType) -> Test:
    """Compile the value that a rule asks of the field `name`.

    Raises:
        UnsupportedError: for a kind of value that we would have to approximate.
    """
    match value:
        case SigmaString():
            return _string_test(value)
        case SigmaTimestampPart():
            raise UnsupportedError("parts of a time (hour, day, ...) are not supported", name)
        case SigmaNumber():
            return _number_test(value.number)
        case SigmaBool():
            return _bool_test(value.boolean)
        case SigmaRegularExpression():
            return _regex_test(value)
        case SigmaCIDRExpression():
            return _cidr_test(value)
        case SigmaCompareExpression():
            return _comparison_test(name, value)
        case _:
            raise UnsupportedError(f"values of type {type(value).__name__} are not supported", name)


def is_value(value: Any) -> bool:
    """Tell a value from a `null`."""
    return value is not None


def text_of(value: Any) -> str:
    """A value as the text that string tests see: numbers and booleans as JSON writes them, objects as nothing."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else ""


def _string_test(value: SigmaString) -> Test:
    fold: Callable[[str], str] = str if isinstance(value, SigmaCasedString) else str.lower
    whole = cast("list[str | SpecialChars]", value.s)  # there are no placeholders: see parse.py
    parts = [fold(part) if isinstance(part, str) else part for part in whole]
    if all(part is SpecialChars.WILDCARD_MULTI for part in parts):
        return is_value
    match parts:
        case [str(text)]:
            return lambda value: fold(text_of(value)) == text
        case [str(text), SpecialChars.WILDCARD_MULTI]:
            return lambda value: fold(text_of(value)).startswith(text)
        case [SpecialChars.WILDCARD_MULTI, str(text)]:
            return lambda value: fold(text_of(value)).endswith(text)
        case [SpecialChars.WILDCARD_MULTI, str(text), SpecialChars.WILDCARD_MULTI]:
            return lambda value: text in fold(text_of(value))
        case _:
            pattern = re2.compile("(?s)" + "".join(map(_wildcard_regex, parts)))
            return lambda value: pattern.fullmatch(fold(text_of(value))) is not None


def _wildcard_regex(part: str | SpecialChars) -> str:
    if isinstance(part, str):
        return str(re2.escape(part))
    return ".*" if part is SpecialChars.WILDCARD_MULTI else "."


def _number_test(number: float) -> Test:
    text = str(number)

    def test(value: Any) -> bool:
        if isinstance(value, bool):
            return False
        return value == text if isinstance(value, str) else bool(value == number)

    return test


def _bool_test(boolean: bool) -> Test:
    text = text_of(boolean)
    return lambda value: value is boolean or (isinstance(value, str) and value.lower() == text)


def _regex_test(value: SigmaRegularExpression) -> Test:
    letters = {
        SigmaRegularExpressionFlag.IGNORECASE: "i",
        SigmaRegularExpressionFlag.MULTILINE: "m",
        SigmaRegularExpressionFlag.DOTALL: "s",
    }
    flags = "".join(sorted(letters[flag] for flag in value.flags))
    pattern = re2.compile((f"(?{flags})" if flags else "") + str(value.regexp))
    return lambda value: isinstance(value, str | int | float) and pattern.search(text_of(value)) is not None


def _cidr_test(value: SigmaCIDRExpression) -> Test:
    network = value.network

    def test(value: Any) -> bool:
        try:
            return ip_address(value) in network if isinstance(value, str) else False
        except ValueError:
            return False

    return test


_COMPARISONS: Final[dict[CompareOperators, Callable[[float, float], bool]]] = {
    CompareOperators.LT: lambda left, right: left < right,
    CompareOperators.LTE: lambda left, right: left <= right,
    CompareOperators.GT: lambda left, right: left > right,
    CompareOperators.GTE: lambda left, right: left >= right,
}


def _comparison_test(name: str, value: SigmaCompareExpression) -> Test:
    compare = _COMPARISONS.get(value.op)
    if compare is None:
        raise UnsupportedError(f"the comparison {value.op.name.lower()} is not supported", name)
    number = value.number.number

    def test(value: Any) -> bool:
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                return False
        return isinstance(value, int | float) and not isinstance(value, bool) and compare(value, number)

    return test
