"""Engine: matches activities against every rule, asking only those that the index leaves.

The index is a memory of specialised rules: for each combination of verb, resource, code and the like, and then for each
actor, it holds what is left to ask of the rules that can still match, so that an event which no rule could match costs
two look-ups, however many rules there are.
"""

from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from detector.activity import Activity
from detector.match import Match
from detector.sigma.compile import Known, Node
from detector.sigma.correlate import Correlator
from detector.sigma.fields import DECISION, HIDDEN, Values, resolve
from detector.sigma.first_seen import Newness
from detector.sigma.load import CompiledRule
from detector.sigma.memory import Memory, to_micros
from detector.sigma.values import text_of

_KEYS_KEPT: Final = 50_000  # a large cluster has a few thousand; a client that invents resources could make any number
_USER_AGENT_CHARACTERS: Final = 512  # of one that is kept; it is free to choose, so the memory must be bounded

RankedRule: TypeAlias = tuple[int, CompiledRule]
"""A rule, and its place among all of them."""
Candidate: TypeAlias = tuple[Node | bool, tuple[RankedRule, ...]]
"""What is left to ask, once for all the rules that ask it: copies of a rule differ in what they say of themselves."""
Actor: TypeAlias = tuple[str, ...]
"""Trusted address, user agent, user name and groups: what an identity's requests have in common."""
_ACTOR_FIELDS: Final = [
    field
    for name in ("detector.source.ip", "detector.source.scope", "userAgent", "user.username", "user.groups")
    if (field := resolve(name)) is not None
]
"""What an actor tells; an event's other addresses do not take part, for clients choose those anew each time."""


class _Entry(NamedTuple):
    """The rules that can match under one key, and those of them that can match a certain actor."""

    candidates: list[Candidate]
    by_actor: dict[Actor, list[Candidate]]


class Key(NamedTuple):
    """What the index knows of an activity before any rule is asked."""

    verb: str
    resource: str
    subresource: str
    api_group: str
    stage: str
    code: int | None
    decision: str
    identity_kind: str
    impersonated: bool


