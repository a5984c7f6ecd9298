"""Correlate: requests that mean little alone and much together, by Sigma's correlation types.

A sighting is a request that a base rule fired on. An alert belongs to the fold window in which a span of sightings
that satisfies the condition ends, and lists every sighting of such a span. That depends on the set of sightings alone,
so neither the order in which they arrive nor the cut of the input into batches changes an alert; another sighting can
only add to one.

Source: SigmaHQ/sigma-specification v2, Sigma correlation rules specification.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from detector import metrics
from detector.activity import Activity
from detector.match import LATENESS, Match, Rule
from detector.sigma.compile import Node, Verdict
from detector.sigma.fields import Field
from detector.sigma.groups import accountable, combinations
from detector.sigma.memory import GroupKey, Memory, Sighting, Sightings, from_micros, sighting_of

SIGHTINGS_OF_GROUP: Final = 500  # a quarter of a megabyte; a condition cannot ask for more
_STEPS_OF_GROUP: Final = 100  # of an ordered correlation, which looks at all of them for each that comes
_SIGHTINGS_OF_RULE: Final = 10_000  # five megabytes a rule in the state, while somebody floods it
_LATENESS_MICROS: Final = int(LATENESS.total_seconds()) * 1_000_000
_FORGOTTEN: Final = metrics.FORGOTTEN.labels("sighting")


class CorrelationType(StrEnum):
    """The types of Sigma's correlations that can be decided from what has been seen so far."""

    EVENT_COUNT = "event_count"
    VALUE_COUNT = "value_count"
    TEMPORAL = "temporal"
    TEMPORAL_ORDERED = "temporal_ordered"


