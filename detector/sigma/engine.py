"""Engine: matches activities against every rule, asking only those that the index leaves.

The index is a memory of specialised rules: for each combination of verb, resource, code and the like it holds what is
left to ask of the rules that can still match, so that an event which no rule could match costs one look-up.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias

from detector.activity import Activity
from detector.match import Match
from detector.sigma.compile import Known, Node, text_of
from detector.sigma.correlate import Correlator
from detector.sigma.fields import DECISION, HIDDEN, Values
from detector.sigma.first_seen import Newness
from detector.sigma.load import CompiledRule
from detector.sigma.memory import Memory, to_micros

_KEYS_KEPT: Final = 50_000  # a large cluster has a few thousand; a client that invents resources could make any number


Candidate: TypeAlias = tuple[CompiledRule, Node | bool]
"""A rule, and what is left to ask of it."""


class _Entry(NamedTuple):
    """The rules that can match under one key, and those of them that can match a certain user."""

    candidates: list[Candidate]
    by_user: dict[tuple[str, ...], list[Candidate]]


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
        self._rules: list[Candidate] = [(rule, rule.node) for rule in rules]
        self._by_resource: dict[tuple[str, str, str], list[Candidate]] = {}
        self._by_key: dict[tuple[object, ...], _Entry] = {}
        self._users_known = 0

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
            user = activity.event.user
            user_key = (user.username, *user.groups)
            candidates = entry.by_user.get(user_key)
            if candidates is None:
                candidates = self._index_user(entry, user_key)
            for rule, node in candidates:
                verdict = node if isinstance(node, bool) else node.evaluate(activity)
                if verdict is False:
                    continue
                if rule.correlation is not None:
                    matches += self._correlator.see(rule.metadata, rule.correlation, activity, verdict)
                elif rule.first_seen is None or self._newness.see(rule.metadata, rule.first_seen, activity):
                    matches.append(_matched(rule, activity, degraded=verdict is None))
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

    def _index_user(self, entry: _Entry, user_key: tuple[str, ...]) -> list[Candidate]:
        self._forget()
        self._users_known += 1
        known = {"user.username": _values(user_key[0]), "user.groups": tuple(filter(None, user_key[1:]))}
        candidates = entry.by_user[user_key] = _specialise(entry.candidates, known)
        return candidates

    def _forget(self) -> None:
        if len(self._by_key) + self._users_known >= _KEYS_KEPT:
            self._by_key.clear()
            self._by_resource.clear()
            self._users_known = 0


def _specialise(candidates: Sequence[Candidate], known: Known) -> list[Candidate]:
    left: list[Candidate] = []
    for rule, node in candidates:
        rest = node if isinstance(node, bool) else node.specialise(known)
        if rest is not False:
            left.append((rule, rest))
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


def _matched(rule: CompiledRule, activity: Activity, *, degraded: bool) -> Match:
    return Match(rule.metadata, activity, group_values(rule, activity), degraded)


def group_values(rule: CompiledRule, activity: Activity) -> tuple[str, ...]:
    """The first value of each field that keeps a rule's alerts apart; empty where there is none."""
    values: list[str] = []
    for field in rule.group_fields:
        found = field.read(activity)
        first = next((value for value in found if value is not None), "") if found is not HIDDEN else ""
        values.append(text_of(first))
    return tuple(values)
