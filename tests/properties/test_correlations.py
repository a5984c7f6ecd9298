"""Correlations: a compiled one agrees with a slow, obvious reading, in any order; first sights agree with theirs."""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.match import Match
from detector.sigma.cases import BASE_EVENT, activity_of, merge
from detector.sigma.engine import Engine
from detector.sigma.load import CompiledRule
from detector.sigma.memory import from_micros
from detector.state import Snapshot, decode, encode
from tests.pipelines import STREAM, Kept, Memory, pipeline, replay
from tests.sigma.build import Document, compile_rules, document, rule_id

_SPAN: Final = 60
_FOLD: Final = 90
_START: Final = 1_795_424_400
_VERBS: Final = ("create", "update", "patch")


class Request(NamedTuple):
    """A request of the small world: its verb is the base rule that it is a sighting of."""

    seconds: int
    verb: str
    namespace: str
    name: str
    hidden: bool
    """The body, which the base rules ask for, was not logged."""


Told: TypeAlias = dict[tuple[str, int, int], bool]
"""Group, fold window and number of a request that an alert holds; true where it is proven."""

_requests = st.lists(
    st.builds(
        Request,
        seconds=st.integers(0, 300),
        verb=st.sampled_from(_VERBS),
        namespace=st.sampled_from(["a", "b"]),
        name=st.sampled_from(["x", "y", "z"]),
        hidden=st.integers(0, 4).map(lambda number: number == 0),
    ),
    max_size=14,
)


def _base(number: int) -> Document:
    """The base rule of one verb; it asks for the body."""
    verb = _VERBS[number]
    selection = {"verb": verb, "requestObject.spec.hostPID": True}
    rule = document({"selection": selection, "condition": "selection"}, name=verb)
    return {key: value for key, value in rule.items() if key not in ("id", "level")}


def correlation(type_: str, condition: dict[str, Any] | None, **changes: Any) -> CompiledRule:
    """A correlation of the three base rules by namespace."""
    section = {
        "type": type_,
        "rules": list(_VERBS),
        "group-by": ["objectRef.namespace"],
        "timespan": f"{_SPAN}s",
        **({} if condition is None else {"condition": condition}),
    }
    head: Document = {"title": "chain", "id": rule_id(9), "level": "high"}
    head["detector"] = {"fold_seconds": _FOLD, "group_by": ["objectRef.namespace"]}
    (rule,) = compile_rules({**head, "correlation": section, **changes}, *map(_base, range(3)))
    return rule


_RULES: Final = {
    "event_count": correlation("event_count", {"gte": 3}),
    "value_count": correlation("value_count", {"gt": 1, "field": "objectRef.name"}),
    "temporal": correlation("temporal", {"gte": 2}),
    "temporal_ordered": correlation("temporal_ordered", None),
}


def event_of(number: int, request: Request) -> dict[str, Any]:
    """A request as an audit event."""
    time = from_micros(1_000_000 * (_START + request.seconds)).isoformat()
    return {
        "auditID": str(number),
        "verb": request.verb,
        "level": "Metadata" if request.hidden else "Request",
        "requestReceivedTimestamp": time,
        "stageTimestamp": time,
        "objectRef": {"resource": "pods", "namespace": request.namespace, "name": request.name},
        "requestObject": None if request.hidden else {"spec": {"hostPID": True}},
    }


def _satisfies(type_: str, chosen: Sequence[Request]) -> bool:
    if type_ == "event_count":
        return len(chosen) >= 3
    if type_ == "value_count":
        return len({request.name for request in chosen}) >= 2
    return len({request.verb for request in chosen}) >= 2


def _chains(type_: str, requests: Sequence[Request], group: str) -> Iterator[tuple[list[int], int]]:
    """Every set of requests of a group that satisfies the condition, and when it ends."""
    numbers = [number for number, request in enumerate(requests) if request.namespace == group]
    if type_ == "temporal_ordered":
        for chain in itertools.permutations(numbers, 3):
            steps = [requests[number] for number in chain]
            times = [step.seconds for step in steps]
            ordered = times[0] < times[1] < times[2] and times[2] - times[0] <= _SPAN
            if ordered and [step.verb for step in steps] == list(_VERBS):
                yield list(chain), times[2]
        return
    for last in numbers:
        end = requests[last].seconds
        # Of requests at the same time each may stand for the end, so that all of them belong to it.
        within = [number for number in numbers if end - _SPAN <= requests[number].seconds <= end]
        if _satisfies(type_, [requests[number] for number in within]):
            yield within, end


