"""First seen: whether a request shows its group something that it was never seen with, or comes after a long silence.

Only what was seen before decides, in event time and to the minute: the same request in another batch, or after a
restart, is as new. A late request can make the first sight earlier, but takes back no alert.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from detector import metrics
from detector.activity import Activity
from detector.match import Rule
from detector.sigma.fields import Field
from detector.sigma.groups import accountable, combinations
from detector.sigma.memory import Group, GroupKey, Groups, Memory, Term, divided

_GROUPS_KEPT: Final = 50_000  # of a rule: as many tokens as a large cluster's pods use in a day; half a kilobyte each
_TERMS_KEPT: Final = 500  # of a group; whoever is seen with more has no habit in this respect
_ONE: Final[list[GroupKey]] = [()]
_MINUTE_MICROS: Final = 60_000_000
_DAY_MICROS: Final = 86_400_000_000
_SILENT_KEPT_MICROS: Final = 400 * _DAY_MICROS  # how long somebody who may come back is remembered: a year and a bit
_GROUP_FORGOTTEN: Final = metrics.FORGOTTEN.labels("group")
_TERM_FORGOTTEN: Final = metrics.FORGOTTEN.labels("term")


Place: TypeAlias = tuple[GroupKey, GroupKey]
"""A group, and a term of it."""


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


@dataclass(frozen=True, slots=True)
class NewnessRule:
    """A first-seen condition, and the rule whose alerts it is about."""

    rank: int
    """The rule's place among all of them."""
    rule: Rule
    condition: FirstSeen


class Watch:
    """Rules that ask whether the same is new, differing in what they say of themselves; they share what is remembered.

    Args:
        ranks: of the rules, their places among all.
        condition: what they ask.
        fold_seconds: of their alerts: whatever folds with a first sight is one too.
        found: what they remember.
    """

    def __init__(self, ranks: Sequence[int], condition: FirstSeen, fold_seconds: int, found: Groups) -> None:
        self.ranks = tuple(ranks)
        self.condition = condition
        self.paths = frozenset(field.path for field in (*condition.fields, *condition.group_fields))
        self._fold_micros = fold_seconds * 1_000_000
        self._found = found

    def place(self, activity: Activity) -> Place | None:
        """Where a request belongs, if that is one group and one term, as nearly always."""
        terms, keys = self._terms(activity), self._keys(activity)
        return (keys[0], terms[0]) if len(keys) == 1 and len(terms) == 1 else None

    def is_repeat(self, place: Place, micros: int) -> bool:
        """Take a request if it is a repeat, which most are, and shows nothing new: what `see` comes to for those."""
        key, term_key = place
        groups = self._found.groups
        group = groups.get(key)
        term = None if group is None else group.terms.get(term_key)
        if group is None or term is None or term.new:
            return False
        since = micros - term.last_micros
        if 0 <= since < _MINUTE_MICROS:
            return True  # to the minute is enough
        if not 0 <= since <= self.condition.memory_micros:
            return False
        groups[key] = groups.pop(key)
        if len(group.terms) > 1:
            group.terms[term_key] = group.terms.pop(term_key)
        term.last_micros = micros
        group.last_micros = max(group.last_micros, micros)
        return True

    def look(self, activity: Activity) -> bool:
        """Take a request that the rules' detection fired on; true if it is a first sight, or folds with one."""
        place = self.place(activity)
        return (place is None or not self.is_repeat(place, activity.received_micros)) and self.see(activity)

    def see(self, activity: Activity) -> bool:
        """Take a request that may be no repeat."""
        condition, found, micros = self.condition, self._found, activity.received_micros
        terms = self._terms(activity)
        since = found.started_micros if condition.new_groups else micros
        new = False
        for key in self._keys(activity):
            group = _group_of(found, key, since, micros - condition.kept_micros)
            # All of them: whatever else is new in this request must not be new again in the next.
            new |= any([_is_new(group, term, micros, condition, self._fold_micros) for term in terms])  # noqa: C419
            group.last_micros = max(group.last_micros, micros)
        while len(found.groups) > _GROUPS_KEPT:
            del found.groups[next(iter(found.groups))]
            _GROUP_FORGOTTEN.inc()
        return new

    def begin(self, micros: int) -> None:
        """Tell when the rules are first at work."""
        self._found.started_micros = micros

    def advance(self, now_micros: int) -> None:
        """Forget, once a day, what is so old that it would be new again."""
        condition, found = self.condition, self._found
        if now_micros - found.swept_micros < _DAY_MICROS:
            return
        found.swept_micros = now_micros
        found.groups = {
            key: group
            for key, group in found.groups.items()
            if group.last_micros + condition.kept_micros >= now_micros - _DAY_MICROS  # a day, for those that come late
        }
        if condition.of_silence:
            return
        for group in found.groups.values():
            group.terms = {
                key: term
                for key, term in group.terms.items()
                if term.last_micros + condition.memory_micros >= now_micros - _DAY_MICROS
            }

    def _terms(self, activity: Activity) -> list[GroupKey]:
        return combinations(self.condition.fields, activity)

    def _keys(self, activity: Activity) -> list[GroupKey]:
        condition = self.condition
        keys = combinations(condition.group_fields, activity) if condition.group_fields else _ONE
        if condition.across_identities:
            return keys
        owner = accountable(activity)
        return [(*owner, *parts) for parts in keys]


Watches: TypeAlias = tuple[Watch, ...]
"""Those that hang on one detection, and so see the same requests."""


class Newness:
    """Remembers what groups were seen with, and tells what is new.

    Args:
        memory: of all rules.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._watches: list[Watch] = []
        self._waiting: list[tuple[Watch, Groups, list[str]]] = []
        """Rules that nothing is remembered of: they begin with the first request."""
        self._taken: set[int] = set()

    def watches(self, rules: Iterable[NewnessRule]) -> Watches:
        """Put together those of one detection's rules that ask the same, for as long as they remember the same."""
        alike: dict[tuple[FirstSeen, int], list[NewnessRule]] = {}
        for rule in rules:
            alike.setdefault((rule.condition, rule.rule.fold_seconds), []).append(rule)
        made: list[Watch] = []
        for (condition, fold_seconds), copies in alike.items():
            ids = [copy.rule.id for copy in copies]
            start = Groups(condition.shape, started_micros=0)
            for found, places in divided(self._memory.groups, ids, start, self._taken):
                watch = Watch([copies[place].rank for place in places], condition, fold_seconds, found)
                made.append(watch)
                sharing = [ids[place] for place in places]
                if found is start:
                    self._waiting.append((watch, found, sharing))
                else:
                    self._memory.groups.update(dict.fromkeys(sharing, found))
        self._watches += made
        return tuple(made)

    def begin(self, micros: int) -> None:
        """Let rules that nothing is remembered of begin, if they wait for it; must come before the first request."""
        for watch, found, rule_ids in self._waiting:
            watch.begin(micros)
            self._memory.groups.update(dict.fromkeys(rule_ids, found))
        self._waiting.clear()

    def advance(self) -> None:
        """Let time go on."""
        for watch in self._watches:
            watch.advance(self._memory.now_micros)


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
