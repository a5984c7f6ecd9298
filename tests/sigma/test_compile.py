"""Every operator and modifier of Sigma, on the values that tell a right reading from a nearly right one."""

from base64 import b64encode
from typing import Any

import pytest

from tests.sigma.build import (
    Event,
    activity,
    compile_rules,
    compile_selection,
    document,
    event,
    from_bytes,
    verdict,
    verdict_on_body,
    write,
)

USER = "user.username"
FIELD = "requestObject.metadata.labels.note"


def _user(name: str) -> Event:
    return event(user={"username": name})


def _note(value: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"note": value}}}


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("ana", "ana", True),
        ("ana", "ANA", True),
        ("ANA", "ana", True),
        ("ana", "ana ", False),
        ("ana", "anab", False),
        ("a*", "ana", True),
        ("*", "ana", True),
        ("*a", "ana", True),
        ("*n*", "ana", True),
        ("a*a", "ana", True),
        ("a*a", "a", False),
        ("a**a", "aa", True),
        ("an?", "ana", True),
        ("an?", "an", False),
        ("?n?", "ana", True),
        ("a?*", "an", True),
        ("a?*", "a", False),
        ("a*b", "a\nb", True),
        ("a?b", "a\nb", True),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        (r"a\*", "a*", True),
        (r"a\*", "ab", False),
        (r"a\?", "a?", True),
        (r"a\?", "ab", False),
        (r"a\b", r"a\b", True),
        (r"a\\b", r"a\b", True),
        (r"a\\b", r"a\\b", False),
        (r"a\\*", r"a\bc", True),
        (r"a\\*", "a*", False),
        (r"a\\\*", r"a\*", True),
        (r"a\\\*", r"a\b", False),
        (r"a\\\\b", r"a\\b", True),
        ("a\\", "a\\", True),
        ("gülşen*", "GÜLŞEN@example.test", True),
    ],
)
def test_a_text_matches_without_regard_to_case_and_with_wildcards(pattern: str, text: str, matches: bool) -> None:
    """`*` and `?` stand for text, a backslash before them takes that away, and other characters mean themselves."""
    assert verdict({USER: pattern}, _user(text)) is matches


