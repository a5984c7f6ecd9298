"""Engine: matches activities against every rule, asking only those that the index leaves.

The index is a memory of specialised rules: for each combination of verb, resource, code and the like it holds what is
left to ask of the rules that can still match, so that an event which no rule could match costs one look-up.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from detector.activity import Activity
from detector.match import Match
from detector.sigma.compile import Known, Node, text_of
from detector.sigma.fields import HIDDEN, Values
from detector.sigma.load import CompiledRule

_KEYS_KEPT: Final = 50_000  # an hour of a large cluster has some 2,000; a client that invents resources can make more
_DECISION: Final = "authorization.k8s.io/decision"


Candidate: TypeAlias = tuple[CompiledRule, Node | bool]
"""A rule, and what is left to ask of it."""


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
    """All rules, indexed."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._rules: list[Candidate] = [(rule, rule.node) for rule in rules]
        self._by_resource: dict[tuple[str, str, str], list[Candidate]] = {}
        self._by_key: dict[Key, list[Candidate]] = {}

    def match(self, activities: Sequence[Activity]) -> list[Match]:
        """Every rule that fires on every activity, in their order."""
        matches: list[Match] = []
        by_key = self._by_key
        for activity in activities:
            key = _key(activity)
            candidates = by_key.get(key)
            if candidates is None:
                candidates = self._index(key)
            for rule, node in candidates:
                verdict = node if isinstance(node, bool) else node.evaluate(activity)
                if verdict is not False:
                    matches.append(_matched(rule, activity, degraded=verdict is None))
        return matches

    def _index(self, key: Key) -> list[Candidate]:
        """Specialise the rules to a key, in two steps: of many rules, few are left after the first."""
        if len(self._by_key) >= _KEYS_KEPT:
            self._by_key.clear()
            self._by_resource.clear()
        resource = key[:3]
        related = self._by_resource.get(resource)
        if related is None:
            related = self._by_resource[resource] = _specialise(self._rules, _known_of_resource(key))
        candidates = self._by_key[key] = _specialise(related, _known(key))
        return candidates


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
        f"annotations.{_DECISION}": _values(key.decision),
        "detector.identity.kind": _values(key.identity_kind),
    }
    if not key.impersonated:
        known["impersonatedUser"] = ()
    return known


def _values(text: str) -> Values:
    return (text,) if text else ()


def _key(activity: Activity) -> Key:
    event = activity.event
    ref = event.object_ref
    status = event.response_status
    resource, subresource, api_group = ("", "", "") if ref is None else (ref.resource, ref.subresource, ref.api_group)
    return Key(
        event.verb,
        resource,
        subresource,
        api_group,
        event.stage,
        None if status is None else status.code,
        event.annotations.get(_DECISION, ""),
        activity.identity.kind,
        event.impersonated_user is not None,
    )


def _matched(rule: CompiledRule, activity: Activity, *, degraded: bool) -> Match:
    return Match(rule.metadata, activity, group_values(rule, activity), degraded)


def group_values(rule: CompiledRule, activity: Activity) -> tuple[str, ...]:
    """The first value of each field that keeps a rule's alerts apart; empty where there is none."""
    values: list[str] = []
    for fields in rule.group_fields:
        found = [value for field in fields for read in [field.read(activity)] if read is not HIDDEN for value in read]
        values.append(text_of(found[0]) if found else "")
    return tuple(values)
