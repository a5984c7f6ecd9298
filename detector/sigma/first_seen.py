"""First seen: whether a request shows its group something that it was never seen with, or comes after a long silence.

Only what was seen before decides, in event time and to the minute: the same request in another batch, or after a
restart, is as new. A late request can make the first sight earlier, but takes back no alert.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from detector import metrics
from detector.activity import Activity
from detector.match import Rule
from detector.sigma.fields import Field
from detector.sigma.groups import accountable, combinations
from detector.sigma.memory import Group, GroupKey, Groups, Memory, Term, from_micros, to_micros

_GROUPS_KEPT: Final = 50_000  # of a rule: as many tokens as a large cluster's pods use in a day; half a kilobyte each
_TERMS_KEPT: Final = 500  # of a group; whoever is seen with more has no habit in this respect
_SIGNATURES_KEPT: Final = 100_000
_CREDENTIAL: Final = "authentication.kubernetes.io/credential-id"
_NODE: Final = "authentication.kubernetes.io/node-name"
_STEADY_PATHS: Final = frozenset(
    {
        "detector.client.program",
        "detector.source.network",
        "detector.source.ip",
        "user.username",
        f"user.extra.{_CREDENTIAL}",
        f"user.extra.{_NODE}",
    }
)
"""Fields that an identity's requests have in common for hours."""
_NEVER: Final = (datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))
_ONE: Final[list[GroupKey]] = [()]
_MINUTE_MICROS: Final = 60_000_000
_DAY_MICROS: Final = 86_400_000_000
_SILENT_KEPT_MICROS: Final = 400 * _DAY_MICROS  # how long somebody who may come back is remembered: a year and a bit
_GROUP_FORGOTTEN: Final = metrics.FORGOTTEN.labels("group")
_TERM_FORGOTTEN: Final = metrics.FORGOTTEN.labels("term")


@dataclass(frozen=True, slots=True)
class FirstSeen:
    """A condition on what a group was seen with before."""

    fields: tuple[Field, ...]
    """Whose values together must be new; none if only the silence counts."""
    group_fields: tuple[Field, ...]
    memory_micros: int
    """How long something stays known; of the silence, how long it must last."""
    warm_up_micros: int
    """How long a group must be known before anything is new to it: at first everything is."""
    across_identities: bool
    new_groups: bool
    """A group that is new itself is known since the rule is at work."""

    @property
    def shape(self) -> str:
        """What terms mean; those of a rule with another shape are of no use."""
        fields, groups = ([field.path for field in each] for each in (self.fields, self.group_fields))
        return f"{self.across_identities} {fields} {groups}"

    @property
    def of_silence(self) -> bool:
        """Whether a return is asked for, instead of something new."""
        return not self.fields

    @property
    def kept_micros(self) -> int:
        """How long a group is remembered after it was last seen."""
        return max(_SILENT_KEPT_MICROS, self.memory_micros) if self.of_silence else self.memory_micros


