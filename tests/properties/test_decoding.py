"""Any bytes decode, or become a dead letter with a reason; nothing raises."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.activity import Activity, activities
from detector.address import Locator
from detector.event import event_time
from detector.formats import Decoded, Format
from detector.normalise import normalise
from detector.record import Lines
from tests.events import EXEC, event

REASONS = {"malformed_json", "invalid_utf8", "not_audit", "too_deep", "too_large"}
AUTO = Format()

FULL = event(
    **EXEC,
    impersonatedUser={"username": "root", "groups": ["system:masters"]},
    requestObject=[{"op": "add", "path": "/spec/containers/0/image", "value": "x"}],
    responseObject={"kind": "Status"},
)
"""An event with all that events have."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def check(*values: bytes) -> Decoded:
    """Decode records and use what comes out as the pipeline does; every record must be accounted for."""
    decoded = AUTO.decode(values, Lines("f", 1, len(values)))
    assert len(decoded.events) + len(decoded.dead_letters) + decoded.empty >= len(values)
    assert {letter.reason for letter in decoded.dead_letters} <= REASONS
    for acted in activities(normalise(decoded.events), Locator(()).locate):
        use(acted)
    return decoded


def use(acted: Activity) -> None:
    """Ask for all that is worked out of an event."""
    assert event_time(acted.event) or acted.time.year == 1970
    assert acted.identity.name
    assert len(acted.request_key) == 16
    assert acted.received_time.tzinfo
    _ = acted.request_object, acted.response_object, acted.command, acted.pod_specs, acted.truncated


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """JSON with some of its values left out or replaced by others of any type."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    if isinstance(value, dict):
        kept = [key for key in value if draw(st.integers(0, 9))]
        return {key: draw(changed(value[key])) for key in kept}
    if isinstance(value, list):
        return [draw(changed(item)) for item in value if draw(st.integers(0, 9))]
    return value


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real event some of whose bytes were cut out, replaced or added."""
    text = json.dumps(FULL).encode()
    for _ in range(draw(st.integers(1, 3))):
        start, length = draw(st.integers(0, len(text))), draw(st.integers(0, 20))
        text = text[:start] + draw(st.binary(max_size=8)) + text[start + length :]
    return text


@settings(deadline=None)
@given(st.lists(st.binary() | st.sampled_from([b"", b"[]", b"{}", b"null", b"\xef\xbb\xbf{}"]), max_size=5))
def test_any_bytes_are_accounted_for(values: list[bytes]) -> None:
    """Decoded, refused or empty."""
    check(*values)


@settings(deadline=None)
@given(st.lists(damaged(), max_size=4))
def test_a_damaged_event_is_an_event_or_a_dead_letter(values: list[bytes]) -> None:
    """One record gives one of the two, and its neighbours do not change it."""
    together = check(*values, json.dumps(FULL).encode())
    alone = [check(value) for value in values]
    assert len(together.dead_letters) == sum(len(one.dead_letters) for one in alone)
    assert together.events[:-1] == [item for one in alone for item in one.events]


@settings(deadline=None)
@given(changed(FULL))
def test_an_event_with_fields_missing_or_of_other_types_is_accounted_for(document: Any) -> None:
    """A field's absence or odd type never raises, and never hides the event from the rules unless it is none."""
    decoded = check(json.dumps(document).encode())
    if isinstance(document, dict) and isinstance(document.get("auditID"), str) and document["auditID"]:
        expected = any(isinstance(document.get(name), str) and document[name] for name in ("verb", "requestURI"))
        assert len(decoded.events) >= expected


@settings(deadline=None)
@given(st.sampled_from(["log", "message"]), st.text() | changed(FULL).map(json.dumps), JSON)
def test_any_text_in_an_envelope_is_accounted_for(field: str, text: str, beside: Any) -> None:
    """Shippers wrap whatever stands in the file."""
    check(json.dumps({"other": beside, field: text}).encode())


@settings(deadline=None)
@given(st.lists(changed(FULL) | JSON, max_size=5))
def test_any_items_of_a_list_are_accounted_for(items: list[Any]) -> None:
    """A bad one costs no other."""
    decoded = check(json.dumps({"kind": "EventList", "items": items}).encode())
    alone = [check(json.dumps(item).encode()) for item in items]
    assert decoded.events == [found for one in alone for found in one.events]
