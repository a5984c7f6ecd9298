"""Tune: exceptions that would silence what rules wrongly raise, each as narrow as what it is made from.

An entry is bound to one rule, one identity and every field of `SCOPE` in which its requests have few values. One that
would silence a labelled request is never proposed.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

from detector.activity import Activity
from detector.evaluate import Aftermath, Label
from detector.identity import IdentityKind
from detector.match import SEVERITY, Level, Match
from detector.printable import printable
from detector.request import from_activity, masked
from detector.sigma.engine import Engine
from detector.sigma.fields import HIDDEN, resolve
from detector.sigma.load import CompiledRule
from detector.sigma.values import text_of

SCOPE: Final = (
    "impersonatedUser.username",
    "verb",
    "objectRef.apiGroup",
    "objectRef.resource",
    "objectRef.subresource",
    "objectRef.namespace",
    "objectRef.name",
    "detector.source.ip",
)
"""Fields that bind an entry; none that the client may choose, for such a one binds nobody."""
_VALUES_MAX: Final = 5  # a person still reads these; more, as of generated names, would not hold tomorrow
_LIFE: Final = timedelta(days=90)
_SLUG_MAX: Final = 90  # an id may have 100 characters, and a number may follow
_NOBODY: Final = frozenset({IdentityKind.ANONYMOUS, IdentityKind.UNAUTHENTICATED})
_READERS: Final = [found.read for found in map(resolve, SCOPE) if found is not None]

Values: TypeAlias = tuple[frozenset[str], ...]
"""The values of one match in each field of `SCOPE`."""


class _Alert(NamedTuple):
    """What makes matches one alert, as the folder sees it."""

    rule_id: str
    identity: str
    effective: str
    group: tuple[str, ...]
    window: int


@dataclass(slots=True)
class _Seen:
    """Matches of one alert that have the same values in every field of `SCOPE`."""

    values: Values
    first: datetime
    last: datetime
    example: str
    name: str
    count: int = 0
    campaigns: set[str] = field(default_factory=set)


_Alerts: TypeAlias = dict[_Alert, list[_Seen]]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One entry, and what it would silence."""

    rule: CompiledRule
    identity: str
    scope: Mapping[str, tuple[str, ...]]
    alerts: int
    alerts_of_rule: int
    requests: int
    first: datetime
    last: datetime
    example: str
    loses: tuple[str, ...]
    """Campaigns of which it would silence a request: then it is refused."""

    def entry(self, owner: str, reason: str, newest: datetime) -> dict[str, Any]:
        """The entry as it stands in a file of exceptions; it ends 90 days after the newest event."""
        stem = self.rule.path.stem.removeprefix("kubernetes_audit_")
        slug = re.sub(r"[^a-z0-9]+", "-", f"{stem} {self.identity}".lower()).strip("-")
        expires: date = (newest + _LIFE).date()
        return {
            "id": slug[:_SLUG_MAX].rstrip("-"),
            "rule": self.rule.metadata.id,
            "identity": self.identity,
            "scope": {name: values[0] if len(values) == 1 else list(values) for name, values in self.scope.items()},
            "owner": owner,
            "reason": reason,
            "expires": expires,
        }


def entries(proposals: Sequence[Proposal], owner: str, reason: str, newest: datetime) -> list[dict[str, Any]]:
    """The entries of one file: no two have the same id."""
    used: Counter[str] = Counter()
    made = []
    for proposal in proposals:
        entry = proposal.entry(owner, reason, newest)
        used[entry["id"]] += 1
        count = used[entry["id"]]
        made.append(entry | ({"id": f"{entry['id']}-{count}"} if count > 1 else {}))
    return made


