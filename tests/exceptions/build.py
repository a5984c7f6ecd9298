"""Exceptions for tests."""

from typing import Any

from detector.activity import Activity
from detector.address import Locator
from detector.event import from_mapping
from detector.exceptions.entry import Entry
from detector.identity import from_event
from detector.match import Level, Match, Rule
from tests.events import event

RULE = "00000000-0000-4000-8000-000000000001"
DOCUMENT: dict[str, Any] = {
    "id": "an-entry",
    "rule": RULE,
    "identity": "ana@example.test",
    "owner": "team@example.test",
    "reason": "it is fine",
    "expires": "2026-12-31",
}
"""An exception without a scope; it holds when the events of `tests.events` happen."""


def entry(**differences: Any) -> Entry:
    """An exception, with differences laid over an ordinary one; None removes a key."""
    document = {key: value for key, value in {**DOCUMENT, **differences}.items() if value is not None}
    return Entry.model_validate(document)


def match(rule: str = RULE, user: str = "ana@example.test", **differences: Any) -> Match:
    """A rule that fired on an event."""
    decoded = from_mapping(event(**{"user": {"username": user}, **differences}))
    activity = Activity(decoded, from_event(decoded), Locator(()).locate(decoded.source_ips))
    return Match(Rule(id=rule, name="a rule", version="1", ruleset="test", level=Level.HIGH), activity, ())