class Engine:
    """All rules, indexed.

    Args:
        rules: what to match.
        memory: what an earlier run, or an earlier set of rules, remembered.
    """

    def __init__(self, rules: Sequence[CompiledRule], memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory
        self.memory.keep_only(rule.metadata.id for rule in rules)
        self._correlator = Correlator(self.memory)
        self._newness = Newness(self.memory)
        self._correlations = [(rule.metadata, rule.correlation) for rule in rules if rule.correlation]
        self._correlator.begin(self._correlations)
        self._begun = False
        self._conditions = [(rule.metadata, rule.first_seen) for rule in rules if rule.first_seen]
        self._rules = _by_question(rules)
        self._by_resource: dict[tuple[str, str, str], list[Candidate]] = {}
        self._by_key: dict[tuple[object, ...], _Entry] = {}
        self._actors_known = 0

    def match(self, activities: Sequence[Activity]) -> list[Match]:
        """Every rule that fires on every activity, in their order."""
        if activities and not self._begun:
            self._begun = True
            self._newness.begin(activities[0].received_time, self._conditions)
        matches: list[Match] = []
        by_key = self._by_key
        for activity in activities:
            key = _key(activity)
            entry = by_key.get(key) or self._index(Key(*key))
            if not entry.candidates:
                continue
            actor = _actor(activity)
            candidates = entry.by_actor.get(actor)
            if candidates is None:
                candidates = self._index_actor(entry, actor, activity)
            if candidates:
                matches += self._ask(candidates, activity)
        return matches

    def _ask(self, candidates: Sequence[Candidate], activity: Activity) -> list[Match]:
        """Put to an activity what the index could not decide."""
        fired: list[tuple[int, CompiledRule, bool]] = []
        for node, rules in candidates:
            verdict = node if isinstance(node, bool) else node.evaluate(activity)
            if verdict is not False:
                fired += [(rank, rule, verdict is None) for rank, rule in rules]
        if not fired:
            return []
        fired.sort(key=itemgetter(0))
        groups: dict[tuple[str, ...], tuple[str, ...]] = {}  # fields are read once for all rules that group by them
        matches: list[Match] = []
        for _, rule, degraded in fired:
            if rule.correlation is not None:
                verdict = None if degraded else True
                matches += self._correlator.see(rule.metadata, rule.correlation, activity, verdict)
                continue
            if rule.first_seen is not None and not self._newness.see(rule.metadata, rule.first_seen, activity):
                continue
            names = rule.metadata.group_by
            group = groups.get(names)
            if group is None:
                group = groups[names] = group_values(rule, activity)
            matches.append(Match(rule.metadata, activity, group, degraded))
        return matches

    def advance(self, now: datetime) -> None:
        """Move event time on; what is too old to matter is forgotten."""
        self.memory.now_micros = max(self.memory.now_micros, to_micros(now))
        self._correlator.advance(self._correlations)
        self._newness.advance(self._conditions)

    def _index(self, key: Key) -> _Entry:
        """Specialise the rules to a key, in two steps: of many rules, few are left after the first."""
        self._forget()
        resource = key[:3]
        related = self._by_resource.get(resource)
        if related is None:
            related = self._by_resource[resource] = _specialise(self._rules, _known_of_resource(key))
        entry = self._by_key[key] = _Entry(_specialise(related, _known(key)), {})
        return entry

    def _index_actor(self, entry: _Entry, actor: Actor, activity: Activity) -> list[Candidate]:
        candidates = _specialise(entry.candidates, {field.path: field.read(activity) for field in _ACTOR_FIELDS})
        if len(activity.event.user_agent) <= _USER_AGENT_CHARACTERS:
            self._forget()
            self._actors_known += 1
            entry.by_actor[actor] = candidates
        return candidates

    def _forget(self) -> None:
        if len(self._by_key) + self._actors_known >= _KEYS_KEPT:
            self._by_key.clear()
            self._by_resource.clear()
            self._actors_known = 0


def _by_question(rules: Sequence[CompiledRule]) -> list[Candidate]:
    """The rules by what they ask: rules of one detection share its compiled condition, see load.py."""
    questions: dict[int, tuple[Node, list[RankedRule]]] = {}
    for rank, rule in enumerate(rules):
        questions.setdefault(id(rule.node), (rule.node, []))[1].append((rank, rule))
    return [(node, tuple(ranked)) for node, ranked in questions.values()]


def _specialise(candidates: Sequence[Candidate], known: Known) -> list[Candidate]:
    left: list[Candidate] = []
    for node, rules in candidates:
        rest = node if isinstance(node, bool) else node.specialise(known)
        if rest is not False:
            left.append((rest, rules))
    return left


def _known_of_resource(key: Key) -> Known:
    return {
        "verb": _values(key.verb),
        "objectRef.resource": _values(key.resource),
        "objectRef.subresource": _values(key.subresource),
    }


def _known(key: Key) -> Known:
    known: dict[str, Values] = {
        "objectRef.apiGroup": _values(key.api_group),
        "stage": _values(key.stage),
        "responseStatus.code": () if key.code is None else (key.code,),
        f"annotations.{DECISION}": _values(key.decision),
        "detector.identity.kind": _values(key.identity_kind),
    }
    if not key.impersonated:
        known["impersonatedUser"] = ()
    return known


def _values(text: str) -> Values:
    return (text,) if text else ()


def _key(activity: Activity) -> tuple[str, str, str, str, str, int | None, str, str, bool]:
    """The fields of a `Key`, as the plain tuple that equals it: one is made for every event."""
    event = activity.event
    ref = event.object_ref
    status = event.response_status
    resource, subresource, api_group = ("", "", "") if ref is None else (ref.resource, ref.subresource, ref.api_group)
    return (
        event.verb,
        resource,
        subresource,
        api_group,
        event.stage,
        None if status is None else status.code,
        event.annotations.get(DECISION, ""),
        activity.identity.kind,
        event.impersonated_user is not None,
    )


def _actor(activity: Activity) -> Actor:
    event = activity.event
    return (activity.addresses.source_ip, event.user_agent, event.user.username, *event.user.groups)


def group_values(rule: CompiledRule, activity: Activity) -> tuple[str, ...]:
    """The first value of each field that keeps a rule's alerts apart; empty where there is none."""
    values: list[str] = []
    for field in rule.group_fields:
        found = field.read(activity)
        first = next((value for value in found if value is not None), "") if found is not HIDDEN else ""
        values.append(text_of(first))
    return tuple(values)
