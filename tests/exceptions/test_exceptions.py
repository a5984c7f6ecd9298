"""What an exception covers: exactly what it says, and of a request every part."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from detector.exceptions import Exceptions
from detector.exceptions.entry import Entry
from detector.identity import IdentityKind
from detector.match import Match
from detector.score import Episode, Score
from detector.score_alert import RULE_ID
from detector.state import Snapshot, decode, encode
from tests.events import EXEC, line
from tests.exceptions.build import RULE, entry, match
from tests.pipelines import Kept, Memory, bundled_rules, pipeline

ARGOCD = "system:serviceaccount:argocd:argocd-server"
ALL_ACCOUNTS = "system:serviceaccount:argocd:*"
MASTER: dict[str, Any] = {"impersonatedUser": {"username": "root", "groups": ["system:masters"]}}


def covers(excepted: Entry, matched: Match) -> bool:
    """Whether an exception silences a match; its hits say the same."""
    exceptions = Exceptions([excepted])
    silenced = not exceptions.unexcepted([matched])
    assert exceptions.hits == {excepted.id: int(silenced)}
    return silenced


@pytest.mark.parametrize(
    ("names", "user", "expected"),
    [
        ("ana@example.test", "ana@example.test", True),
        ("ana@example.test", "Ana@example.test", False),
        ("ana@example.test", "ana@example.test.attacker.test", False),
        (["bo", ARGOCD], ARGOCD, True),
        (ALL_ACCOUNTS, ARGOCD, True),
        (ALL_ACCOUNTS, "system:serviceaccount:argocd-evil:argocd-server", False),
        (ALL_ACCOUNTS, "system:serviceaccount:argocd:", False),
        (ALL_ACCOUNTS, "system:serviceaccount:argocd:a:b", False),
        (ALL_ACCOUNTS, "system:serviceaccount:argocd:*", False),
        ("system:node:*", "system:node:worker-1", True),
        ("system:node:*", "system:node:", False),
        ("system:node:*", "system:nodes", False),
    ],
)
def test_an_identity_is_exact_or_anchored(names: str | list[str], user: str, expected: bool) -> None:
    """Look-alikes, longer names and names that only look like an account are not covered."""
    assert covers(entry(identity=names), match(user=user)) is expected


def test_another_rule_is_not_covered() -> None:
    """An exception is bound to rules."""
    assert not covers(entry(), match(rule="00000000-0000-4000-8000-000000000002"))
    assert covers(entry(rule=[RULE, RULE_ID]), match())


def test_a_request_in_another_name_needs_an_exception_of_its_own() -> None:
    """What is fine for a person is not fine for whomever the person acts as."""
    assert not covers(entry(), match(**MASTER))
    assert covers(entry(scope={"impersonatedUser.username": "root"}), match(**MASTER))
    assert not covers(entry(scope={"impersonatedUser.username": "root"}), match())


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"objectRef.namespace": ["web", "shop"], "verb": "create"}, True),
        ({"objectRef.namespace": "web", "verb": "create"}, False),
        ({"objectRef.namespace": "SHOP"}, False),
        ({"objectRef.name": "cart"}, False),
        ({"responseStatus.code": 200}, True),
        ({"detector.containers.image": ["shop/cart:1", "shop/proxy:1"]}, True),
        ({"detector.containers.image": "shop/cart:1"}, False),
        ({"detector.pod.hostPID": True}, True),
        ({"responseObject.kind": "Pod"}, False),
        ({"detector.source.ip|cidr": ["10.0.0.0/8", "203.0.113.0/24"]}, True),
        ({"detector.source.ip|cidr": "10.0.0.0/8"}, False),
        ({"detector.source.ip|cidr": "2001:db8::/32"}, False),
    ],
)
def test_a_scope_holds_for_every_value_of_the_request(scope: dict[str, object], expected: bool) -> None:
    """A second container does not hide behind the first; a field without a value is not covered."""
    pod = {"spec": {"hostPID": True, "containers": [{"image": "shop/cart:1"}, {"image": "shop/proxy:1"}]}}
    request = match(verb="create", objectRef={"resource": "pods", "namespace": "shop"}, requestObject=pod)
    assert covers(entry(scope=scope), request) is expected


def test_a_body_that_was_not_logged_is_not_covered() -> None:
    """Nobody knows what it holds."""
    hidden = match(verb="create", level="Metadata", objectRef={"resource": "pods", "namespace": "shop"})
    assert not covers(entry(scope={"detector.containers.image": "shop/cart:1"}), hidden)


def test_an_address_that_is_none_is_not_covered() -> None:
    """Some clouds log a word in its place."""
    assert not covers(entry(scope={"detector.source.ip|cidr": "10.0.0.0/8"}), match(sourceIPs=["gce-internal-ip"]))


def test_the_end_is_judged_by_the_time_of_the_request() -> None:
    """So a replay of old logs gives what was given then."""
    times = {"requestReceivedTimestamp": "2026-12-31T23:59:59Z", "stageTimestamp": "2027-01-01T00:00:01Z"}
    assert covers(entry(), match(**times))
    assert not covers(entry(), match(requestReceivedTimestamp="2027-01-01T00:00:00Z"))


def score(*, complete: bool, name: str = "ana@example.test") -> Score:
    """A strange day of an identity, 2026-11-23."""
    start = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
    return Score(Episode(name, IdentityKind.USER, "", start), 0.9, "m", complete=complete)


def test_an_alert_on_behaviour_is_silenced_by_name_and_counted_once() -> None:
    """A strange day comes several times, and once more when it is over."""
    exceptions = Exceptions([entry(rule=RULE_ID)])
    scores = [score(complete=False), score(complete=False), score(complete=True)]
    assert exceptions.unexcepted_scores(scores) == []
    assert exceptions.hits == {"an-entry": 1}
    other = score(complete=True, name="bo@example.test")
    assert exceptions.unexcepted_scores([other]) == [other]
    assert Exceptions([entry()]).unexcepted_scores(scores) == scores
    assert Exceptions([entry(rule=RULE_ID, expires="2026-11-22")]).unexcepted_scores(scores) == scores


def test_an_entry_warns_once_before_its_end_and_once_after() -> None:
    """As event time reaches the day, and with whom to ask."""
    exceptions = Exceptions([entry(expires="2026-11-30"), entry(id="another", expires="2027-11-30")])
    noon = datetime(2026, 11, 10, 12, tzinfo=UTC)
    with capture_logs() as logs:
        for hours in range(0, 24 * 30, 6):
            exceptions.review(noon + timedelta(hours=hours))
    assert [(each["event"], each["id"], each["owner"]) for each in logs] == [
        ("exception expires soon", "an-entry", "team@example.test"),
        ("exception has expired", "an-entry", "team@example.test"),
    ]


EXEC_RULES = [rule.metadata.id for rule in bundled_rules() if rule.path.stem.startswith("kubernetes_audit_exec")]


def test_silenced_matches_are_no_alerts_and_are_remembered_over_a_restart() -> None:
    """By the run that goes on from the snapshot."""
    excepted = entry(rule=EXEC_RULES, scope={"objectRef.namespace": "shop"})
    snapshot = Snapshot()
    for start in (0, 1):
        sink = Kept()
        source = Memory([[line(**EXEC)], [line(**EXEC)]][: start + 1], start)
        run = pipeline(source, sink, snapshot)
        run.exceptions = Exceptions([excepted], snapshot.exception_hits)
        run.run()
        run.finish()
        assert not sink.stored
        assert run.summary.silenced == snapshot.exception_hits
        snapshot = decode(encode(snapshot))
    assert snapshot.exception_hits["an-entry"] == 2 * len(pipelined_matches())
    assert pipelined_matches() <= {*EXEC_RULES}


def pipelined_matches() -> set[str]:
    """The rules that an ordinary exec fires."""
    sink = Kept()
    run = pipeline(Memory([[line(**EXEC)]]), sink)
    run.run()
    return {alert.document.rule.id for alert in sink.stored.values()}


def test_a_snapshot_of_an_earlier_version_is_read() -> None:
    """It knew of no exceptions."""
    assert decode(msgspec.msgpack.encode({"format": Snapshot().format})).exception_hits == {}


USERS = ["ana@example.test", ARGOCD, "system:serviceaccount:argocd:argocd-repo-server", "system:node:a"]
lines = st.builds(
    lambda user, namespace, hour, mode: line(
        **{
            **EXEC,
            "user": {"username": user},
            "objectRef": {**EXEC["objectRef"], "namespace": namespace},  # type: ignore[dict-item]  # it is a mapping
            "requestReceivedTimestamp": f"2026-11-{23 + hour // 24}T{hour % 24:02}:15:02Z",
            "stageTimestamp": f"2026-11-{23 + hour // 24}T{hour % 24:02}:15:03Z",
            **mode,
        }
    ),
    st.sampled_from(USERS),
    st.sampled_from(["shop", "web"]),
    st.integers(0, 60),
    st.sampled_from([{}, MASTER]),
)
excepted_entries = st.lists(
    st.builds(
        lambda rules, names, scope, expires: entry(rule=rules, identity=names, scope=scope, expires=expires),
        st.lists(st.sampled_from(EXEC_RULES), min_size=1, max_size=3),
        st.lists(st.sampled_from([*USERS, ALL_ACCOUNTS, "system:node:*"]), min_size=1, max_size=2),
        st.sampled_from([{}, {"objectRef.namespace": "shop"}, {"impersonatedUser.username": "root"}]),
        st.sampled_from(["2026-11-23", "2026-11-24", "2026-12-31"]),
    ),
    max_size=4,
)


def alert_ids(batches: list[list[bytes]], entries: list[Entry]) -> set[str]:
    """The alerts of a run with exceptions."""
    sink = Kept()
    run = pipeline(Memory(batches), sink)
    run.exceptions = Exceptions([each.model_copy(update={"id": f"e-{n}"}) for n, each in enumerate(entries)])
    run.run()
    run.finish()
    return {*sink.stored}


@settings(deadline=None, max_examples=50)  # each example is several runs
@given(batches=st.lists(st.lists(lines, min_size=1, max_size=4), max_size=4), entries=excepted_entries)
def test_an_exception_never_adds_an_alert(batches: list[list[bytes]], entries: list[Entry]) -> None:
    """Each entry more gives a part of the alerts that there were; seen the other way, removing one removes none."""
    before = alert_ids(batches, [])
    for count in range(1, len(entries) + 1):
        after = alert_ids(batches, entries[:count])
        assert after <= before
        before = after