@dataclass(frozen=True, slots=True)
class Base:
    """A base rule of a correlation."""

    name: str
    node: Node
    group_fields: tuple[Field, ...]
    value_fields: tuple[Field, ...]
    """Whose distinct values are counted; none unless the type is `value_count`."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """What a correlation rule asks of the sightings of one group."""

    type: CorrelationType
    bases: tuple[Base, ...]
    at_least: int
    """Sightings, distinct values or distinct base rules that must lie within one span."""
    span_micros: int
    apart: tuple[int, ...]
    """Which of the group fields keep alerts apart; the others only tell what belongs together."""
    across_identities: bool

    @property
    def shape(self) -> str:
        """What sightings mean; those of a rule with another shape are of no use."""
        fields = [[field.path for field in (*base.group_fields, *base.value_fields)] for base in self.bases]
        return f"{self.type} {self.across_identities} {[base.name for base in self.bases]} {fields}"

    @property
    def kept_of_group(self) -> int:
        """How many sightings of a group are remembered."""
        return _STEPS_OF_GROUP if self.type is CorrelationType.TEMPORAL_ORDERED else SIGHTINGS_OF_GROUP

    def is_satisfied(self, sightings: Sequence[Sighting], span: range, *, proven: bool) -> bool:
        """Tell whether the sightings of a span are enough, whatever their order; the last ones are asked first.

        Args:
            sightings: of one group.
            span: the places of those that lie within one timespan.
            proven: leave out what a hidden body would decide.
        """
        values: set[str] = set()
        count = bits = 0
        for place in reversed(span):
            sighting = sightings[place]
            if proven and not sighting.proven:
                continue
            if self.type is CorrelationType.EVENT_COUNT:
                count += 1
            elif self.type is CorrelationType.VALUE_COUNT:
                values.update(sighting.values)
                count = len(values)
            else:
                bits |= _bits(sighting, proven=proven)
                count = bits.bit_count()
            if count >= self.at_least:
                return True
        return False

    def sequence(self, span: Sequence[Sighting], *, proven: bool) -> list[Sighting]:
        """Those of a span that stand in a sequence of all base rules, each later than the one before, to the last."""
        if proven:
            span = [sighting for sighting in span if sighting.proven]
        steps = len(self.bases)
        reached: list[int | None] = [None] * steps  # when the steps so far can first be done
        on_the_way: list[tuple[Sighting, int]] = []
        for sighting in span:
            bits = _bits(sighting, proven=proven)
            done = 0
            for step in range(steps):
                before = reached[step - 1] if step else sighting.micros - 1
                if bits >> step & 1 and before is not None and before < sighting.micros:
                    done |= 1 << step
            for step in range(steps):
                if done >> step & 1 and reached[step] is None:
                    reached[step] = sighting.micros
            on_the_way.append((sighting, done))
        last_step = 1 << (steps - 1)
        if not on_the_way or not on_the_way[-1][1] & last_step:
            return []
        latest: list[int | None] = [None] * steps  # when a step can be done at the latest
        grounds: list[Sighting] = []
        for sighting, done in reversed(on_the_way):
            counts = sighting is span[-1]
            if counts:
                latest[-1] = sighting.micros
            for step in range(steps - 1):
                after = latest[step + 1]
                if done >> step & 1 and after is not None and sighting.micros < after:
                    counts = True
                    latest[step] = latest[step] or sighting.micros
            if counts:
                grounds.append(sighting)
        return grounds[::-1]


def _bits(sighting: Sighting, *, proven: bool) -> int:
    return sighting.proven if proven else sighting.proven | sighting.unproven


class Correlator:
    """Takes the requests that base rules fire on, and gives what they add up to."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def begin(self, correlations: Iterable[tuple[Rule, Correlation]]) -> None:
        """Let rules that nothing is remembered of begin; must come before the first request."""
        for rule, correlation in correlations:
            found = self._memory.sightings.get(rule.id)
            if found is None or found.shape != correlation.shape:
                self._memory.sightings[rule.id] = Sightings(correlation.shape)

    def see(self, rule: Rule, correlation: Correlation, activity: Activity, verdict: Verdict) -> list[Match]:
        """Take a request; what it completes comes back, with the earlier requests that belong to it.

        Args:
            rule: whose alerts it is about.
            correlation: what the rule asks.
            activity: the request.
            verdict: what the rule's tree, the disjunction of its base rules, says of it.
        """
        found = self._memory.sightings[rule.id]
        matches: list[Match] = []
        for group, sighting in _sightings(correlation, activity, verdict):
            sightings = found.groups.pop(group, None) or []
            found.groups[group] = sightings
            place = self._add(found, correlation, sightings, sighting)
            matches += _completed(rule, correlation, group, sightings, place)
        while found.count > _SIGHTINGS_OF_RULE:
            forgotten = len(found.groups.pop(next(iter(found.groups))))
            found.count -= forgotten
            _FORGOTTEN.inc(forgotten)
        return matches

    def advance(self, correlations: Sequence[tuple[Rule, Correlation]]) -> None:
        """Forget what nothing that may still come can be near to."""
        now = self._memory.now_micros
        for rule, correlation in correlations:
            found = self._memory.sightings[rule.id]
            if now - found.swept_micros < _LATENESS_MICROS:
                continue
            found.swept_micros = now
            for group, sightings in list(found.groups.items()):
                self._trim(found, correlation, sightings)
                if not sightings:
                    del found.groups[group]

    def _add(
        self, found: Sightings, correlation: Correlation, sightings: list[Sighting], sighting: Sighting
    ) -> int | None:
        """Put a sighting in its place; None for one that is known already, or too late to be near to anything."""
        self._trim(found, correlation, sightings)
        place = bisect_left(sightings, (sighting.micros, sighting.key), key=_order)
        if place < len(sightings) and sightings[place].key == sighting.key:
            known = sightings[place]
            if not _merge(known, sighting):
                return None
        else:
            sightings.insert(place, sighting)
            found.count += 1
        if len(sightings) > correlation.kept_of_group:
            del sightings[0]
            found.count -= 1
            _FORGOTTEN.inc()
            place -= 1
        return place if place >= 0 else None

    def _trim(self, found: Sightings, correlation: Correlation, sightings: list[Sighting]) -> None:
        """Drop what nothing that may still come can be near to, or can come before."""
        if not sightings:
            return
        horizon = self._memory.now_micros - _LATENESS_MICROS
        over = 0
        if sightings[0].micros < horizon - correlation.span_micros:
            over = bisect_left(sightings, horizon - correlation.span_micros, key=_micros)
        if correlation.type is CorrelationType.TEMPORAL_ORDERED:
            # A later step that no first step came before: most are, where later steps are daily work.
            while over < len(sightings) and sightings[over].micros < horizon and not sightings[over].begins:
                over += 1
        if over:
            del sightings[:over]
            found.count -= over


def _micros(sighting: Sighting) -> int:
    return sighting.micros


def _order(sighting: Sighting) -> tuple[int, bytes]:
    return sighting.micros, sighting.key


