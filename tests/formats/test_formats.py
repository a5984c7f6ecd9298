"""Bytes of a record become audit events, or a dead letter that says why not."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from detector.errors import ConfigError
from detector.event import AuditEvent, User, decode_native
from detector.formats import Decoded, Format, names
from detector.record import Lines
from tests.events import EXEC, event, line

DATA = Path(__file__).parents[1] / "data" / "formats"
EXPECTED = [decode_native(text) for text in (DATA / "expected_events.jsonl").read_bytes().splitlines()]
BOM = b"\xef\xbb\xbf"


def decode(*values: bytes, name: str = "auto") -> Decoded:
    """Decode some records of one file."""
    return Format(name).decode(values, Lines("audit.log", 1, len(values)))


def native(**differences: Any) -> bytes:
    """An event as the API server writes it, with the same auditID whatever differs."""
    return json.dumps(event(**differences)).encode()


def refused(decoded: Decoded) -> list[tuple[str, str]]:
    """Where and why records were refused."""
    return [(str(letter.position), letter.reason) for letter in decoded.dead_letters]


def listed(*items: Any) -> bytes:
    """What the API server posts to a webhook."""
    return json.dumps({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items}).encode()


def without_kind(document: dict[str, Any]) -> dict[str, Any]:
    """An item of such a list."""
    return {key: value for key, value in document.items() if key not in ("kind", "apiVersion")}


@pytest.mark.parametrize(
    ("sample", "format_names"),
    [
        ("native.log", ["auto", "apiserver", "event_list", "text_field"]),
        ("webhook_eventlist.json", ["auto", "event_list"]),
        ("filebeat_message.jsonl", ["auto", "text_field"]),
        ("fluentbit_log_string.jsonl", ["auto", "text_field"]),
        ("vector_file.jsonl", ["auto", "text_field"]),
        ("fluentbit_parsed.jsonl", ["auto", "apiserver"]),
    ],
)
def test_every_envelope_gives_the_same_three_events(sample: str, format_names: list[str]) -> None:
    """Whether the format is named or found out."""
    for name in format_names:
        decoded = decode(*(DATA / sample).read_bytes().splitlines(), name=name)
        assert decoded == Decoded(EXPECTED), name


@pytest.mark.parametrize(
    ("sample", "name", "reasons"),
    [
        ("webhook_eventlist.json", "apiserver", ["not_audit"]),
        ("webhook_eventlist.json", "text_field", ["not_audit"]),
        ("filebeat_message.jsonl", "event_list", ["not_audit"] * 3),
        ("filebeat_message.jsonl", "apiserver", ["not_audit"] * 3),
    ],
)
def test_a_format_that_is_named_takes_no_other_envelope(sample: str, name: str, reasons: list[str]) -> None:
    """Its records go to the dead letters rather than being guessed at."""
    decoded = decode(*(DATA / sample).read_bytes().splitlines(), name=name)
    assert [letter.reason for letter in decoded.dead_letters] == reasons
    assert not decoded.events


def test_an_unknown_format_is_refused_with_the_names_of_all() -> None:
    """A name is that of a file in `formats/`."""
    assert names() == ["auto", "apiserver", "event_list", "text_field"]
    with pytest.raises(ConfigError, match="unknown format 'nosuch'; known are auto, apiserver, event_list, text_field"):
        Format("nosuch")


def test_items_of_a_webhook_are_events_although_they_do_not_say_so() -> None:
    """They carry no `kind`; it is added, for a rule may ask for it."""
    decoded = decode(listed(without_kind(event()), without_kind(event(**EXEC))))
    assert [item.kind for item in decoded.events] == ["Event", "Event"]
    assert decoded.events == decode(native(), native(**EXEC)).events


def test_a_failed_login_is_an_event() -> None:
    """It has `user: {}`, no annotations, and no stage but ResponseStarted."""
    (login,) = decode(
        line(user=None, annotations=None, stage="ResponseStarted", responseStatus={"code": 401})[:-1] + b', "user": {}}'
    ).events
    assert login.user == User()
    assert login.response_status is not None
    assert login.response_status.code == 401


def test_an_odd_http_method_leaves_a_uri_and_no_verb() -> None:
    """OPTIONS on a resource is answered 405, and still is somebody's request."""
    (odd,) = decode(line(verb="", requestURI="/api/v1/pods")).events
    assert (odd.verb, odd.request_uri) == ("", "/api/v1/pods")


