"""One request by one identity, as rules see it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.activity import MISSING, UNREADABLE, Activity, activities
from detector.address import Addresses, Locator
from detector.event import decode_native
from detector.identity import IdentityKind
from tests.events import EXEC, activity, audit_event, line


def command(query: str, **differences: Any) -> str:
    """The command that an exec with this query ran."""
    return activity(**EXEC | {"requestURI": f"/api/v1/namespaces/shop/pods/cart/exec?{query}", **differences}).command


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("command=id", "id"),
        ("command=sh&command=-c&command=id&container=cart&stdin=true", "sh -c id"),
        ("container=cart&command=cat&tty=true&command=%2Fvar%2Frun%2Fsecrets%2Ftoken", "cat /var/run/secrets/token"),
        ("command=echo&command=a+b%2Bc", "echo a b+c"),
        ("command=sh&command=-c&command=curl+x+%26%26+sh", "sh -c curl x && sh"),
        ("command=sh\\u0026command=-c", "sh\\u0026command=-c"),  # not JSON any more: the escape is text
        ("command=a%3Db", "a=b"),
        ("%63ommand=id", "id"),
        ("command=", ""),
        ("command=&command=id", " id"),
        ("command=%ff", "\ufffd"),
        ("command=100%", "100%"),
        ("commands=id&xcommand=id", ""),
        ("", ""),
        ("container=x#&command=cat&command=token", "cat token"),  # to Go, a `#` begins no fragment
        ("container=x?&command=id", "id"),
    ],
)
def test_a_command_is_read_from_the_request_uri_as_go_reads_it(query: str, words: str) -> None:
    """No way to write it hides it from the rules."""
    assert command(query) == words


def test_an_ampersand_that_the_api_server_escaped_separates_words() -> None:
    r"""The API server writes `&` as `\u0026` in its JSON."""
    written = line(**EXEC | {"requestURI": "/x?command=sh&command=-c"}).replace(b"&", rb"\u0026")
    decoded = decode_native(written)
    (acted,) = activities([decoded], Locator(()).locate)
    assert acted.command == "sh -c"


@pytest.mark.parametrize("uri", ["", "//[", "http://[::1/x?command=id", "/x", "?", "/x\ud7ff?y"])
def test_an_odd_uri_is_no_fault(uri: str) -> None:
    """It comes from the client."""
    assert activity(**EXEC | {"requestURI": uri}).command in ("", "id")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"command": ["sh", "-c", "id"]}, "sh -c id"),
        ({"command": ["sh", 1, None]}, "sh"),
        ({"command": "id"}, ""),
        (["command"], ""),
        (None, ""),
    ],
)
def test_older_clients_command_is_read_from_the_body(body: object, words: str) -> None:
    """Where the URI has none."""
    assert command("container=cart", requestObject=body) == words
    assert command("command=ls", requestObject=body) == "ls"


@pytest.mark.parametrize("subresource", ["log", "portforward", None])
def test_only_exec_and_attach_run_a_command(subresource: str | None) -> None:
    """Elsewhere `command=` is just a parameter."""
    assert command("command=id", objectRef={"resource": "pods", "subresource": subresource}) == ""
    assert command("command=id", objectRef=None) == ""


@pytest.mark.parametrize(
    ("patch", "read"),
    [
        ([{"op": "add", "path": "/spec/hostPID", "value": True}], {"spec": {"hostPID": True}}),
        (
            [{"op": "replace", "path": "/spec/containers/0/securityContext/privileged", "value": True}],
            {"spec": {"containers": [{"securityContext": {"privileged": True}}]}},
        ),
        ([{"op": "add", "path": "/spec/volumes/-", "value": {"name": "x"}}], {"spec": {"volumes": [{"name": "x"}]}}),
        (
            [{"op": "add", "path": "/a/0", "value": 1}, {"op": "add", "path": "/a/-", "value": 2}],
            {"a": [1, 2]},
        ),
        (
            [{"op": "add", "path": "/metadata/labels/example.test~1x~0y", "value": "z"}],
            {"metadata": {"labels": {"example.test/x~y": "z"}}},
        ),
        ([{"op": "add", "path": "", "value": {"kind": "Pod"}}], {"kind": "Pod"}),
        ([{"op": "remove", "path": "/spec"}, {"op": "test", "path": "/x", "value": 1}], {}),
        ([{"op": "add", "path": "/a", "value": "x"}, {"op": "add", "path": "/a/b/c", "value": 1}], {"a": "x"}),
        ([{"op": "add", "path": "/a", "value": "x"}, {"op": "add", "path": "/a/0", "value": 1}], {"a": "x"}),
        ([{"op": "add", "path": 7}, {"op": ["add"], "path": "/a"}, {"op": "add"}], {}),
        ([{"op": "add", "path": "/a"}], {"a": None}),
        ([{"op": "copy", "from": "/a", "path": "/b/c"}], {"b": {"c": UNREADABLE}}),
        ([{"op": "move", "from": "/a", "path": "/b/-"}], {"b": [UNREADABLE]}),
        ([{"op": "move", "from": "/a", "path": ""}, {"op": "add", "path": "/b", "value": 1}], UNREADABLE),
        ([{"path": "/a", "value": 1}], [{"path": "/a", "value": 1}]),
        ([], []),
        (["op"], ["op"]),
    ],
)
def test_a_json_patch_is_read_as_the_object_that_it_sets(patch: list[Any], read: object) -> None:
    """So one rule reads every kind of write; an array that is no patch stays one."""
    assert activity(verb="patch", requestObject=patch).request_object == read


def test_a_patch_of_any_depth_is_read() -> None:
    """A client chooses the path, and the API server logs it before it refuses it."""
    for path in ("/a/0" * 5_000, "/a" * 20_000, "/0" * 20_000):
        read = activity(verb="patch", requestObject=[{"op": "add", "path": path, "value": 1}]).request_object
        depth = 0
        while isinstance(read, dict | list):
            read = read["a" if "a" in read else "0"] if isinstance(read, dict) else read[0]
            depth += 1
        assert read == 1
        assert depth >= 10_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["op", "path", "value", "command"]) | st.text(), inner)
    ),
)


@settings(deadline=None)
@given(
    JSON
    | st.lists(st.fixed_dictionaries({"op": st.just("add"), "path": st.from_regex(r"(/[a0-]?){0,4}"), "value": JSON}))
)
def test_no_body_makes_a_fault(body: object) -> None:
    """Whatever was posted: JSON that is no object, or a patch that leads anywhere."""
    acted = activity(**EXEC | {"requestURI": "/x", "requestObject": json.loads(json.dumps(body))})
    assert acted.request_object is acted.request_object
    assert isinstance(acted.command, str)


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b"", MISSING),
        (b',"requestObject":null', MISSING),
        (b',"requestObject":{"a":1e999}', UNREADABLE),
        (b',"requestObject":{"a":"\xff"}', UNREADABLE),
    ],
    ids=["absent", "null", "infinite", "no UTF-8"],
)
def test_a_body_that_is_not_there_is_told_from_one_that_cannot_be_read(body: bytes, read: object) -> None:
    """Only a body's outline is checked when its event is decoded; a rule must not stumble over it."""
    (acted,) = activities([decode_native(line()[:-1] + body + b"}")], Locator(()).locate)
    assert acted.request_object is read
    assert acted.response_object is MISSING
    assert not acted.pod_specs