class Newness:
    """Remembers what groups were seen with, and tells what is new."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._steady: set[str] = set()
        self._fresh: dict[tuple[str, ...], tuple[datetime, datetime]] = {}
        """By signature, when a request is a repeat for sure: spares looking it up in the memory."""

    def _remember(self, signature: tuple[str, ...], fresh: int) -> None:
        if len(self._fresh) >= _SIGNATURES_KEPT:
            self._fresh.clear()
        self._fresh[signature] = (from_micros(fresh), from_micros(fresh + _MINUTE_MICROS))

    def begin(self, time: datetime, conditions: Iterable[tuple[Rule, FirstSeen]]) -> None:
        """Let rules that nothing is remembered of begin; must come before the first request."""
        for rule, condition in conditions:
            if {field.path for field in (*condition.fields, *condition.group_fields)} <= _STEADY_PATHS:
                self._steady.add(rule.id)
            found = self._memory.groups.get(rule.id)
            if found is None or found.shape != condition.shape:
                self._memory.groups[rule.id] = Groups(condition.shape, started_micros=to_micros(time))

    def see(self, rule: Rule, condition: FirstSeen, activity: Activity) -> bool:
        """Take a request that the rule's detection fired on; true if it is a first sight, or folds with one."""
        signature = _signature(rule, activity) if rule.id in self._steady else None
        if signature is not None:
            fresh_from, fresh_until = self._fresh.get(signature, _NEVER)
            if fresh_from <= activity.received_time < fresh_until:
                return False
        found = self._memory.groups[rule.id]
        micros = to_micros(activity.received_time)
        terms = combinations(condition.fields, activity)
        keys = combinations(condition.group_fields, activity) if condition.group_fields else _ONE
        if not condition.across_identities:
            owner = accountable(activity)
            keys = [(*owner, *parts) for parts in keys]
        if len(keys) == 1 and len(terms) == 1:
            fresh = _fresh(found.groups.get(keys[0]), terms[0])
            if fresh is not None and fresh <= micros < fresh + _MINUTE_MICROS:
                if signature is not None:
                    self._remember(signature, fresh)
                return False
        since = found.started_micros if condition.new_groups else micros
        new = False
        for key in keys:
            group = _group_of(found, key, since, micros - condition.kept_micros)
            fold_micros = rule.fold_seconds * 1_000_000
            # All of them: whatever else is new in this request must not be new again in the next.
            new |= any([_is_new(group, term, micros, condition, fold_micros) for term in terms])  # noqa: C419
            group.last_micros = max(group.last_micros, micros)
        while len(found.groups) > _GROUPS_KEPT:
            del found.groups[next(iter(found.groups))]
            _GROUP_FORGOTTEN.inc()
        return new

    def advance(self, conditions: Iterable[tuple[Rule, FirstSeen]]) -> None:
        """Forget, once a day, what is so old that it would be new again."""
        now = self._memory.now_micros
        for rule, condition in conditions:
            found = self._memory.groups.get(rule.id)
            if found is None or now - found.swept_micros < _DAY_MICROS:
                continue
            found.swept_micros = now
            found.groups = {
                key: group
                for key, group in found.groups.items()
                if group.last_micros + condition.kept_micros >= now - _DAY_MICROS  # a day, for those that come late
            }
            if condition.of_silence:
                continue
            for group in found.groups.values():
                group.terms = {
                    key: term
                    for key, term in group.terms.items()
                    if term.last_micros + condition.memory_micros >= now - _DAY_MICROS
                }


def _signature(rule: Rule, activity: Activity) -> tuple[str, ...]:
    """All that the fields of a steady condition read."""
    event = activity.event
    extra = event.user.extra
    return (
        rule.id,
        activity.identity.name,
        activity.addresses.source_ip,
        event.user_agent,
        *extra.get(_CREDENTIAL, ()),
        "",
        *extra.get(_NODE, ()),
    )


def _fresh(group: Group | None, key: GroupKey) -> int | None:
    """From when on, for a minute, a term's repeats are neither new nor need to be remembered; most requests are one."""
    term = None if group is None else group.terms.get(key)
    return None if term is None or term.new else term.last_micros


def _group_of(found: Groups, key: GroupKey, since: int, horizon: int) -> Group:
    """The group, made anew if it was not seen for so long that it is forgotten; it is the last touched now."""
    group = found.groups.pop(key, None)
    if group is None or group.last_micros < horizon:
        group = Group(since_micros=since, last_micros=since)
    group.since_micros = min(group.since_micros, since)
    found.groups[key] = group
    return group


def _is_new(group: Group, key: GroupKey, micros: int, condition: FirstSeen, fold_micros: int) -> bool:
    term = group.terms.pop(key, None)
    if term is None or term.last_micros + condition.memory_micros < micros:
        known = term is not None if condition.of_silence else group.since_micros + condition.warm_up_micros <= micros
        term = Term(first_micros=micros, last_micros=micros, new=known)
    group.terms[key] = term
    if len(group.terms) > _TERMS_KEPT:
        del group.terms[next(iter(group.terms))]
        _TERM_FORGOTTEN.inc()
    first = term.first_micros = min(term.first_micros, micros)
    term.last_micros = max(term.last_micros, micros)
    return term.new and first // fold_micros == micros // fold_micros