@pytest.mark.parametrize(
    ("key", "value", "text", "matches"),
    [
        (f"{USER}|contains", "NA", "ana", True),
        (f"{USER}|contains", "b", "ana", False),
        (f"{USER}|contains", "a*a", "xanax", True),
        (f"{USER}|contains", r"\*", "a*b", True),
        (f"{USER}|contains", r"\*", "ab", False),
        (f"{USER}|contains", "*", "ana", True),
        (f"{USER}|startswith", "AN", "ana", True),
        (f"{USER}|startswith", "na", "ana", False),
        (f"{USER}|startswith", "?n", "ana", True),
        (f"{USER}|endswith", "NA", "ana", True),
        (f"{USER}|endswith", "an", "ana", False),
        (f"{USER}|endswith", r"\?", "ana?", True),
        (f"{USER}|contains", ["x", "n"], "ana", True),
        (f"{USER}|contains|all", ["a", "n"], "ana", True),
        (f"{USER}|contains|all", ["a", "x"], "ana", False),
        (f"{USER}|cased", "ana", "ana", True),
        (f"{USER}|cased", "ana", "Ana", False),
        (f"{USER}|cased", "a*", "Ana", False),
        (f"{USER}|cased", "a?a", "ana", True),
        (f"{USER}|cased", "A?a", "ana", False),
        (f"{USER}|cased", ["Ana", "ana"], "ana", True),
        (f"{USER}|contains|cased", "N", "ana", False),
        (f"{USER}|cased|contains", "N", "ana", False),
        (f"{USER}|cased|contains", "n", "ana", True),
        (f"{USER}|cased|startswith", "A", "ana", False),
        (f"{USER}|cased|endswith", "A", "ana", False),
        (f"{USER}|neq", "ana", "bob", True),
        (f"{USER}|neq", "ANA", "ana", False),
        (f"{USER}|neq", ["ana", "bob"], "bob", False),
        (f"{USER}|neq", ["ana", "bob"], "eve", True),
        (f"{USER}|neq", "a*", "ana", False),
        (f"{USER}|contains|neq", "n", "ana", False),
        (f"{USER}|contains|all|neq", ["a", "x"], "ana", True),
        (f"{USER}|re", "^an", "ana", True),
        (f"{USER}|re", "n", "ana", True),
        (f"{USER}|re", "^n", "ana", False),
        (f"{USER}|re", "^AN", "ana", False),
        (f"{USER}|re", "a|b", "xbx", True),
        (f"{USER}|re|contains", "a|b", "xbx", True),
        (f"{USER}|re|i", "^AN", "ana", True),
        (f"{USER}|re", "a.b", "a\nb", False),
        (f"{USER}|re|s", "a.b", "a\nb", True),
        (f"{USER}|re", "^b", "a\nb", False),
        (f"{USER}|re|m", "^b", "a\nb", True),
        (f"{USER}|re|i|m", "^B", "a\nb", True),
        (f"{USER}|re", r"\*", "a*", True),
        (f"{USER}|re", ["x", "n"], "ana", True),
        (f"{USER}|windash", "run -a", "run -a", True),
        (f"{USER}|windash", "run -a", "run /a", True),
        (f"{USER}|windash", "run -a", "run \N{EN DASH}a", True),
        (f"{USER}|windash", "run -a", "run +a", False),
        (f"{USER}|windash", "a-b", "a/b", False),
        (f"{USER}|windash|contains", " -a", "run /a b", True),
        (f"{USER}|windash|contains|all", [" -a", " -b"], "run /a -b", True),
        (f"{USER}|windash|contains|all", [" -a", " -b"], "run /a", False),
        (f"{USER}|windash|cased", "-A", "/A", True),
        (f"{USER}|windash|cased", "-A", "/a", False),
        (f"{USER}|base64", "ana", b64encode(b"ana").decode(), True),
        (f"{USER}|base64", "ana", "ana", False),
        (f"{USER}|base64|contains", "ana", f"x{b64encode(b'ana').decode()}y", True),
        (f"{USER}|base64offset|contains", "secret", b64encode(b"a secret").decode(), True),
        (f"{USER}|base64offset|contains", "secret", b64encode(b"my secret").decode(), True),
        (f"{USER}|base64offset|contains", "secret", b64encode(b"public").decode(), False),
    ],
)
def test_a_modifier_changes_how_a_text_is_compared(key: str, value: Any, text: str, matches: bool) -> None:
    """Each modifier, and each pair of them that rules use, means what the specification says."""
    assert verdict({key: value}, _user(text)) is matches


@pytest.mark.parametrize(
    ("value", "code", "matches"),
    [
        (403, 403, True),
        (403, 404, False),
        ("403", 403, True),
        ("4*", 403, True),
        ("4?3", 403, True),
        ([401, 403], 403, True),
        ("ALLOW", 403, False),
        (403, None, False),
        (None, None, True),
        (None, 200, False),
        (403.0, 403, True),
        (403.5, 403, False),
    ],
)
def test_the_status_code_is_a_number_and_its_digits(value: Any, code: int | None, matches: bool) -> None:
    """A rule may write the code as a number, as text, or as text with wildcards."""
    status = {} if code is None else {"code": code}
    assert verdict({"responseStatus.code": value}, event(responseStatus=status)) is matches


@pytest.mark.parametrize(
    ("modifier", "bound", "code", "matches"),
    [
        ("gt", 400, 401, True),
        ("gt", 400, 400, False),
        ("gte", 400, 400, True),
        ("gte", 400, 399, False),
        ("lt", 400, 399, True),
        ("lt", 400, 400, False),
        ("lte", 400, 400, True),
        ("lte", 400, 401, False),
        ("gte", 400.5, 400, False),
        ("gte", 400, None, False),
        ("lt", 400, None, False),
        ("gte|neq", 400, 200, True),
    ],
)
def test_a_number_is_compared_with_a_bound(modifier: str, bound: float, code: int | None, matches: bool) -> None:
    """A missing number is neither above nor below anything."""
    status = {} if code is None else {"code": code}
    assert verdict({f"responseStatus.code|{modifier}": bound}, event(responseStatus=status)) is matches