def _merge(known: Sighting, again: Sighting) -> bool:
    """Take what another stage of a known request adds; true if that is anything."""
    before = (known.proven, known.unproven, known.values)
    known.proven |= again.proven
    known.unproven |= again.unproven
    known.values = tuple(dict.fromkeys((*known.values, *again.values)))
    return before != (known.proven, known.unproven, known.values)


def _sightings(correlation: Correlation, activity: Activity, verdict: Verdict) -> Iterator[tuple[GroupKey, Sighting]]:
    """The groups that a request belongs to, each with its sighting there."""
    owner = () if correlation.across_identities else accountable(activity)
    found: dict[GroupKey, Sighting] = {}
    for index, base in enumerate(correlation.bases):
        if len(correlation.bases) > 1:
            verdict = base.node.evaluate(activity)
        if verdict is False:
            continue
        values: tuple[str, ...] = ()
        if base.value_fields:
            values = tuple("\x1f".join(parts) for parts in combinations(base.value_fields, activity))
            if not values:
                continue
        for parts in combinations(base.group_fields, activity):
            group = (*owner, *parts)
            sighting = found.get(group)
            if sighting is None:
                sighting = found[group] = sighting_of(activity)
            sighting.proven |= bool(verdict) << index
            sighting.unproven |= (verdict is None) << index
            sighting.values = tuple(dict.fromkeys((*sighting.values, *values)))
    yield from found.items()


def _completed(
    rule: Rule, correlation: Correlation, group: GroupKey, sightings: list[Sighting], place: int | None
) -> Iterator[Match]:
    """Every sighting that counts now in an alert that does not hold it yet, because of the one at `place`."""
    if place is None:
        return
    ordered = correlation.type is CorrelationType.TEMPORAL_ORDERED
    newest = place == len(sightings) - 1
    values = group[len(group) - len(correlation.bases[0].group_fields) :]
    apart = tuple(values[index] for index in correlation.apart)
    end = bisect_right(sightings, sightings[place].micros + correlation.span_micros, key=_micros)
    for last in range(place, end):
        closing = sightings[last].micros
        start = bisect_left(sightings, closing - correlation.span_micros, key=_micros)
        window = closing // (rule.fold_seconds * 1_000_000)
        span = range(start, last + 1)
        untold = (
            _in_sequence(correlation, sightings, span, window)
            if ordered
            else _in_any_order(correlation, sightings, span, window, newest=newest)
        )
        for sighting, proven in untold:
            sighting.told[window] = proven
            yield Match(rule, sighting.restore(), apart, degraded=not proven, fold_time=from_micros(closing))


def _in_any_order(
    correlation: Correlation, sightings: Sequence[Sighting], span: range, window: int, *, newest: bool
) -> Iterator[tuple[Sighting, bool]]:
    """What is still to be told of a span that is satisfied as a whole, and whether it is proven.

    Args:
        correlation: what the rule asks.
        sightings: of one group.
        span: the places of those that lie within one timespan.
        window: the fold window of the alert.
        newest: no other sighting than the last of all has come since the span was looked at.
    """
    if not correlation.is_satisfied(sightings, span, proven=False):
        return
    certain = bool(sightings[span[-1]].proven) and correlation.is_satisfied(sightings, span, proven=True)
    for place in reversed(span):
        sighting = sightings[place]
        proven = certain and bool(sighting.proven)
        if _is_untold(sighting, window, proven=proven):
            yield sighting, proven
        elif newest and sighting.told[window]:
            return  # when it was told, so were all before it: a flood must not cost its whole length for each request


def _in_sequence(
    correlation: Correlation, sightings: Sequence[Sighting], span: range, window: int
) -> Iterator[tuple[Sighting, bool]]:
    """What is still to be told of the sequences that end with a span, and whether it is proven."""
    within = sightings[span.start : span.stop]
    grounds = correlation.sequence(within, proven=False)
    if not grounds:
        return
    certain = set(map(id, correlation.sequence(within, proven=True))) if within[-1].proven else set()
    for sighting in grounds:
        proven = id(sighting) in certain
        if _is_untold(sighting, window, proven=proven):
            yield sighting, proven


def _is_untold(sighting: Sighting, window: int, *, proven: bool) -> bool:
    told = sighting.told.get(window)
    return told is None or (proven and not told)