def test_a_truncated_event_is_known_by_its_annotation() -> None:
    """There a missing body proves nothing."""
    assert activity(annotations={"audit.k8s.io/truncated": "true"}).truncated
    assert not activity().truncated


def test_both_stages_of_a_request_have_one_key() -> None:
    """They differ in stage, time, code and bodies, and are counted once."""
    started = activity(**EXEC | {"stage": "ResponseStarted", "stageTimestamp": "2026-11-23T09:15:03Z"})
    complete = activity(
        **EXEC
        | {
            "stageTimestamp": "2026-11-23T10:15:03Z",
            "responseStatus": {"code": 200},
            "responseObject": {"kind": "Status"},
        }
    )
    assert started.request_key == complete.request_key
    assert len(started.request_key) == 16


@pytest.mark.parametrize(
    "difference",
    [
        {"auditID": "another"},
        {"requestReceivedTimestamp": "2026-11-23T09:15:02.100002Z"},
        {"verb": "list"},
        {"requestURI": "/api/v1/namespaces/shop/pods?limit=1"},
        {"user": {"username": "bob@example.test"}},
        {"impersonatedUser": {"username": "root"}},
        {"impersonatedUser": {"groups": ["system:masters"]}},
        {"sourceIPs": ["203.0.113.26"]},
        {"sourceIPs": ["203.0.113.25", "203.0.113.25"]},
        {"userAgent": "curl/8.9.1"},
    ],
)
def test_requests_that_differ_have_different_keys(difference: dict[str, Any]) -> None:
    """A client that repeats an old Audit-ID is counted all the same."""
    assert activity().request_key != activity(**difference).request_key


def test_no_text_runs_into_the_next_one_in_a_key() -> None:
    """What a client chooses cannot make two requests look like one."""
    one = activity(verb="get\0/x", requestURI="/y", sourceIPs=["1', '2"])
    other = activity(verb="get", requestURI="/x\0/y", sourceIPs=["1", "2"])
    assert one.request_key != other.request_key


def test_times_and_places_are_worked_out_for_each_event() -> None:
    """An event without any time is at the epoch rather than lost."""
    first, second = activities(
        [
            audit_event(sourceIPs=["198.51.100.1", "203.0.113.25"]),
            audit_event(user=None, requestReceivedTimestamp=None, stageTimestamp=None),
        ],
        Locator(()).locate,
    )
    assert first.addresses == Addresses("203.0.113.25", "198.51.100.1")
    assert first.received_time == datetime(2026, 11, 23, 9, 15, 2, 100001, UTC)
    assert first.time == datetime(2026, 11, 23, 9, 15, 2, 104900, UTC)
    assert second.identity.kind is IdentityKind.UNAUTHENTICATED
    assert second.time == second.received_time == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "body",
    [
        {"spec": {"hostPID": True}},
        {"spec": {"template": {"spec": {"hostPID": True}}}},
        {"spec": {"jobTemplate": {"spec": {"template": {"spec": {"hostPID": True}}}}}},
        {"template": {"spec": {"hostPID": True}}},
    ],
)
def test_pod_specs_are_found_wherever_a_workload_keeps_them(body: dict[str, Any]) -> None:
    """In pods, deployments and the like, cronjobs and pod templates."""
    acted: Activity = activity(verb="create", requestObject=body)
    assert {"hostPID": True} in acted.pod_specs


@pytest.mark.parametrize("body", [None, [], {"spec": "x"}, {"spec": {"template": []}}, "text"])
def test_a_body_without_a_pod_spec_gives_none_that_sets_anything(body: object) -> None:
    """Custom resources use the same names for other things."""
    assert not any("hostPID" in spec for spec in activity(requestObject=body).pod_specs)
