"""Exceptions: what is fine is silenced, and counted; they stand between a rule that fired and its alert.

An exception is bound to rules, identities and fields of the request, has an owner, a reason and an end. It only ever
takes matches away, so adding one adds no alert. Its end is judged in event time: a replay gives what `run` gave.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from ipaddress import ip_address, ip_network

import structlog

from detector import metrics
from detector.activity import Activity
from detector.address import Network
from detector.exceptions.entry import IMPERSONATED, NODES, Entry, State, namespace_of
from detector.identity import Identity, IdentityKind
from detector.match import Match
from detector.score import Score
from detector.score_alert import RULE_ID as BEHAVIOUR
from detector.sigma.fields import HIDDEN, Reader, resolve
from detector.sigma.values import text_of

log = structlog.get_logger(__name__)


class Exceptions:
    """The exceptions of a run.

    Args:
        entries: the first that covers a match counts it.
        hits: what each silenced in an earlier run.
    """

    def __init__(self, entries: Sequence[Entry] = (), hits: dict[str, int] | None = None) -> None:
        self.entries = tuple(entries)
        self.hits = {entry.id: (hits or {}).get(entry.id, 0) for entry in entries}
        """Matches that each entry silenced, and behaviour alerts."""
        self._by_rule: dict[str, list[_Exception]] = {}
        for entry in entries:
            compiled = _compile(entry)
            for rule_id in entry.rule:
                self._by_rule.setdefault(rule_id, []).append(compiled)
        self._states: dict[str, State] = {}
        self._reviewed: date | None = None

    def counting_on(self, earlier: "Exceptions") -> "Exceptions":
        """The same, with the hits of those that it follows."""
        return Exceptions(self.entries, earlier.hits)

    def unexcepted(self, matches: list[Match]) -> list[Match]:
        """The matches that no exception covers; the others are counted."""
        if not self._by_rule:
            return matches
        return [match for match in matches if not self._silences(match)]

    def unexcepted_scores(self, scores: list[Score]) -> list[Score]:
        """The same of strange days; one that comes several times is counted once, when it is complete."""
        if BEHAVIOUR not in self._by_rule:
            return scores
        return [score for score in scores if not self._silences_score(score)]

    def covering(self, match: Match) -> Entry | None:
        """The first entry that covers a match."""
        covering = self._by_rule.get(match.rule.id)
        if covering is None:
            return None
        day = match.activity.received_time.date()
        return next((each.entry for each in covering if each.covers(match.activity, day)), None)

    def covering_score(self, score: Score) -> Entry | None:
        """The first entry that covers a strange day."""
        episode = score.episode
        day = datetime.fromtimestamp(episode.start_seconds, UTC).date()
        identity = Identity(episode.kind, episode.name, episode.namespace)
        covering = self._by_rule.get(BEHAVIOUR, ())
        return next((each.entry for each in covering if each.holds_for(identity, day)), None)

    def review(self, now: datetime) -> None:
        """Warn, once each, of entries that event time has overtaken or soon will."""
        today = now.date()
        if today == self._reviewed:
            return
        self._reviewed = today
        states = {entry.id: entry.state(today) for entry in self.entries}
        for entry in self.entries:
            state = states[entry.id]
            if state is not State.ACTIVE and state is not self._states.get(entry.id):
                event = "exception has expired" if state is State.EXPIRED else "exception expires soon"
                log.warning(event, id=entry.id, owner=entry.owner, expires=str(entry.expires))
        self._states = states
        for state in State:
            metrics.EXCEPTIONS.labels(state.value).set(sum(each is state for each in states.values()))

    def _silences(self, match: Match) -> bool:
        entry = self.covering(match)
        if entry is not None:
            self._count(entry)
        return entry is not None

    def _silences_score(self, score: Score) -> bool:
        entry = self.covering_score(score)
        if entry is not None and score.complete:
            self._count(entry)
        return entry is not None

    def _count(self, entry: Entry) -> None:
        self.hits[entry.id] += 1
        metrics.SILENCED.inc()


@dataclass(frozen=True, slots=True)
class _Condition:
    """A field of the request, and the values that it may have."""

    read: Reader
    texts: frozenset[str]
    networks: tuple[Network, ...]

    def holds(self, activity: Activity) -> bool:
        """True where every value is one of ours: a second container must not hide behind a harmless first one."""
        found = self.read(activity)
        return bool(found) and found is not HIDDEN and all(self._knows(text_of(value)) for value in found)

    def _knows(self, text: str) -> bool:
        if not self.networks:
            return text in self.texts
        address = ip_address(text)  # of detector.source.ip, which is an address or has no value
        return any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class _Exception:
    """An entry, ready to be asked."""

    entry: Entry
    names: frozenset[str]
    namespaces: frozenset[str]
    nodes: bool
    conditions: tuple[_Condition, ...]
    impersonating: bool

    def covers(self, activity: Activity, day: date) -> bool:
        """Tell whether a request of that day is what the entry means."""
        identity = activity.identity
        if identity.effective_name and not self.impersonating:
            return False
        return self.holds_for(identity, day) and all(condition.holds(activity) for condition in self.conditions)

    def holds_for(self, identity: Identity, day: date) -> bool:
        """Tell whether the entry means an identity, on a day."""
        known = (
            identity.name in self.names
            or (identity.kind is IdentityKind.SERVICE_ACCOUNT and identity.namespace in self.namespaces)
            or (identity.kind is IdentityKind.NODE and self.nodes)
        )
        return known and self.entry.state(day) is not State.EXPIRED


def _compile(entry: Entry) -> _Exception:
    namespaces = {name: namespace_of(name) for name in entry.identity}
    return _Exception(
        entry,
        names=frozenset(name for name in entry.identity if "*" not in name),
        namespaces=frozenset(namespace for namespace in namespaces.values() if namespace is not None),
        nodes=NODES in entry.identity,
        conditions=tuple(_condition(name, values) for name, values in entry.scope.items()),
        impersonating=IMPERSONATED in entry.scope,
    )


def _condition(name: str, values: tuple[str, ...]) -> _Condition:
    path, _, modifier = name.partition("|")
    field = resolve(path)
    assert field is not None, path  # noqa: S101 the entry was checked
    networks = tuple(map(ip_network, values)) if modifier else ()
    return _Condition(field.read, frozenset(values), networks)
