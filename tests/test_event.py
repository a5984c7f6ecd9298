"""One audit event as typed fields, whatever its producer made of them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from detector.errors import DecodeError
from detector.event import AuditEvent, User, decode_native, event_time, from_mapping, is_audit_event, parse_time
from tests.events import audit_event, event

NINE = datetime(2026, 11, 23, 9, 15, 2, tzinfo=UTC)


def test_both_ways_to_decode_agree_on_a_real_event() -> None:
    """The quick decoder and the one that puts up with anything give equal events."""
    document = event(
        user={"extra": {"authentication.kubernetes.io/credential-id": ["JTI=1"]}, "uid": "u-1"},
        impersonatedUser={"username": "root", "groups": ["system:masters"]},
        objectRef={"resource": "pods", "namespace": "shop", "apiGroup": "apps", "resourceVersion": "7"},
        requestObject={"spec": {"replicas": 3}},
        responseStatus={"status": "Failure", "reason": "Forbidden", "message": "no", "code": 403},
    )
    quick, patient = decode_native(json.dumps(document)), from_mapping(document)
    assert (
        json.loads(bytes(quick.request_object))
        == json.loads(bytes(patient.request_object))
        == {"spec": {"replicas": 3}}
    )
    quick.request_object = patient.request_object
    assert quick == patient


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("verb", ["get", "list"], "get,list"),
        ("verb", 7, "7"),
        ("verb", {"a": 1}, ""),
        ("verb", True, ""),
        ("verb", None, ""),
        ("userAgent", ["curl", 1, None], "curl,1,"),
    ],
)
def test_a_text_field_of_another_type_gives_its_text(field: str, value: object, read: str) -> None:
    """A list gives its entries, so that `objectRef.resource: ["secrets"]` is no way round a rule."""
    decoded = from_mapping({**event(), field: value})
    assert {"verb": decoded.verb, "userAgent": decoded.user_agent}[field] == read


def test_a_resource_in_a_list_is_still_the_resource() -> None:
    """Elastic saw redaction bypassed by such an event."""
    decoded = audit_event(objectRef={"resource": ["secrets"], "namespace": {"name": "shop"}})
    assert decoded.object_ref is not None
    assert (decoded.object_ref.resource, decoded.object_ref.namespace) == ("secrets", "")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (403, 403),
        ("403", 403),
        (403.0, 403),
        ("forbidden", None),
        (None, None),
        ([403], None),
        (1e400, None),
        ({}, None),
    ],
)
def test_a_code_is_read_from_a_number_or_its_text(value: object, code: int | None) -> None:
    """What is no number is left out."""
    decoded = from_mapping({**event(), "responseStatus": {"code": value}})
    assert decoded.response_status is not None
    assert decoded.response_status.code == code


@pytest.mark.parametrize("user", [None, {}, [], "ana", 7, {"username": None, "groups": None, "extra": None}])
def test_a_user_that_is_none_has_no_name(user: object) -> None:
    """As in a failed authentication, where the API server writes `user: {}`."""
    assert from_mapping({**event(), "user": user}).user == User()


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("sourceIPs", "203.0.113.1", ["203.0.113.1"]),
        ("sourceIPs", {"0": "203.0.113.1"}, []),
        ("sourceIPs", None, []),
        ("annotations", ["x"], {}),
        ("annotations", {"a": 1, "b": None}, {"a": "1", "b": ""}),
    ],
)
def test_lists_and_maps_of_another_type_do_no_harm(field: str, value: object, read: object) -> None:
    """A single address counts as a list of one."""
    decoded = from_mapping({**event(), field: value})
    assert {"sourceIPs": decoded.source_ips, "annotations": decoded.annotations}[field] == read


@pytest.mark.parametrize("body", [[], {}, "text", 0, False, [{"op": "add"}], {"kind": "Status"}])
def test_a_body_may_be_any_json_value(body: object) -> None:
    """It stays JSON until a rule asks."""
    assert json.loads(bytes(from_mapping({**event(), "requestObject": body}).request_object)) == body


@pytest.mark.parametrize(
    ("document", "reason_tells"),
    [
        ({}, "none"),
        ({"kind": 0}, "kind"),
        ({"kind": "Event", "auditID": "a"}, "auditID, kind"),
        ({"kind": "Pod", "verb": "get"}, "kind, verb"),
        ({"x" * 100: 1}, "x" * 40),
    ],
)
def test_what_is_no_audit_event_is_refused_by_its_keys(document: dict[str, Any], reason_tells: str) -> None:
    """The detail names some keys and no value, and is short whatever the keys are."""
    with pytest.raises(DecodeError) as caught:
        from_mapping(document)
    assert caught.value.reason == "not_audit"
    assert caught.value.detail.endswith(f"its keys are {reason_tells}")


@pytest.mark.parametrize(
    ("decoded", "expected"),
    [
        (AuditEvent(audit_id="a", verb="get"), True),
        (AuditEvent(audit_id="a", request_uri="/x"), True),  # an unknown HTTP method leaves the verb empty
        (AuditEvent(kind="Event", verb="get"), True),
        (AuditEvent(audit_id="a"), False),
        (AuditEvent(verb="get", request_uri="/x"), False),
        (AuditEvent(kind="Event"), False),  # of the core group
    ],
)
def test_an_audit_event_has_an_id_or_kind_and_says_what_was_asked(decoded: AuditEvent, *, expected: bool) -> None:
    """Items of a webhook's list have no `kind`, and requests with an odd method no verb."""
    assert is_audit_event(decoded) is expected


@pytest.mark.parametrize(
    ("text", "after_nine"),
    [
        ("2026-11-23T09:15:02Z", timedelta()),
        ("2026-11-23T09:15:02.5Z", timedelta(milliseconds=500)),
        ("2026-11-23T09:15:02.104900Z", timedelta(microseconds=104900)),
        ("2026-11-23T09:15:02.1049001Z", timedelta(microseconds=104900)),
        ("2026-11-23T09:15:02.104900123Z", timedelta(microseconds=104900)),
        ("2026-11-23T11:15:02+02:00", timedelta()),
        ("2026-11-23 09:15:02", timedelta()),
        ("2026-11-23 09:15:02.000", timedelta()),
    ],
)
def test_times_of_every_producer_are_read_as_utc(text: str, after_nine: timedelta) -> None:
    """API servers write six digits, others none, three, seven or nine, an offset, or a space and no zone."""
    time = parse_time(text)
    assert time == NINE + after_nine
    assert time is not None
    assert time.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "1795425302",
        "2026-13-01T00:00:00Z",
        "2026-11-23T09:15:60Z",  # a leap second
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",  # before all years, as UTC
        "9999-12-31T23:59:59-01:00",  # after them
        "\uff12\uff10\uff12\uff16-11-23T09:15:02Z",  # full-width digits
    ],
)
def test_what_is_no_time_of_kubernetes_is_none(text: str) -> None:
    """An event without a time is still evaluated."""
    assert parse_time(text) is None


def test_the_time_of_an_event_is_that_of_its_stage() -> None:
    """A watch ends minutes after it came in; where the stage's time is missing or broken, that must do."""
    late = {"requestReceivedTimestamp": "2026-11-23T09:15:02Z", "stageTimestamp": "2026-11-23T09:24:02Z"}
    assert event_time(audit_event(**late)) == NINE + timedelta(minutes=9)
    assert event_time(audit_event(**late | {"stageTimestamp": "soon"})) == NINE
    assert event_time(audit_event(requestReceivedTimestamp=None, stageTimestamp=None)) is None
