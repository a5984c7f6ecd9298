"""Correlate: the requests that base rules fire on are remembered, and what they complete is told.

What correlations ask of them stands in `correlation.py`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from detector import metrics
from detector.activity import Activity
from detector.match import LATENESS, Match, Rule
from detector.sigma.correlation import Correlation, CorrelationType, completed, micros_of
from detector.sigma.groups import accountable, combinations
from detector.sigma.memory import GroupKey, Memory, Sighting, Sightings, add_to, divided, from_micros, sighting_of

SIGHTINGS_OF_GROUP: Final = 500  # a quarter of a megabyte; a condition cannot ask for more
_STEPS_OF_GROUP: Final = 100  # of an ordered correlation, which looks at all of them for each that comes
_SIGHTINGS_OF_RULE: Final = 10_000  # five megabytes a rule in the state, while somebody floods it
_LATENESS_MICROS: Final = int(LATENESS.total_seconds()) * 1_000_000
_FORGOTTEN: Final = metrics.FORGOTTEN.labels("sighting")

RankedMatch: TypeAlias = tuple[int, Match]
"""A match, and its rule's place among all rules."""
Fired: TypeAlias = tuple[int, bool]
"""A base rule that fired, by its place in the correlation; false where a hidden body decides whether it did."""


@dataclass(frozen=True, slots=True)
class CorrelationRule:
    """A correlation, and the rule whose alerts it is about."""

    rank: int
    """The rule's place among all of them."""
    rule: Rule
    correlation: Correlation


class Chain:
    """Correlation rules that ask the same, differing in what they say of themselves; they share what is remembered.

    Args:
        rules: of one `question` and one `fold_seconds`, for an alert's window decides what it has been told.
        found: what they remember.
        memory: of all rules, which knows the time.
    """

    def __init__(self, rules: Sequence[CorrelationRule], found: Sightings, memory: Memory) -> None:
        self.correlation = rules[0].correlation
        self._rules = [(rule.rank, rule.rule) for rule in rules]
        self._fold_micros = rules[0].rule.fold_seconds * 1_000_000
        self._sightings_at_least = self.correlation.sightings_at_least
        self._found = found
        self._memory = memory

    def see(self, activity: Activity, fired: Sequence[Fired]) -> list[RankedMatch]:
        """Take a request; what it completes comes back, with the earlier requests that belong to it.

        Args:
            activity: the request.
            fired: the base rules that fired on it, in their order.
        """
        found = self._found
        matches: list[RankedMatch] = []
        for group, sighting in _sightings(self.correlation, activity, fired):
            sightings = found.groups.pop(group, None) or []
            found.groups[group] = sightings
            place = self._add(sightings, sighting)
            if place is not None and len(sightings) >= self._sightings_at_least:
                matches += self._matches(group, sightings, place)
        while found.count > _SIGHTINGS_OF_RULE:
            forgotten = len(found.groups.pop(next(iter(found.groups))))
            found.count -= forgotten
            _FORGOTTEN.inc(forgotten)
        return matches

    def advance(self) -> None:
        """Forget what nothing that may still come can be near to."""
        found, now = self._found, self._memory.now_micros
        if now - found.swept_micros < _LATENESS_MICROS:
            return
        found.swept_micros = now
        for group, sightings in list(found.groups.items()):
            self._trim(sightings)
            if not sightings:
                del found.groups[group]

    def _matches(self, group: GroupKey, sightings: Sequence[Sighting], place: int) -> Iterator[RankedMatch]:
        correlation = self.correlation
        values = group[len(group) - len(correlation.bases[0].group_fields) :]
        apart = tuple(values[index] for index in correlation.apart)
        for sighting, proven, closing in completed(correlation, sightings, place, self._fold_micros):
            activity, time = sighting.restore(), from_micros(closing)
            for rank, rule in self._rules:
                yield rank, Match(rule, activity, apart, degraded=not proven, fold_time=time)

    def _add(self, sightings: list[Sighting], sighting: Sighting) -> int | None:
        """Put a sighting in its place; None for one that is known already, or too late to be near to anything."""
        self._trim(sightings)
        place = len(sightings)
        if sightings and sighting.micros <= sightings[-1].micros:  # else it is the last, as nearly always
            place = bisect_left(sightings, (sighting.micros, sighting.key), key=_order)
        if place < len(sightings) and sightings[place].key == sighting.key:
            if not add_to(sightings[place], sighting.proven, sighting.unproven, sighting.values):
                return None
        else:
            sightings.insert(place, sighting)
            self._found.count += 1
        if len(sightings) > _kept_of_group(self.correlation):
            del sightings[0]
            self._found.count -= 1
            _FORGOTTEN.inc()
            place -= 1
        return place if place >= 0 else None

    def _trim(self, sightings: list[Sighting]) -> None:
        """Drop what nothing that may still come can be near to, or can come before."""
        horizon = self._memory.now_micros - _LATENESS_MICROS
        if not sightings or sightings[0].micros >= horizon:
            return
        over = 0
        if sightings[0].micros < horizon - self.correlation.span_micros:
            over = bisect_left(sightings, horizon - self.correlation.span_micros, key=micros_of)
        if self.correlation.type is CorrelationType.TEMPORAL_ORDERED:
            # A later step that no first step came before: most are, where later steps are daily work.
            while over < len(sightings) and sightings[over].micros < horizon and not sightings[over].begins:
                over += 1
        if over:
            del sightings[:over]
            self._found.count -= over


def chains(rules: Iterable[CorrelationRule], memory: Memory) -> list[Chain]:
    """Put together the rules that ask the same, for as long as they remember the same.

    Ten copies of a correlation so cost what one does. Rules that nothing is remembered of begin.
    """
    alike: dict[tuple[object, ...], list[CorrelationRule]] = {}
    for rule in rules:
        alike.setdefault((rule.correlation.question, rule.rule.fold_seconds), []).append(rule)
    made: list[Chain] = []
    taken: set[int] = set()
    for copies in alike.values():
        ids = [copy.rule.id for copy in copies]
        start = Sightings(copies[0].correlation.shape)
        for found, places in divided(memory.sightings, ids, start, taken):
            made.append(Chain([copies[place] for place in places], found, memory))
            memory.sightings.update({ids[place]: found for place in places})
    return made


def _kept_of_group(correlation: Correlation) -> int:
    """How many sightings of a group are remembered."""
    return _STEPS_OF_GROUP if correlation.type is CorrelationType.TEMPORAL_ORDERED else SIGHTINGS_OF_GROUP


def _order(sighting: Sighting) -> tuple[int, bytes]:
    return sighting.micros, sighting.key


def _sightings(
    correlation: Correlation, activity: Activity, fired: Sequence[Fired]
) -> Iterable[tuple[GroupKey, Sighting]]:
    """The groups that a request belongs to, each with its sighting there."""
    owner = () if correlation.across_identities else accountable(activity)
    found: dict[GroupKey, Sighting] = {}
    for index, is_proven in fired:
        base = correlation.bases[index]
        values: tuple[str, ...] = ()
        if base.value_fields:
            values = tuple(["\x1f".join(parts) for parts in combinations(base.value_fields, activity)])
            if not values:
                continue
        proven, unproven = (1 << index, 0) if is_proven else (0, 1 << index)
        for parts in combinations(base.group_fields, activity):
            group = (*owner, *parts)
            sighting = found.get(group)
            if sighting is None:
                found[group] = sighting_of(activity, proven, unproven, values)
            else:
                add_to(sighting, proven, unproven, values)
    return found.items()