@pytest.mark.parametrize("body", [[{"op": "add", "path": "/x", "value": 1}], "text", 7, True, [], {}])
def test_a_body_of_any_json_type_is_kept_as_it_is(body: object) -> None:
    """A JSON patch is an array."""
    (written,) = decode(line(requestObject=body)).events
    assert json.loads(bytes(written.request_object)) == body


BROKEN = [
    (b'{"auditID":"a","verb":"ge', "malformed_json"),
    (b"not JSON at all", "malformed_json"),
    (line() + line(), "malformed_json"),
    (line() + b",", "malformed_json"),
    (b'{"auditID":"a","verb":"get","x":NaN}', "malformed_json"),
    (b'{"auditID":"a","verb":"get","x":-Infinity}', "malformed_json"),
    (b'{"auditID":"a","verb":"get","responseStatus":{"code":1e999}}', "malformed_json"),
    (b'{"auditID":"a","verb":"\\ud800"}', "malformed_json"),
    (b'{"auditID":"a","verb":"\\q"}', "malformed_json"),
    (b"{'auditID':'a'}", "malformed_json"),
    (b"\x00\x00\x00", "malformed_json"),
    (line().decode().encode("utf-16"), "malformed_json"),
    (line().decode().encode("utf-16-le"), "malformed_json"),
    (b"\x1f\x8b\x08\x00", "malformed_json"),
    (b'{"auditID":"a","verb":"ge\xfft"}', "invalid_utf8"),
    (b'{"message":"{\\"auditID\\":\\"\xff\\"}"}', "invalid_utf8"),
    (b'{"log":"{\\ud800"}', "malformed_json"),
    (b'{"log":"{\\"auditID\\":"}', "malformed_json"),
    (b"{}", "not_audit"),
    (b'{"kind":0}', "not_audit"),
    (b"null", "not_audit"),
    (b"7", "not_audit"),
    (b'"text"', "not_audit"),
    (b'{"kind":"Pod","metadata":{"name":"x"}}', "not_audit"),
    (b'{"log":"started"}', "not_audit"),
    (b'{"message":"[1]"}', "not_audit"),
    (b'{"auditID":"a"}', "not_audit"),
    (b'{"kind":"EventList","items":null}', "not_audit"),
    (b'{"kind":"EventList","items":{"0":{}}}', "not_audit"),
    (b'{"auditID":"a","verb":"get","requestObject":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "too_deep"),
    (b'{"auditID":"a","verb":' + b"[" * 900 + b"]" * 900 + b"}", "too_deep"),
    (b"[" * 20_000 + b"]" * 20_000, "too_deep"),
    (b'{"items":' * 500 + b"[]" + b"}" * 500, "not_audit"),
    (b'{"items":[' * 50 + line() + b"]}" * 50, "too_deep"),
    (b'{"auditID":"a","verb":"get","requestObject":"' + b"x" * 20_000_000 + b'"}', "too_large"),
]


@pytest.mark.parametrize(("broken", "reason"), BROKEN, ids=[f"{value[:24]!r}" for value, _ in BROKEN])
def test_a_broken_record_costs_that_record_only(broken: bytes, reason: str) -> None:
    """It goes to the dead letters with its place and its reason; its neighbours are evaluated."""
    decoded = decode(line(), broken, line(**EXEC))
    assert [item.verb for item in decoded.events] == ["get", "get"]
    assert refused(decoded) == [("audit.log:2", reason)]
    assert decoded.dead_letters[0].payload
    assert len(decoded.dead_letters[0].detail) < 400


@pytest.mark.parametrize(
    "odd",
    [
        BOM + native(),
        native() + b"\r",
        b"  " + native() + b"\t ",
        native()[:-1] + b', "x": 1180591620717411303424}',
        native()[:-1] + b', "verb": "list", "verb": "get"}',
        native(apiVersion="audit.k8s.io/v2", unheardOf={"a": [1]}),
        native(
            apiVersion="audit.k8s.io/v1beta1", metadata={"creationTimestamp": None}, timestamp="2026-11-23T09:15:02Z"
        ),
        json.dumps([event()]).encode(),
        json.dumps({"message": native().decode()}).encode(),
        json.dumps({"log": json.dumps({"message": listed(event()).decode()})}).encode(),
        json.dumps({"log": None, "message": native().decode()}).encode(),
        json.dumps({"log": "{", "message": 1, **event()}).encode(),  # is an event before it is an envelope
    ],
    ids=[
        "BOM",
        "CRLF",
        "spaces",
        "2**70",
        "duplicate",
        "future",
        "past",
        "array",
        "text",
        "text in text",
        "null",
        "both",
    ],
)
def test_an_odd_record_is_read(odd: bytes) -> None:
    """Marks and spaces around it, unknown fields, and envelopes within envelopes."""
    decoded = decode(odd)
    assert decoded == decode(native())
    assert len(decoded.events) == 1


def test_a_code_as_large_as_it_likes_does_no_harm() -> None:
    """It is kept, and cut where it would hurt: in the alert."""
    (large,) = decode(line()[:-1] + b', "responseStatus": {"code": 1180591620717411303424}}').events
    assert large.response_status is not None
    assert large.response_status.code == 2**70


@pytest.mark.parametrize("blank", [b"", b" ", b"\r", b"\t\r", b"[]", listed()])
def test_a_record_that_holds_nothing_is_counted_and_no_dead_letter(blank: bytes) -> None:
    """Tombstones and blank lines are no fault."""
    assert decode(line(), blank).empty == 1
    assert not decode(line(), blank).dead_letters


def test_one_bad_item_of_a_list_costs_that_item_only() -> None:
    """Of 5,000 items 4,999 are evaluated, in their order, and the place of the list is told."""
    items: list[Any] = [without_kind(event(auditID=f"id-{number}")) for number in range(5_000)]
    items[1234] = {"level": "Metadata"}
    decoded = decode(listed(*items))
    assert [item.audit_id for item in decoded.events] == [f"id-{n}" for n in range(5_000) if n != 1234]
    assert refused(decoded) == [("audit.log:1", "not_audit")]
    assert json.loads(decoded.dead_letters[0].payload) == {"level": "Metadata"}


def test_a_list_of_rubbish_does_not_fill_the_dead_letters() -> None:
    """Sixteen megabytes of `1,` would otherwise be eight million of them."""
    decoded = decode(b"[" + b"1," * 100_000 + b"1]", b"[" + b",".join([b"[" + b"1," * 900 + b"1]"] * 50) + b"]", line())
    assert 1_000 <= len(decoded.dead_letters) <= 2 * 1_010
    assert len(decoded.events) == 1


def test_a_long_json_text_is_refused_in_time_that_grows_with_its_length() -> None:
    """Each envelope is opened once, so nesting does not multiply the work."""
    inner = line().decode()
    for _ in range(8):
        inner = json.dumps({"message": inner})
    assert len(decode(inner.encode()).events) == 1
    assert refused(decode(json.dumps({"message": inner}).encode())) == [("audit.log:1", "too_deep")]


class OnlyByIndex(Sequence[Any]):
    """Positions as a source may give them: made when one is asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        self.asked.append(index)
        return Lines("audit.log", 1, 3)[index]


def test_positions_are_asked_for_by_index_and_for_odd_records_only() -> None:
    """Making one for each of a million good records would cost more than decoding them."""
    positions = OnlyByIndex()
    Format().decode([line()] * 3, positions)
    assert not positions.asked
    assert refused(Format().decode([line(), b"x", line()], positions)) == [("audit.log:2", "malformed_json")]
    assert max(positions.asked) == 2


def test_the_event_of_a_good_record_is_the_same_beside_a_bad_one() -> None:
    """A batch is decoded as a whole where it can be."""
    alone: list[AuditEvent] = decode(line(**EXEC)).events
    assert decode(line(**EXEC), b"x").events == alone
