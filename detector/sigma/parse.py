"""Parse: one rule's document to pySigma's rule and condition, refusing what pySigma would pass on changed.

pySigma trusts the types of what it reads, says of few faults where they stand, and drops some modifiers in silence.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import re2
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.modifiers import (
    SigmaCaseSensitiveModifier,
    SigmaEndswithModifier,
    SigmaExpandModifier,
    SigmaRegularExpressionModifier,
    SigmaStartswithModifier,
)
from sigma.policy import SigmaPolicy
from sigma.policy.regex_engine import RE2RegexEngine, RegexPattern
from sigma.rule import SigmaDetectionItem, SigmaRule
from sigma.types import SigmaCasedString, SigmaExpansion, SigmaType


class UnsupportedError(Exception):
    """A part of a rule that cannot be evaluated as Sigma means it; `key` is where it stands, if known."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class _QuietRE2(RE2RegexEngine):
    """RE2 as pySigma uses it, but an expression that it cannot run is told in the error, not on stderr."""

    def compile(self, pattern: str, flags: int = 0) -> RegexPattern:
        del flags  # they make no difference to what can be run
        options = re2.Options()
        options.log_errors = False
        try:
            compiled: RegexPattern = re2.compile(pattern, options)
        except re2.error as error:
            raise re2.error(f"RE2 cannot run it: {error.args[0].decode()}") from error
        return compiled


_POLICY: Final = SigmaPolicy(regex_engine=_QuietRE2())
_KEYS: Final = {
    "identifier": "id",
    "tag": "tags",
    "value": "tags",
    "type": "name",
    "correlationtype": "type",
    "correlationrule": "correlation",
    "correlationcondition": "condition",
}
"""Words in the names of pySigma's exceptions that are not the key itself, once the detections have been checked."""


def parse(document: dict[str, Any], *, checked: bool = False) -> SigmaRule:
    """Parse a rule; its condition comes from `parse_condition`.

    Args:
        document: the rule.
        checked: its detection is known to be without fault.

    Raises:
        UnsupportedError: for what is no Sigma, or what pySigma would read differently from what it says.
    """
    if "filter" in document:
        raise UnsupportedError("Sigma filter documents are not supported", "filter")
    _check_id(document)
    detection = document.get("detection")
    if isinstance(detection, dict) and not checked:
        _check(detection)
    with _told():
        return SigmaRule.from_dict(document, policy=_POLICY)


def parse_condition(rule: SigmaRule) -> Any:
    """Parse the condition of a rule.

    Raises:
        UnsupportedError: as `parse`.
    """
    with _told():
        return rule.detection.parsed_condition[0].parsed


@contextmanager
def _told() -> Iterator[None]:
    """Tell pySigma's errors as ours."""
    try:
        yield
    except SigmaError as error:
        raise _unsupported(error) from error
    except RecursionError as error:
        raise UnsupportedError("the condition is nested too deeply", "condition") from error


def parse_correlation(document: dict[str, Any]) -> SigmaCorrelationRule:
    """Parse a correlation document; what its section `correlation` asks for is for `link.py` to judge, and comes first.

    Raises:
        UnsupportedError: for what is no Sigma.
    """
    _check_id(document)
    for key in ("detection", "logsource"):
        if key in document:
            raise UnsupportedError(f"a correlation has no {key}; its base rules have", key)
    try:
        return SigmaCorrelationRule.from_dict(document, policy=_POLICY)
    except SigmaError as error:
        raise _unsupported(error) from error


def _unsupported(error: SigmaError) -> UnsupportedError:
    word = type(error).__name__.removeprefix("Sigma").removesuffix("Error").lower()
    return UnsupportedError(f"not valid Sigma: {error}", _KEYS.get(word, word))


def _check_id(document: dict[str, Any]) -> None:
    if not isinstance(document.get("id", ""), str):
        raise UnsupportedError("the id must be a UUID", "id")


def _check(detection: dict[str, Any]) -> None:
    if "timeframe" in detection:
        raise UnsupportedError("a timeframe belongs into a correlation document, as its timespan", "timeframe")
    if "condition" not in detection:
        raise UnsupportedError("there is no condition", "detection")
    if not isinstance(detection["condition"], str):
        raise UnsupportedError("the condition must be one text; instead of a list write `or`", "condition")
    for name, definition in detection.items():
        for key, value in () if name == "condition" else _items(definition):
            if "re" in key.split("|") and not _is_text(value):
                raise UnsupportedError("a regular expression must be a text; put it in quotes", key)
            try:
                item = SigmaDetectionItem.from_mapping(key, value, policy=_POLICY)
            except SigmaError as error:
                raise UnsupportedError(f"not valid Sigma: {error}", key) from error
            _check_modifiers(key, item)


def _items(definition: Any) -> Iterator[tuple[str, Any]]:
    """Every `field|modifier` of a detection with its value."""
    for part in definition if isinstance(definition, list) else [definition]:
        if isinstance(part, dict):
            yield from part.items()
        elif isinstance(part, list):
            yield from _items(part)


def _is_text(value: Any) -> bool:
    return all(isinstance(each, str) for each in (value if isinstance(value, list) else [value]))


def _check_modifiers(key: str, item: SigmaDetectionItem) -> None:
    modifiers = item.modifiers
    if SigmaExpandModifier in modifiers:
        raise UnsupportedError("placeholders (`expand`) are not supported", key)
    if SigmaRegularExpressionModifier in modifiers and {SigmaStartswithModifier, SigmaEndswithModifier} & {*modifiers}:
        raise UnsupportedError("`re` is not bound to an end by a modifier; write `^` or `$` in the expression", key)
    if SigmaCaseSensitiveModifier in modifiers and not all(map(_is_cased, item.value)):
        raise UnsupportedError("`cased` is lost in what follows it; write it last", key)


def _is_cased(value: SigmaType) -> bool:
    if isinstance(value, SigmaExpansion):
        return all(map(_is_cased, value.values))
    return isinstance(value, SigmaCasedString)