@pytest.mark.parametrize(
    ("key", "value", "actual", "matches"),
    [
        (FIELD, True, True, True),
        (FIELD, True, "true", True),
        (FIELD, True, "True", True),
        (FIELD, True, 1, False),
        (FIELD, True, False, False),
        (FIELD, "true", True, True),
        (FIELD, "TRUE", True, True),
        (FIELD, "t*", True, True),
        (FIELD, False, False, True),
        (FIELD, False, None, False),
        (FIELD, 1, 1, True),
        (FIELD, 1, "1", True),
        (FIELD, 1, 1.0, True),
        (FIELD, 1, True, False),
        (FIELD, 0, False, False),
        (FIELD, 1, "01", False),
        (FIELD, 1.5, 1.5, True),
        (FIELD, 1.5, "1.5", True),
        (FIELD, "1.5", 1.5, True),
        (FIELD, "1", 1, True),
        (f"{FIELD}|gt", 5, "10", True),
        (f"{FIELD}|gt", 5, "x", False),
        (f"{FIELD}|gt", 0, True, False),
        (f"{FIELD}|gt", 5, {}, False),
        (f"{FIELD}|gt", 5, [1, 10], True),
        (f"{FIELD}|re", "^tr", True, True),
        (f"{FIELD}|re", "^1", 10, True),
        (f"{FIELD}|re", "", {}, False),
        (f"{FIELD}|re", "", None, False),
        (f"{FIELD}|contains", "e", {}, False),
        (FIELD, "*", {}, True),
        (FIELD, "*", None, False),
        (FIELD, "*", [], False),
        (FIELD, "*", "", True),
        (FIELD, "?*", {}, False),
        (FIELD, "a", ["b", "a"], True),
        (FIELD, "a", ["b", ["a"]], True),
        (f"{FIELD}|neq", "a", ["b", "a"], False),
        (f"{FIELD}|neq", "a", [], True),
        (f"{FIELD}|contains|all", ["a", "b"], ["xa", "xb"], True),
    ],
)
def test_a_value_of_any_type_in_a_body_has_a_meaning(key: str, value: Any, actual: Any, matches: bool) -> None:
    """Numbers and booleans compare as themselves and as JSON writes them; an object is no text."""
    assert verdict_on_body({key: value}, _note(actual)) is matches


@pytest.mark.parametrize(
    ("body", "is_null", "exists", "is_empty_text"),
    [
        ({}, True, False, False),
        (_note(None), True, True, False),
        (_note([]), True, True, False),
        (_note([None]), True, True, False),
        (_note([None, "a"]), False, True, False),
        (_note(""), False, True, True),
        (_note(["", "a"]), False, True, True),
        (_note({}), False, True, False),
        (_note(0), False, True, False),
        (_note(False), False, True, False),
        ({"metadata": {"labels": []}}, True, False, False),
        ({"metadata": "labels"}, True, False, False),
    ],
)
def test_null_missing_and_empty_are_told_apart_in_a_body(
    body: Any, is_null: bool, exists: bool, is_empty_text: bool
) -> None:
    """`null` is a field without a value, `exists` asks for the field alone, and `''` for an empty text."""
    assert verdict_on_body({FIELD: None}, body) is is_null
    assert verdict_on_body({f"{FIELD}|exists": True}, body) is exists
    assert verdict_on_body({f"{FIELD}|exists": False}, body) is not exists
    assert verdict_on_body({FIELD: ""}, body) is is_empty_text