def _slow(type_: str, requests: Sequence[Request]) -> Told:
    """What each alert holds, chain by chain."""
    told: Told = {}
    proven = [request if not request.hidden else None for request in requests]
    for group in ("a", "b"):
        for chain, end in _chains(type_, requests, group):
            for number in chain:
                told.setdefault((group, (_START + end) // _FOLD, number), False)
        known = [number for number, each in enumerate(proven) if each]
        for chain, end in _chains(type_, [each for each in proven if each], group):
            for place in chain:
                told[group, (_START + end) // _FOLD, known[place]] = True
    return told


def _told(matches: Sequence[Match]) -> Told:
    told: Told = defaultdict(bool)
    for match in matches:
        assert match.fold_time is not None
        (group,) = match.group
        key = (group, int(match.fold_time.timestamp()) // _FOLD, int(match.activity.event.audit_id))
        told[key] = told[key] or not match.degraded
    return dict(told)


@given(type_=st.sampled_from(sorted(_RULES)), requests=_requests, order=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=400)
def test_a_correlation_agrees_with_its_slow_reading_in_any_order(
    type_: str, requests: list[Request], order: Any
) -> None:
    """Each alert holds the requests of every chain that ends in its window, and is proven where they are."""
    acted = [activity_of(event_of(number, request)) for number, request in enumerate(requests)]
    order.shuffle(acted)

    matches = Engine([_RULES[type_]]).match(acted)

    assert _told(matches) == _slow(type_, requests)


@given(type_=st.sampled_from(sorted(_RULES)), requests=_requests)
@settings(deadline=None, max_examples=100)
def test_a_second_delivery_adds_nothing(type_: str, requests: list[Request]) -> None:
    """A request counts once, however often it comes."""
    acted = [activity_of(event_of(number, request)) for number, request in enumerate(requests)]
    engine = Engine([_RULES[type_]])
    engine.match(acted)

    assert engine.match(acted) == []


_DAY: Final = 86_400
_NEW = compile_rules(
    document(
        {"selection": {"verb|exists": True}, "condition": "selection"},
        detector={
            "fold_seconds": 3600,
            "first_seen": {"fields": ["objectRef.name"], "group_by": ["objectRef.namespace"], "memory": "10d",
                           "warm_up": "2d"},
        },
    )
)[0]  # fmt: skip
_BACK = compile_rules(
    document(
        {"selection": {"verb|exists": True}, "condition": "selection"},
        detector={"fold_seconds": 3600, "dormant": {"after": "10d", "group_by": ["objectRef.namespace"]}},
    )
)[0]


def _lives(times: Sequence[int], memory: int) -> list[tuple[int, list[int]]]:
    """Runs of times with no gap longer than the memory, each with its start."""
    lives: list[tuple[int, list[int]]] = []
    for time in times:
        if lives and time - lives[-1][1][-1] <= memory:
            lives[-1][1].append(time)
        else:
            lives.append((time, [time]))
    return lives


def _first_sights(requests: Sequence[Request]) -> set[int]:
    """The numbers of the requests, in order of time, that show their namespace a name it was not seen with."""
    sights: set[int] = set()
    for number, request in enumerate(requests):
        before = [other for other in requests[: number + 1] if other.namespace == request.namespace]
        since = _lives([other.seconds for other in before], 10 * _DAY)[-1][0]
        own = [other.seconds for other in before if other.name == request.name and other.seconds >= since]
        first = _lives(own, 10 * _DAY)[-1][0]
        if since + 2 * _DAY <= first and (_START + first) // 3600 == (_START + request.seconds) // 3600:
            sights.add(number)
    return sights


def _returns(requests: Sequence[Request]) -> set[int]:
    """The numbers of the requests with which a namespace comes back."""
    back: set[int] = set()
    for number, request in enumerate(requests):
        before = [other.seconds for other in requests[: number + 1] if other.namespace == request.namespace]
        lives = _lives(before, 10 * _DAY)
        first = lives[-1][0]
        if len(lives) > 1 and (_START + first) // 3600 == (_START + request.seconds) // 3600:
            back.add(number)
    return back


@st.composite
def _weeks(draw: st.DrawFn) -> list[Request]:
    gaps = st.sampled_from([60, 600, 3600, 5 * 3600, _DAY, 2 * _DAY, 5 * _DAY, 10 * _DAY, 11 * _DAY])
    time, requests = 0, []
    for _ in range(draw(st.integers(0, 12))):
        time += draw(gaps)
        requests.append(
            Request(time, "create", draw(st.sampled_from(["a", "b"])), draw(st.sampled_from(["x", "y"])), hidden=False)
        )
    return requests


@given(requests=_weeks())
@settings(deadline=None, max_examples=300)
def test_first_sights_and_returns_agree_with_their_slow_reading(requests: list[Request]) -> None:
    """Also where what is too old is forgotten on the way."""
    new, back = Engine([_NEW]), Engine([_BACK])
    found: dict[str, set[int]] = {"new": set(), "back": set()}
    for number, request in enumerate(requests):
        acted = activity_of(event_of(number, request))
        for name, engine in (("new", new), ("back", back)):
            found[name] |= {int(match.activity.event.audit_id) for match in engine.match([acted])}
            engine.advance(acted.time)

    assert found == {"new": _first_sights(requests), "back": _returns(requests)}


@given(
    type_=st.sampled_from(sorted(_RULES)),
    groups=st.lists(st.integers(0, 30), max_size=80),
    of_group=st.integers(1, 4),
    of_rule=st.integers(4, 10),
)
@settings(deadline=None, max_examples=60)
def test_memory_stays_within_its_bounds_under_a_flood_of_groups(
    type_: str, groups: list[int], of_group: int, of_rule: int
) -> None:
    """Sightings, groups and terms; what is counted is what is there."""
    engine = Engine([_RULES[type_]])
    news = Engine([_NEW])
    with (
        patch("detector.sigma.correlate.SIGHTINGS_OF_GROUP", of_group),
        patch("detector.sigma.correlate._STEPS_OF_GROUP", of_group),
        patch("detector.sigma.correlate._SIGHTINGS_OF_RULE", of_rule),
        patch("detector.sigma.first_seen._GROUPS_KEPT", of_rule),
        patch("detector.sigma.first_seen._TERMS_KEPT", of_group),
    ):
        for number, group in enumerate(groups):
            request = Request(number, _VERBS[number % 3], f"n{group}", f"o{number}", hidden=False)
            acted = activity_of(event_of(number, request))
            engine.match([acted])
            news.match([acted])
            (kept,) = engine.memory.sightings.values()
            assert kept.count == sum(map(len, kept.groups.values())) <= of_rule
            assert all(0 < len(sightings) <= of_group for sightings in kept.groups.values())
            (known,) = news.memory.groups.values()
            assert len(known.groups) <= of_rule
            assert all(len(each.terms) <= of_group for each in known.groups.values())


@pytest.mark.parametrize(
    ("type_", "verb", "after", "left"),
    [
        ("temporal", "create", _SPAN + 600, 1),
        ("temporal", "create", _SPAN + 601, 0),
        ("temporal_ordered", "create", _SPAN + 600, 1),
        ("temporal_ordered", "update", 600, 1),
        ("temporal_ordered", "update", 601, 0),
    ],
)
def test_what_is_over_is_forgotten(type_: str, verb: str, after: int, left: int) -> None:
    """Once nothing that may still come can be near to it; a later step without a first one, once none can come."""
    engine = Engine([_RULES[type_]])
    engine.match([activity_of(event_of(0, Request(0, verb, "a", "x", hidden=False)))])

    engine.advance(from_micros(1_000_000 * (_START + after)))

    (kept,) = engine.memory.sightings.values()
    assert kept.count == sum(map(len, kept.groups.values())) == left


def _with_id(rule: CompiledRule, number: int) -> CompiledRule:
    return replace(rule, metadata=rule.metadata.model_copy(update={"id": rule_id(number)}))


_PACK: Final = [
    *itertools.chain.from_iterable(
        compile_rules(
            {
                "title": type_,
                "id": rule_id(20 + number),
                "level": "high",
                "correlation": {
                    "type": type_,
                    "rules": ["create", "update"],
                    "timespan": "10m",
                    **({"condition": condition} if condition else {}),
                },
            },
            _base(0),
            _base(1),
        )
        for number, (type_, condition) in enumerate(
            {"event_count": {"gte": 3}, "value_count": {"gte": 2, "field": "objectRef.name"}, "temporal": None}.items()
        )
    ),
    _with_id(_NEW, 30),
    _with_id(_BACK, 31),
]


@st.composite
def _records(draw: st.DrawFn) -> list[bytes]:
    """Weeks of requests, now and then a burst of them."""
    records: list[bytes] = []
    for request in draw(_weeks()):
        burst = draw(st.lists(st.tuples(st.integers(0, 300), st.sampled_from(_VERBS), st.booleans()), max_size=4))
        for seconds, verb, hidden in sorted([(0, "create", False), *burst]):
            moment = request._replace(seconds=request.seconds + seconds, verb=verb, hidden=hidden)
            records.append(json.dumps(merge(BASE_EVENT, event_of(len(records), moment))).encode())
    return records


@given(records=_records(), cuts=st.sets(st.integers(1, 40)))
@settings(deadline=None, max_examples=60)
def test_neither_cuts_nor_restarts_change_what_is_remembered(records: list[bytes], cuts: set[int]) -> None:
    """Every document is equal, where each batch is a run of its own that goes on from the stored state."""
    edges = [0, *sorted(cut for cut in cuts if cut < len(records)), len(records)]
    batches = [records[start:end] for start, end in itertools.pairwise(edges)]
    sink, saved = Kept(), encode(Snapshot())
    for end in range(1, len(batches) + 1):
        snapshot = decode(saved)
        line = pipeline(Memory(batches[:end], snapshot.positions.get(STREAM, 0)), sink, snapshot, _PACK)
        line.run()
        saved = encode(line.snapshot)
        assert decode(saved) == line.snapshot
    pipeline(Memory([]), sink, decode(saved), _PACK).finish()

    assert sink.documents() == replay([records], _PACK).documents()