class Tuning:
    """Rules over archived activities, to see whom they wrongly name.

    Args:
        rules: those to look at.
        labels: requests of known attacks by auditID; all other alerts are taken for false.
        level: rules below it stay as they are.
    """

    def __init__(self, rules: Sequence[CompiledRule], labels: Mapping[str, Label], level: Level) -> None:
        self._rules = {rule.metadata.id: rule for rule in rules if SEVERITY[rule.metadata.level] >= SEVERITY[level]}
        self._engine = Engine(list(self._rules.values()))
        self._labels = labels
        self._aftermath = Aftermath()
        self._seen: defaultdict[_Alert, dict[tuple[Values, bool], _Seen]] = defaultdict(dict)
        self.newest: datetime | None = None
        """The time of the newest event; None before there was one."""

    def add(self, activities: list[Activity]) -> None:
        """Take activities."""
        for activity in activities:
            if activity.event.audit_id in self._labels:
                self._aftermath.note(activity)
            self.newest = max(activity.time, self.newest or activity.time)
        for match in self._engine.match(activities):
            if match.activity.identity.kind not in _NOBODY and not match.degraded:
                self._note(match)

    def _note(self, match: Match) -> None:
        activity, identity = match.activity, match.activity.identity
        window = int(activity.received_time.timestamp() // match.rule.fold_seconds)
        alert = _Alert(match.rule.id, identity.name, identity.effective_name, match.group, window)
        label = self._labels.get(activity.event.audit_id)
        key = (_values(activity), label is not None)
        seen = self._seen[alert].get(key)
        if seen is None:
            ref, time = activity.event.object_ref, activity.time
            seen = _Seen(key[0], time, time, _example(activity), ref.name if ref else "")
            self._seen[alert][key] = seen
        seen.count += 1
        seen.first, seen.last = min(seen.first, activity.time), max(seen.last, activity.time)
        if label is not None:
            seen.campaigns.add(label.campaign)

    def proposals(self, at_least: int) -> list[Proposal]:
        """Entries that silence so many alerts or more, the most useful first; refused ones are among them."""
        by_identity: defaultdict[tuple[str, str, str], _Alerts] = defaultdict(dict)
        for alert, parts in self._seen.items():
            by_identity[alert.rule_id, alert.identity, alert.effective][alert] = list(parts.values())
        found = []
        for alerts in by_identity.values():
            false = {alert: parts for alert, parts in alerts.items() if not any(map(self._is_attack, parts))}
            if len(false) >= at_least:
                found += self._narrowest(false, alerts, at_least)
        return sorted(found, key=lambda proposal: (-proposal.alerts, proposal.rule.metadata.name, proposal.identity))

    def _is_attack(self, seen: _Seen) -> bool:
        """Tell what is labelled, or is on an object that came of it."""
        return bool(seen.campaigns) or self._aftermath.made(seen.name)

    def _narrowest(self, false: _Alerts, alerts: _Alerts, at_least: int) -> list[Proposal]:
        """One entry for all of an identity's false alerts; if that would lose an attack, one for each namespace."""
        whole = self._propose(false, alerts)
        if not whole.loses:
            return [whole]
        place = SCOPE.index("objectRef.namespace")
        apart: defaultdict[frozenset[str], _Alerts] = defaultdict(dict)
        for alert, parts in false.items():
            apart[frozenset().union(*(seen.values[place] for seen in parts))][alert] = parts
        narrower = [self._propose(part, alerts) for part in apart.values() if len(part) >= at_least]
        return [proposal for proposal in narrower if not proposal.loses] or [whole]

    def _propose(self, false: _Alerts, alerts: _Alerts) -> Proposal:
        """The entry for some false alerts of an identity, held against all that it has of the rule."""
        one = next(iter(false))
        parts = [seen for group in false.values() for seen in group]
        scope = _scope([seen.values for seen in parts])
        covered = (seen for group in alerts.values() for seen in group if _covers(scope, seen.values))
        first = min(parts, key=lambda seen: seen.first)
        return Proposal(
            rule=self._rules[one.rule_id],
            identity=one.identity,
            scope=scope,
            alerts=len(false),
            alerts_of_rule=sum(alert.rule_id == one.rule_id for alert in self._seen),
            requests=sum(seen.count for seen in parts),
            first=first.first,
            last=max(seen.last for seen in parts),
            example=first.example,
            loses=tuple(sorted({campaign for seen in covered for campaign in seen.campaigns})),
        )


def _values(activity: Activity) -> Values:
    found = (read(activity) for read in _READERS)
    return tuple(frozenset() if values is HIDDEN else frozenset(map(text_of, values)) for values in found)


def _scope(rows: Sequence[Values]) -> dict[str, tuple[str, ...]]:
    """Each field that all the matches have, in which they have few values."""
    scope = {}
    for position, name in enumerate(SCOPE):
        values = frozenset().union(*(row[position] for row in rows))
        if all(row[position] for row in rows) and len(values) <= _VALUES_MAX and "*" not in "".join(values):
            scope[name] = tuple(sorted(values))
    return scope


def _covers(scope: Mapping[str, tuple[str, ...]], values: Values) -> bool:
    return all(values[SCOPE.index(name)] and values[SCOPE.index(name)] <= {*allowed} for name, allowed in scope.items())


def _example(activity: Activity) -> str:
    request = masked(from_activity(activity))
    resource = "/".join(filter(None, (request.resource, request.subresource)))
    place = "/".join(filter(None, (request.namespace, request.name))) or "(unnamed)"
    return printable(f"{request.verb} {resource} {place} from {request.source_ip or 'an unknown address'}")
