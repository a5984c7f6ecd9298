"""Learning is guarded: what was strange does not teach, and nobody can teach for their peers."""

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import pytest

from detector.baseline import TOKENS_MAX, Baselines
from detector.model import windows as model_windows
from detector.model.forest import threshold_for
from detector.score import Score
from tests.model import town
from tests.model.test_model import DAY, MALLORY, behaviour, intrusion, run

_DELAY_DAYS: Final = 3
"""Within so many days an identity that takes one more namespace's secrets a day is alerted."""
_SERVICE: Final = "system:serviceaccount:shop:api"


def alerted(scores: list[Score]) -> set[str]:
    """Whom they are about."""
    return {score.episode.name for score in scores}


def creep(days: int) -> list[dict[str, Any]]:
    """A developer's usual days, on each of which the secrets of one more namespace are read."""
    events = []
    for day in range(days):
        time = DAY + timedelta(days=day)
        ref = {"resource": "pods", "namespace": "shop"}
        events += [town.request(time + timedelta(minutes=m), MALLORY, verb="list", objectRef=ref) for m in (1, 20, 40)]
        for number in range(day + 1):
            ref = {"resource": "secrets", "namespace": f"team-{number}"}
            events.append(town.request(time + timedelta(minutes=2 + number), MALLORY, verb="get", objectRef=ref))
    return events


def test_slow_poisoning_is_alerted_within_a_stated_delay() -> None:
    """Two weeks of widening habits, one namespace a day: the first alert comes in time, and it goes on."""
    scores = run(behaviour(live=False), creep(14))
    days = sorted({(datetime.fromtimestamp(one.episode.start_seconds, DAY.tzinfo) - DAY).days for one in scores})
    assert alerted(scores) == {MALLORY}
    assert days[0] < _DELAY_DAYS
    assert len(days) >= 14 - _DELAY_DAYS


def test_what_was_alerted_teaches_neither_its_identity_nor_its_peers() -> None:
    """Baselines and peer group are those of before."""
    model = behaviour()
    before = msgspec.msgpack.encode(model.state.baselines)
    run(model, intrusion())
    assert msgspec.msgpack.encode(model.state.baselines) == before


@pytest.mark.parametrize("windows", [1, 10])
def test_one_identity_moves_its_peers_by_no_more_than_one_member(windows: int) -> None:
    """However often it has a token, and whatever else it has: twenty thousand tokens of its own move nothing."""
    baselines = Baselines()
    for number in range(20):
        baselines.teach(f"member-{number}", "peers", {"action": {"list pods"}}, (1.0, 1.0), 0.0)
    alone = baselines.view("member-3", "peers", 0.0).surprise_bits("action", "get secrets")
    for window in range(windows):
        noise = {f"noise {number}" for number in range(window * TOKENS_MAX, (window + 1) * TOKENS_MAX)}
        baselines.teach("loud", "peers", {"action": {"get secrets"}, "object": noise}, (1.0, 1.0), 0.0)
    view = baselines.view("member-3", "peers", 0.0)
    assert baselines.groups["peers"].tokens["action"]["get secrets"] == 1
    assert 3.0 < view.surprise_bits("action", "get secrets") < alone  # one member of twenty-one has it
    assert view.surprise_bits("object", "noise 0") > 3.0
    assert len(baselines.identities["loud"].tokens["object"]) <= TOKENS_MAX
    assert len(baselines.cluster.tokens["object"]) <= TOKENS_MAX


def test_a_flood_of_names_crowds_out_no_known_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are bounded; the intruder among the flood is still found."""
    monkeypatch.setattr(model_windows, "WINDOWS_MAX", 20)
    model = behaviour(live=False)
    flood = [town.activity(town.request(DAY, f"system:serviceaccount:web:flood-{number}")) for number in range(100)]
    model.update(flood)
    assert sum(map(len, model.state.windows.values())) == 20
    assert MALLORY in alerted(run(model, intrusion()))


def test_a_brand_new_identity_is_known_as_young() -> None:
    """Its alert says that little is known of it."""
    events = [
        town.request(
            DAY + timedelta(minutes=number),
            "system:serviceaccount:web:planted",
            verb="list",
            objectRef={"resource": "secrets", "namespace": namespace},
            sourceIPs=["198.51.100.9"],
        )
        for number, namespace in enumerate(("pay", "shop", "kube-system", "web"))
    ]
    scores = run(behaviour(live=False), events)
    assert all(score.verdict.young for score in scores)
    assert alerted(scores) == {"system:serviceaccount:web:planted"}


def test_the_first_day_of_a_model_raises_no_storm() -> None:
    """Usual work after training, at one false alert a day."""
    events = [event for event in town.ordered(town.usual(town.DAYS + 1)) if event["stageTimestamp"] >= "2026-10-09"]
    assert len(run(behaviour(live=False, threshold=threshold_for(1.0)), events)) <= 2


def elsewhere(days: int) -> list[dict[str, Any]]:
    """The town's usual work under other names of people and namespaces, after the training."""
    later = [event for event in town.ordered(town.usual(town.DAYS + days)) if event["stageTimestamp"] >= "2026-10-09"]
    text = msgspec.json.encode(later).replace(b"@corp.example", b"@other.example")
    for old, new in ((b"shop", b"north"), (b"pay", b"south"), (b"web", b"east")):
        text = text.replace(b'"%s"' % old, b'"%s"' % new).replace(b":%s:" % old, b":%s:" % new)
    events: list[dict[str, Any]] = msgspec.json.decode(text)
    return events


def test_a_model_of_another_cluster_raises_no_storm() -> None:
    """Nobody is known and everything has another name: no identity alerts more than once in its first two days."""
    scores = run(behaviour(live=False, threshold=threshold_for(1.0)), elsewhere(2))
    assert len(scores) <= len(alerted(scores))