@pytest.mark.parametrize(
    ("field", "absent", "empty", "present"),
    [
        ("verb", {"verb": ""}, {"verb": ""}, {}),
        ("objectRef.apiGroup", {}, {"objectRef": {"apiGroup": ""}}, {"objectRef": {"apiGroup": "apps"}}),
        ("annotations.a", {}, {"annotations": {"a": ""}}, {"annotations": {"a": "b"}}),
        ("user.groups", {"user": {}}, {"user": {"groups": [""]}}, {"user": {"groups": ["", "a"]}}),
        ("sourceIPs", {"sourceIPs": []}, {"sourceIPs": [""]}, {"sourceIPs": ["::1"]}),
        ("user.extra.a", {"user": {}}, {"user": {"extra": {"a": [""]}}}, {"user": {"extra": {"a": ["b"]}}}),
        ("impersonatedUser.groups", {}, {"impersonatedUser": {}}, {"impersonatedUser": {"groups": ["a"]}}),
        ("responseStatus.reason", {}, {"responseStatus": {"reason": ""}}, {"responseStatus": {"reason": "a"}}),
    ],
)
def test_an_empty_text_outside_the_bodies_is_an_absent_field(
    field: str, absent: Event, empty: Event, present: Event
) -> None:
    """The API server leaves empty texts out, so rules must not see a difference."""
    for changes, there in ((absent, False), (empty, False), (present, True)):
        on = event(requestURI="/x", **changes)
        assert verdict({field: None}, on) is not there
        assert verdict({field: ""}, on) is not there
        assert verdict({f"{field}|exists": True}, on) is there
        assert verdict({f"{field}|exists": False}, on) is not there
        assert verdict({field: "*"}, on) is there
        assert verdict({field: [None, "no such value"]}, on) is not there


@pytest.mark.parametrize(
    ("network", "address", "matches"),
    [
        ("203.0.113.0/24", "203.0.113.25", True),
        ("203.0.113.0/24", "203.0.114.25", False),
        ("2001:db8::/32", "2001:DB8::1", True),
        ("2001:db8::/32", "203.0.113.25", False),
        ("0.0.0.0/0", "::1", False),
        ("0.0.0.0/0", "gce-internal-ip", False),
        (["10.0.0.0/8", "203.0.113.25/32"], "203.0.113.25", True),
    ],
)
def test_a_network_holds_addresses_of_its_family(network: Any, address: str, matches: bool) -> None:
    """`cidr` reads IPv4 and IPv6; what is no address lies in no network."""
    assert verdict({"sourceIPs|cidr": network}, event(sourceIPs=["unknown", address])) is matches


@pytest.mark.parametrize(
    ("modifier", "mine", "other", "matches"),
    [
        ("fieldref", "shop", "SHOP", True),
        ("fieldref", "shop", "data", False),
        ("fieldref", "", "", False),
        ("fieldref", "sh*", "shop", False),
        ("fieldref|contains", "my-shop-2", "shop", True),
        ("fieldref|contains", "my-shop-2", "", False),
        ("fieldref|startswith", "shop-2", "shop", True),
        ("fieldref|startswith", "my-shop", "shop", False),
        ("fieldref|endswith", "my-shop", "shop", True),
        ("fieldref|endswith", "shop-2", "shop", False),
        ("fieldref|neq", "shop", "data", True),
        ("fieldref|neq", "shop", "shop", False),
    ],
)
def test_a_field_is_compared_with_another(modifier: str, mine: str, other: str, matches: bool) -> None:
    """`fieldref` takes the text of the other field as it stands; a missing one equals nothing."""
    on = event(objectRef={"namespace": mine, "name": other})
    assert verdict({f"objectRef.namespace|{modifier}": "objectRef.name"}, on) is matches


def test_a_field_with_several_values_is_compared_value_by_value() -> None:
    """One pair that is equal is enough."""
    on = write(requestObject={"a": ["x", "y", 5]}, responseObject={"b": ["z", "Y"], "c": "5"})
    assert verdict({"requestObject.a|fieldref": "responseObject.b"}, on) is True
    assert verdict({"requestObject.a|fieldref": "responseObject.c"}, on) is True
    assert verdict({"responseObject.c|fieldref": "responseObject.b"}, on) is False


@pytest.mark.parametrize(
    ("privileged", "matches"),
    [([False, True], True), ([True, False], True), ([False, False], False), ([], False), ([None, True], True)],
)
def test_a_path_leads_into_every_element_of_a_list(privileged: list[bool | None], matches: bool) -> None:
    """One privileged container among others is found, wherever it stands."""
    containers = [{"name": "a", "securityContext": {"privileged": value}} for value in privileged]
    body = {"spec": {"containers": [*containers, {"name": "without a context"}]}}
    assert verdict_on_body({"requestObject.spec.containers.securityContext.privileged": True}, body) is matches


