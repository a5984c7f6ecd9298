"""Correlation: what a rule of Sigma's correlation types asks of the sightings of one group.

A sighting is a request that a base rule fired on. An alert belongs to the fold window in which a span of sightings
that satisfies the condition ends, and lists every sighting of such a span. That depends on the set of sightings alone,
so neither the order in which they arrive nor the cut of the input into batches changes an alert; another sighting can
only add to one.

Source: SigmaHQ/sigma-specification v2, Sigma correlation rules specification.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from detector.sigma.compile import Node
from detector.sigma.fields import Field
from detector.sigma.memory import Sighting


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
    def question(self) -> tuple[object, ...]:
        """Equal for correlations that come to the same whatever is seen: those of a rule's copies."""
        trees = tuple(id(base.node) for base in self.bases)
        return (self.shape, trees, self.at_least, self.span_micros, self.apart)

    @property
    def sightings_at_least(self) -> int:
        """How many sightings it takes at least; one alone can hold several values, or satisfy several base rules."""
        return self.at_least if self.type in (CorrelationType.EVENT_COUNT, CorrelationType.TEMPORAL_ORDERED) else 1

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


def completed(
    correlation: Correlation, sightings: Sequence[Sighting], place: int, fold_micros: int
) -> Iterator[tuple[Sighting, bool, int]]:
    """Every sighting that counts now in an alert that does not hold it yet, because of the one at `place`.

    Each comes with whether it is proven, and the time at which the span ends that it counts in.
    """
    ordered = correlation.type is CorrelationType.TEMPORAL_ORDERED
    newest = place == len(sightings) - 1
    end = len(sightings)
    if not newest:
        end = bisect_right(sightings, sightings[place].micros + correlation.span_micros, key=micros_of)
    for last in range(place, end):
        closing = sightings[last].micros
        start = bisect_left(sightings, closing - correlation.span_micros, key=micros_of)
        window = closing // fold_micros
        span = range(start, last + 1)
        untold = (
            _in_sequence(correlation, sightings, span, window)
            if ordered
            else _in_any_order(correlation, sightings, span, window, newest=newest)
        )
        for sighting, proven in untold:
            sighting.told[window] = proven
            yield sighting, proven, closing


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
    if not any(sighting.begins for sighting in within):
        return  # as nearly always, where later steps are daily work
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


def micros_of(sighting: Sighting) -> int:
    """What sightings are ordered by."""
    return sighting.micros
