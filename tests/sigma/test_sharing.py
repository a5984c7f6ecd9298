"""Copies of rules that remember: they share what is remembered for as long as it is the same, and each alerts."""

from typing import Any, Final

import msgspec
import pytest

from detector.activity import Activity
from detector.match import Match
from detector.sigma.cases import activity_of
from detector.sigma.correlate import Chain
from detector.sigma.engine import Engine
from detector.sigma.load import CompiledRule
from detector.sigma.memory import Memory
from tests.sigma.build import Document, compile_rules, document, rule_id

_DELETES: Final = {"selection": {"verb": "delete"}, "condition": "selection"}
_BASE: Final = {key: value for key, value in document(_DELETES, name="base").items() if key not in ("id", "level")}


def _chain(number: int, **changes: Any) -> Document:
    section = {"type": "event_count", "rules": "base", "timespan": "5m", "condition": {"gte": 2}, **changes}
    return {"title": f"chain {number}", "id": rule_id(number), "level": "high", "correlation": section}


def _chains(*chains: Document) -> list[CompiledRule]:
    return compile_rules(*chains, _BASE)


def _news(count: int) -> list[CompiledRule]:
    section = {"first_seen": {"fields": ["objectRef.name"], "warm_up": "1m"}}
    return compile_rules(*(document(_DELETES, detector=section, id=rule_id(number)) for number in range(count)))


def _deleted(minute: int, name: str = "web") -> Activity:
    time = f"2026-11-23T09:{minute:02}:00.000000Z"
    ref = {"resource": "pods", "namespace": "shop", "name": name}
    times = {"requestReceivedTimestamp": time, "stageTimestamp": time}
    return activity_of({"verb": "delete", "auditID": f"id-{minute}", "objectRef": ref, **times})


def _told(matches: list[Match]) -> list[tuple[str, str]]:
    return [(match.rule.id, match.activity.event.audit_id) for match in matches]


def _stored(memory: Memory) -> Memory:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(memory), type=Memory)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Chain]:
    """The chains that took a request, as often as they did."""
    taken: list[Chain] = []
    see = Chain.see

    def counted(chain: Chain, *args: Any) -> Any:
        taken.append(chain)
        return see(chain, *args)

    monkeypatch.setattr(Chain, "see", counted)
    return taken


def test_ten_copies_of_a_correlation_take_a_request_once_and_all_alert(seen: list[Chain]) -> None:
    """What is remembered is the same for all of them; their matches come in the order of the rules."""
    engine = Engine(_chains(*map(_chain, range(10))))

    assert engine.match([_deleted(1)]) == []
    told = _told(engine.match([_deleted(2)]))

    assert len(seen) == 2
    assert told == [(rule_id(number), audit_id) for number in range(10) for audit_id in ("id-2", "id-1")]


def test_a_restart_puts_copies_together_again(seen: list[Chain]) -> None:
    """They are stored one by one, and found to be equal."""
    rules = _chains(_chain(1), _chain(2))
    before = Engine(rules)
    before.match([_deleted(1)])
    engine = Engine(rules, _stored(before.memory))

    assert len(engine.match([_deleted(2)])) == 4
    assert len(seen) == 2


def test_a_copy_that_is_added_later_knows_only_what_came_since() -> None:
    """Copies with a different past cannot share it."""
    first, second = _chains(_chain(1), _chain(2))
    memory = Engine([first]).memory
    Engine([first], memory).match([_deleted(1)])
    engine = Engine([first, second], memory)

    assert _told(engine.match([_deleted(2)])) == [(rule_id(1), "id-2"), (rule_id(1), "id-1")]
    assert _told(engine.match([_deleted(3)])) == [(rule_id(1), "id-3"), (rule_id(2), "id-3"), (rule_id(2), "id-2")]


def test_a_copy_that_asks_something_else_from_now_on_keeps_its_past_for_itself() -> None:
    """Of two copies one gets another time span: what either does to its memory must not reach the other's."""
    memory = Engine([]).memory
    Engine(_chains(_chain(1), _chain(2)), memory).match([_deleted(1)])
    engine = Engine(_chains(_chain(1), _chain(2, timespan="20m")), memory)

    assert _told(engine.match([_deleted(10)])) == [(rule_id(2), "id-10"), (rule_id(2), "id-1")]
    assert memory.sightings[rule_id(1)] is not memory.sightings[rule_id(2)]


def test_copies_of_a_first_seen_rule_all_alert() -> None:
    """The same is new to all of them, and once it is known it is to all."""
    engine = Engine(_news(3))
    engine.match([_deleted(1)])

    assert _told(engine.match([_deleted(3, "other")])) == [(rule_id(number), "id-3") for number in range(3)]
    assert engine.match([_deleted(4)]) == []
    assert len({id(groups) for groups in engine.memory.groups.values()}) == 1


def test_a_first_seen_rule_that_is_added_later_warms_up_by_itself() -> None:
    """At first everything is new to it, which tells nothing."""
    first, second = _news(2)
    memory = Engine([first]).memory
    Engine([first], memory).match([_deleted(1)])
    engine = Engine([first, second], memory)

    assert _told(engine.match([_deleted(3, "other")])) == [(rule_id(0), "id-3")]
    assert memory.groups[rule_id(0)] is not memory.groups[rule_id(1)]