@pytest.mark.parametrize(
    ("field", "on"),
    [
        ("annotations.authorization.k8s.io/decision", event(annotations={"authorization.k8s.io/decision": "here"})),
        ("user.extra.example.com/team", event(user={"extra": {"example.com/team": ["a", "here"]}})),
        (
            "requestObject.metadata.annotations.a.b/c",
            write(requestObject={"metadata": {"annotations": {"a.b/c": "here"}}}),
        ),
        ("requestObject.a.b.c", write(requestObject={"a.b": {"c": "here"}})),
        ("requestObject.a.b.c", write(requestObject={"a": {"b.c": "here"}})),
        ("requestObject.a.b.c", write(requestObject={"a.b.c": "here"})),
        ("requestObject.a.b.c", write(requestObject={"a": 5, "a.b": {"c": "here"}})),
        ("responseObject.a.b", write(responseObject={"a.b": ["here"]})),
    ],
)
def test_a_key_that_holds_dots_is_found(field: str, on: Event) -> None:
    """Annotations and labels are named with dots, which must not be taken for steps of the path only."""
    assert verdict({field: "here"}, on) is True


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ([{"op": "add", "path": "/spec/hostPID", "value": True}], "requestObject.spec.hostPID"),
        ([{"op": "replace", "path": "/spec", "value": {"hostPID": True}}], "requestObject.spec.hostPID"),
        ([{"op": "add", "path": "", "value": {"spec": {"hostPID": True}}}], "requestObject.spec.hostPID"),
        (
            [{"op": "add", "path": "/metadata/annotations/a.b~1c~01", "value": True}],
            "requestObject.metadata.annotations.a.b/c~1",
        ),
        ([{"op": "add", "path": "/spec/containers/0/tty", "value": True}], "requestObject.spec.containers.tty"),
        ([{"op": "add", "path": "/spec/containers/-", "value": {"tty": True}}], "requestObject.spec.containers.tty"),
        ([{"op": "add", "path": "/spec/containers/-1/tty", "value": True}], "requestObject.spec.containers.tty"),
        ([{"op": "replace", "path": "/spec/containers/+0/tty", "value": True}], "requestObject.spec.containers.tty"),
        (
            [
                {"op": "test", "path": "/spec/containers/0/name", "value": "a"},
                {"op": "add", "path": "/spec/containers", "value": [{"name": "a"}]},
                {"op": "add", "path": "/spec/containers/0/tty", "value": True},
            ],
            "requestObject.spec.containers.tty",
        ),
        (
            [
                {"op": "add", "path": "/spec/nodeSelector/1", "value": "x"},
                {"op": "add", "path": "/spec/nodeSelector/tty", "value": True},
            ],
            "requestObject.spec.nodeSelector.tty",
        ),
        (
            [
                {"op": "add", "path": "/spec/nodeSelector", "value": {"a": "x"}},
                {"op": "add", "path": "/spec/nodeSelector/1", "value": True},
            ],
            "requestObject.spec.nodeSelector.1",
        ),
    ],
)
def test_a_json_patch_is_read_like_the_object_that_it_changes(patch: list[Any], field: str) -> None:
    """One rule sees a setting whether it is created, merged or patched in; the API server takes signed indices too."""
    assert verdict({field: True}, write(verb="patch", requestObject=patch)) is True


def test_what_a_json_patch_takes_away_or_asks_for_is_not_set() -> None:
    """Only `add` and `replace` set a value."""
    patch = [{"op": op, "path": "/spec/hostPID", "value": True} for op in ("remove", "test")]
    assert verdict({"requestObject.spec.hostPID": True}, write(verb="patch", requestObject=patch)) is False


