"""Proposed exceptions: narrow, worth it, and never at the cost of a known attack."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.activity import Activity
from detector.evaluate import Label
from detector.match import Level
from detector.sigma.fields import resolve
from detector.sigma.values import text_of
from detector.tune import Proposal, Tuning, entries
from tests.sigma.build import compile_selection
from tests.test_backtest import request, rule

BACKUP = "system:serviceaccount:velero:velero"


def secret(audit_id: str, hours: float, namespace: str = "shop", user: str = BACKUP, **changes: Any) -> Activity:
    """The list of a namespace's secrets."""
    ref = {"resource": "secrets", "namespace": namespace}
    return request(audit_id, hours, "list", user, objectRef=ref, sourceIPs=["10.0.4.5"], **changes)


def tuned(
    activities: list[Activity],
    campaigns: Mapping[str, str] | None = None,
    *,
    at_least: int = 3,
    level: Level = Level.MEDIUM,
) -> list[Proposal]:
    """The proposals; campaigns by auditID."""
    labels = {audit_id: Label(campaign, "t") for audit_id, campaign in (campaigns or {}).items()}
    tuning = Tuning([rule(1, "list"), rule(2, "get", "low")], labels, level)
    tuning.add(activities)
    return tuning.proposals(at_least)


NIGHTLY = [secret(f"n{number}", 24 * number) for number in range(4)]


def test_an_entry_is_bound_to_all_that_its_requests_share() -> None:
    """Rule, identity, verb, resource, namespace and trusted address; nothing that the client may choose."""
    (proposal,) = tuned(NIGHTLY)
    assert proposal.scope == {
        "verb": ("list",),
        "objectRef.resource": ("secrets",),
        "objectRef.namespace": ("shop",),
        "detector.source.ip": ("10.0.4.5",),
    }
    assert (proposal.identity, proposal.alerts, proposal.requests, proposal.loses) == (BACKUP, 4, 4, ())
    assert proposal.example == "list secrets shop from 10.0.4.5"
    assert proposal.last - proposal.first == timedelta(days=3)


def test_an_entry_has_the_form_of_the_exceptions_file() -> None:
    """One value plainly, several as a list; it ends 90 days after the newest event."""
    (proposal,) = tuned([*NIGHTLY, secret("x", 100, "web")])
    entry = proposal.entry("sec@corp.example", "backup", datetime(2026, 11, 5, 23, tzinfo=UTC))
    assert entry == {
        "id": "rules-system-serviceaccount-velero-velero",
        "rule": proposal.rule.metadata.id,
        "identity": BACKUP,
        "scope": {
            "verb": "list",
            "objectRef.resource": "secrets",
            "objectRef.namespace": ["shop", "web"],
            "detector.source.ip": "10.0.4.5",
        },
        "owner": "sec@corp.example",
        "reason": "backup",
        "expires": date(2027, 2, 3),
    }


def test_no_two_entries_have_one_id() -> None:
    """A file with an id twice would be refused."""
    own = [secret(f"o{number}", 2 * number) for number in range(3)]
    taken = [secret(f"t{number}", 2 * number, impersonatedUser={"username": "root"}) for number in range(3)]
    made = entries(tuned([*own, *taken]), "o", "r", datetime(2026, 11, 5, tzinfo=UTC))
    assert [entry["id"].removeprefix("rules-system-serviceaccount-velero-velero") for entry in made] == ["", "-2"]


def test_a_field_with_many_values_does_not_bind() -> None:
    """Names made by a generator would not hold tomorrow."""
    pods = [
        request(f"p{number}", number, "list", BACKUP, objectRef={"resource": "pods", "name": f"web-{number}"})
        for number in range(8)
    ]
    (proposal,) = tuned(pods)
    assert "objectRef.name" not in proposal.scope


def test_few_alerts_and_low_rules_are_left_alone() -> None:
    """An exception costs more care than two alerts."""
    assert tuned(NIGHTLY[:2]) == []
    reads = [request(f"g{number}", 2 * number) for number in range(4)]
    assert tuned(reads) == []
    assert len(tuned(reads, level=Level.LOW)) == 1


def test_nobody_in_particular_is_excepted() -> None:
    """The name of those without credentials is everybody's."""
    anonymous = [secret(f"a{number}", 2 * number, user="system:anonymous") for number in range(5)]
    assert tuned(anonymous) == []


def test_an_alert_that_only_a_hidden_body_might_have_raised_is_not_tuned() -> None:
    """It is low already."""
    reads_body = compile_selection({"verb": "create", "detector.pod.hostPID": True}, level="high")
    pod: dict[str, Any] = {"objectRef": {"resource": "pods"}, "requestObject": {"spec": {"hostPID": True}}}
    for level, count in (("Metadata", 0), ("Request", 1)):
        tuning = Tuning([reads_body], {}, Level.MEDIUM)
        body = pod | ({"requestObject": None} if level == "Metadata" else {})
        tuning.add([request(f"w{number}", number, "create", level=level, **body) for number in range(4)])
        assert len(tuning.proposals(1)) == count


def test_an_entry_that_would_lose_an_attack_is_refused_with_the_campaign() -> None:
    """The stolen token of the same account, used in the same way from the same address."""
    (proposal,) = tuned([*NIGHTLY, secret("evil", 50)], {"evil": "theft"})
    assert proposal.loses == ("theft",)


def test_what_loses_an_attack_in_one_namespace_is_proposed_for_the_others() -> None:
    """The narrower entry still silences most."""
    web = [secret(f"w{number}", 2 * number + 1, "web") for number in range(4)]
    (proposal,) = tuned([*NIGHTLY, *web, secret("evil", 50)], {"evil": "theft"})
    assert (proposal.scope["objectRef.namespace"], proposal.alerts, proposal.loses) == (("web",), 4, ())


def test_impersonation_is_excepted_only_by_the_name_that_was_taken() -> None:
    """What is fine as oneself is not fine as another."""
    own = [secret(f"o{number}", 2 * number) for number in range(3)]
    taken = [secret(f"t{number}", 2 * number, impersonatedUser={"username": "root"}) for number in range(3)]
    scopes = [proposal.scope.get("impersonatedUser.username") for proposal in tuned([*own, *taken])]
    assert sorted(scopes, key=str) == [("root",), None]


_requests = st.lists(
    st.tuples(st.sampled_from(["shop", "web"]), st.sampled_from(["a", "b"]), st.integers(0, 60), st.booleans()),
    min_size=1,
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(_requests)
def test_no_proposal_covers_a_labelled_request(rows: list[tuple[str, str, int, bool]]) -> None:
    """Whatever the mixture of ordinary and labelled requests."""
    activities = [secret(str(number), hours, place, user) for number, (place, user, hours, _) in enumerate(rows)]
    labels = {str(number): "theft" for number, row in enumerate(rows) if row[3]}
    for proposal in tuned(activities, labels, at_least=1):
        if proposal.loses:
            continue
        for each in activities:
            if each.event.audit_id in labels and each.identity.name == proposal.identity:
                assert not all(_holds(name, values, each) for name, values in proposal.scope.items())


def _holds(name: str, values: tuple[str, ...], activity: Activity) -> bool:
    field = resolve(name)
    assert field is not None
    found = field.read(activity)
    return bool(found) and all(text_of(value) in values for value in found)