@pytest.mark.parametrize("op", ["copy", "move"])
@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"requestObject.spec.hostPID": True}, None),
        ({"requestObject.spec.hostPID|exists": False}, None),
        ({"requestObject.spec.hostPID|fieldref": "verb"}, None),
        ({"detector.pod.hostPID": True}, None),
        ({"requestObject.spec.hostIPC": True}, True),
        ({"requestObject.spec.nodeName|exists": True}, False),
        ({"requestObject.spec.hostPID": True, "verb": "create"}, False),
    ],
)
def test_what_a_json_patch_fetches_from_elsewhere_is_undecided(
    selection: dict[str, Any], expected: bool | None, op: str
) -> None:
    """Neither the value nor its absence is known; what the patch sets besides is."""
    patch = [
        {"op": "add", "path": "/spec/hostIPC", "value": True},
        {"op": op, "from": "/metadata/labels/a", "path": "/spec/hostPID"},
    ]
    assert verdict(selection, write(verb="patch", requestObject=patch)) is expected


_POD_SPECS = [
    lambda spec: {"spec": spec},
    lambda spec: {"spec": {"template": {"spec": spec}}},
    lambda spec: {"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}},
    lambda spec: {"template": {"spec": spec}},
]


@pytest.mark.parametrize("wrap", _POD_SPECS)
@pytest.mark.parametrize(
    ("selection", "spec"),
    [
        ({"hostPath": "*"}, {"volumes": [{"name": "a"}, {"hostPath": {"path": "/etc"}}]}),
        ({"hostPath|startswith": "/etc"}, {"volumes": [{"hostPath": {"path": "/etc/shadow"}}]}),
        ({"capabilities": "*"}, {"containers": [{}, {"securityContext": {"capabilities": {"add": ["NET_RAW"]}}}]}),
        (
            {"capabilities": "sys_admin"},
            {"initContainers": [{"securityContext": {"capabilities": {"add": ["A", "SYS_ADMIN"]}}}]},
        ),
        (
            {"detector.containers.securityContext.privileged": True},
            {"ephemeralContainers": [{"securityContext": {"privileged": True}}]},
        ),
        ({"detector.pod.hostNetwork": True}, {"hostNetwork": True}),
    ],
)
def test_a_pods_spec_is_found_in_every_kind_of_workload(wrap: Any, selection: Any, spec: Any) -> None:
    """SigmaHQ's `hostPath` and `capabilities`, and the `detector.` prefixes, read pods and what makes pods."""
    assert verdict_on_body(selection, wrap(spec)) is True
    assert verdict_on_body(selection, wrap({"containers": [{"name": "a"}]})) is False


def test_the_alias_api_group_reads_the_object_reference() -> None:
    """SigmaHQ's `apiGroup` is `objectRef.apiGroup`."""
    assert verdict({"apiGroup": "apps"}, event(objectRef={"apiGroup": "apps"})) is True
    assert verdict({"apiGroup": "apps"}, event(objectRef={"resource": "pods"})) is False


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("detector.identity.kind", "service_account"),
        ("detector.identity.namespace", "shop"),
        ("detector.source.ip", "203.0.113.25"),
        ("detector.command", "sh -c id"),
    ],
)
def test_derived_fields_can_be_tested(field: str, value: str) -> None:
    """What no event holds by itself is read like any other field."""
    on = event(
        user={"username": "system:serviceaccount:shop:cart"},
        objectRef={"resource": "pods", "subresource": "exec"},
        requestURI="/api/v1/namespaces/shop/pods/web/exec?command=sh&command=-c&command=id",
    )
    assert verdict({field: value}, on) is True
    assert verdict({field: "something else"}, on) is False


ASKS_THE_BODY = {"requestObject.spec.hostPID": True}


@pytest.mark.parametrize(
    ("selection", "changes", "expected"),
    [
        (ASKS_THE_BODY, {"level": "Metadata"}, None),
        (ASKS_THE_BODY, {"level": "Request"}, False),
        (ASKS_THE_BODY, {"level": "RequestResponse"}, False),
        (ASKS_THE_BODY, {"annotations": {"audit.k8s.io/truncated": "true"}}, None),
        (ASKS_THE_BODY, {"annotations": {"audit.k8s.io/truncated": "false"}}, False),
        (ASKS_THE_BODY, {"level": "Metadata", "verb": "get"}, False),
        (ASKS_THE_BODY, {"level": "Metadata", "verb": "delete"}, False),
        ({"responseObject.kind": "Pod"}, {"level": "Request"}, None),
        ({"responseObject.kind": "Pod"}, {"level": "RequestResponse"}, False),
        ({"hostPath": "*"}, {"level": "Metadata"}, None),
        ({"detector.containers.image": "a"}, {"level": "Metadata"}, None),
        ({"requestObject.spec.hostPID": None}, {"level": "Metadata"}, None),
        ({"requestObject.spec.hostPID|exists": False}, {"level": "Metadata"}, None),
        ({"requestObject.spec.hostPID|neq": True}, {"level": "Metadata"}, None),
        ({**ASKS_THE_BODY, "verb": "create"}, {"level": "Metadata"}, None),
        ({**ASKS_THE_BODY, "verb": "update"}, {"level": "Metadata"}, False),
        ({"requestObject.a|fieldref": "objectRef.name"}, {"level": "Metadata"}, None),
        ({"objectRef.name|fieldref": "requestObject.a"}, {"level": "Metadata"}, None),
        ({"objectRef.uid|fieldref": "requestObject.a"}, {"level": "Metadata"}, False),
        ({"requestObject.a|fieldref": "objectRef.uid"}, {"level": "Metadata"}, False),
        ({"requestObject.a|fieldref": "responseObject.a"}, {"level": "Metadata"}, None),
    ],
)
def test_a_body_that_was_not_logged_leaves_open_what_rests_on_it(
    selection: dict[str, Any], changes: Event, expected: bool | None
) -> None:
    """None is neither a match nor none; what the logged fields decide alone stays decided."""
    assert verdict(selection, write(**changes)) is expected


def test_a_hidden_body_leaves_other_parts_of_a_condition_decided() -> None:
    """`or` with a true part is true, `and` with a false part is false, and `not` leaves open what is open."""
    detection = {"body": ASKS_THE_BODY, "yes": {"verb": "create"}, "no": {"verb": "get"}}
    hidden = activity(write(level="Metadata"))
    expected = {
        "body or yes": True,
        "body or no": None,
        "body and no": False,
        "body and yes": None,
        "not body": None,
        "yes and not body": None,
        "1 of them": True,
        "all of them": False,
    }
    for condition, verdict_ in expected.items():
        rule = compile_rules(document({**detection, "condition": condition}))[0]
        assert rule.node.evaluate(hidden) is verdict_, condition


@pytest.mark.parametrize(
    ("code", "annotations", "expected"),
    [
        (403, {"authorization.k8s.io/decision": "forbid"}, False),
        (403, {}, False),
        (401, {}, False),
        (429, {}, False),
        (403, {"authorization.k8s.io/decision": "allow"}, None),
        (409, {"authorization.k8s.io/decision": "allow"}, None),
        (201, {}, None),
    ],
)
def test_a_request_refused_at_the_door_has_no_hidden_body(
    code: int, annotations: dict[str, str], expected: bool | None
) -> None:
    """Its body was never read at any audit level; one refused later, by admission, was read but not logged."""
    on = write(level="Metadata", responseStatus={"code": code}, annotations=annotations)
    assert verdict(ASKS_THE_BODY, on) is expected


def _raw(body: bytes, verb: bytes = b"patch") -> bytes:
    head = b'{"kind":"Event","level":"RequestResponse","auditID":"a","verb":"%s","requestURI":"/x","requestObject":%s}'
    return head % (verb, body)


@pytest.mark.parametrize("verb", [b"patch", b"delete"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"spec":{"hostPID":true},"x":1e999}',
        b'{"spec":{"hostPID":true},"x":' + b"9" * 5000 + b"}",
        b'{"spec":{"hostPID":true},"x":"\xff"}',
    ],
    ids=["number without bound", "number without end", "no UTF-8"],
)
def test_a_body_that_cannot_be_decoded_is_hidden_and_stops_nothing(body: bytes, verb: bytes) -> None:
    """Whoever may patch chooses these bytes: they must neither end the run nor pass for an empty body."""
    rule = compile_rules(document({"s": ASKS_THE_BODY, "condition": "s"}))[0]
    assert rule.node.evaluate(from_bytes(_raw(body, verb))) is None


def test_a_json_patch_of_any_depth_stops_nothing() -> None:
    """A path of thousands of steps is followed, and hides no other operation."""
    patch = b'[{"op":"add","path":"%s","value":1},{"op":"add","path":"/spec/hostPID","value":true}]' % (b"/0" * 5000)
    rule = compile_rules(document({"s": ASKS_THE_BODY, "condition": "s"}))[0]
    assert rule.node.evaluate(from_bytes(_raw(patch))) is True


def test_a_body_of_any_depth_stops_nothing() -> None:
    """Lists in lists, just short of what the decoder refuses, are either read or hidden."""
    selections = ({"requestObject.spec.a": "b"}, {"detector.pod.a": "b"})
    rules = [compile_selection(selection) for selection in selections]
    for depth in range(700, 1000, 3):
        nested = b"[" * depth + b'{"a":"b"}' + b"]" * depth
        for rule, body in zip(rules, (b'{"spec":%s}' % nested, b'{"spec":{"a":"b","c":%s}}' % nested), strict=True):
            try:
                deep = from_bytes(_raw(body))
            except RecursionError:  # the formats make a dead letter of it
                return
            assert rule.node.evaluate(deep) in {True, None}


@pytest.mark.parametrize(
    ("detection", "matches"),
    [
        ({"s": {"verb": "get", USER: "ana*"}, "condition": "s"}, True),
        ({"s": {"verb": "get", USER: "bob"}, "condition": "s"}, False),
        ({"s": [{"verb": "list"}, {USER: "ana*"}], "condition": "s"}, True),
        ({"s": [{"verb": "list"}, {USER: "bob"}], "condition": "s"}, False),
        ({"s": [{"verb": "get", USER: "bob"}, {"verb": "list", USER: "ana*"}], "condition": "s"}, False),
        ({"a": {"verb": "get"}, "b": {"verb": "list"}, "condition": "a and not b"}, True),
        ({"a": {"verb": "get"}, "b": {"verb": "list"}, "condition": "not a or b"}, False),
        ({"a": {"verb": "get"}, "b": {"verb": "list"}, "condition": "not (a and b)"}, True),
        ({"a": {"verb": "list"}, "b": {"verb": "get"}, "c": {"verb": "get"}, "condition": "b or a and a"}, True),
        ({"a": {"verb": "list"}, "b": {"verb": "get"}, "condition": "(b or b) and a"}, False),
        ({"x1": {"verb": "get"}, "x2": {"verb": "list"}, "y": {"verb": "list"}, "condition": "1 of x*"}, True),
        ({"x1": {"verb": "get"}, "x2": {"verb": "list"}, "condition": "all of x*"}, False),
        ({"x1": {"verb": "get"}, "x2": {"verb": "g*"}, "y": {"verb": "list"}, "condition": "all of x*"}, True),
        ({"x1": {"verb": "get"}, "y": {"verb": "list"}, "condition": "any of them"}, True),
        ({"x1": {"verb": "get"}, "y": {"verb": "list"}, "condition": "1 of them"}, True),
        ({"x1": {"verb": "get"}, "y": {"verb": "list"}, "condition": "all of them"}, False),
        ({"x1": {"verb": "get"}, "_y": {"verb": "list"}, "condition": "all of them"}, True),
        ({"x1": {"verb": "list"}, "_y": {"verb": "get"}, "condition": "1 of them"}, False),
        ({"x1": {"verb": "list"}, "_y": {"verb": "get"}, "condition": "1 of _*"}, True),
        ({"sel_a_1": {"verb": "get"}, "sel_b_2": {"verb": "list"}, "condition": "1 of sel*_1"}, True),
        ({"notable": {"verb": "get"}, "condition": "notable"}, True),
        ({"s": {"verb": []}, "condition": "s"}, False),
        ({"s": {"objectRef.uid": []}, "condition": "s"}, True),
    ],
)
def test_a_condition_combines_detections(detection: dict[str, Any], matches: bool) -> None:
    """Maps are `and`, lists are `or`, `not` binds tightest and `or` least, and `x of` leaves `_` names out."""
    assert compile_rules(document(detection))[0].node.evaluate(activity(event())) is matches
