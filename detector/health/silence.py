"""Silence: a stream of audit events that falls silent, and one whose events tell times far apart."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from detector.event import AuditEvent, event_time, parse_time
from detector.health import HOUR_SECONDS, WEEK_SECONDS, Arrival, Finding, about_stream, health_rule
from detector.health.clock import APART, Apart, Clock, Gap
from detector.match import Level

_MESSAGE: Final = (
    "no audit event came from {name}: what was done meanwhile is not in the log; ask the API server's own log and "
    "the collector's why"
)
SILENT: Final = health_rule(
    "d0c6b8a5-7c1e-4f0e-9a55-0b8f4a3c1f27",
    "Audit Stream Silent",
    Level.LOW,
    description=(
        "A stream that is never silent for long sent no audit events for more than ten minutes, and more than four "
        "times as long as it usually pauses, while others went on or before it went on itself. Misses a stream that "
        "has sent events for less than an hour so far, one that often pauses, and the silence of all streams for as "
        "long as it lasts: event time stands still then, and only the metric detector_event_time_seconds shows it."
    ),
    message=_MESSAGE,
    covers=("audit-gap",),
    fold_seconds=6 * HOUR_SECONDS,
)
SILENT_LONG: Final = health_rule(
    "5b1f2f0e-3a4b-4d3d-8c6f-6e2b7d9c0a91",
    "Audit Stream Silent for an Hour or More",
    Level.MEDIUM,
    description=(
        "As Audit Stream Silent, for an hour or more: an API server is down or cut off, its audit log was turned off, "
        "or the collector has failed. A silence that comes every day is known after the second."
    ),
    message=_MESSAGE,
    covers=("audit-gap",),
    fold_seconds=6 * HOUR_SECONDS,
)
APART_IN_TIME: Final = health_rule(
    "8f6a2c34-1f0d-4c57-b2b6-61a3c9f4e7d8",
    "Audit Events Far Apart in Time",
    Level.LOW,
    description=(
        "Neighbouring events of one stream tell times more than ten minutes apart: the clock of an API server is "
        "wrong, or its events come late. Windows close before late events come, and what is seen of an attack is cut "
        "in two. Misses clocks that are less than ten minutes apart, and a wrong clock that is alone in its stream."
    ),
    message="neighbouring audit events tell times far apart: {name}; set the clocks of the API servers, or find what "
    "delays their events",
    covers=("audit-gap",),
    fold_seconds=WEEK_SECONDS,
)
RULES: Final = (SILENT, SILENT_LONG, APART_IN_TIME)

_LONG: Final = timedelta(hours=1)
_PATIENCE: Final = 4  # times the usual pause; twice happens by chance, and ten times would let an hour pass
_STEADY_SPANS: Final = 6
_DAYS_KEPT: Final = 7
_STREAMS_KEPT: Final = 1_000
_FORGOTTEN: Final = timedelta(days=7)
_SPAN_CHARACTERS: Final = len("2026-11-23T09:1")


class Stream(msgspec.Struct):
    """What is usual for one stream."""

    clock: Clock
    first: datetime
    spans: int = 0
    """Tens of minutes in which events came."""
    pauses_seconds: dict[str, float] = {}
    """The longest pause of each of the last days."""
    last_stamp: str = ""
    """Of the last event: as long as the next is of the same ten minutes, nothing happens."""
    told: int = 0
    """How many of its limits a silence has passed that was told while others went on."""

    @property
    def last(self) -> datetime:
        """How far it has come; the clock is looked at every ten minutes only."""
        told = parse_time(self.last_stamp) if self.clock.leap is None else None
        return max(self.clock.now, told or self.clock.now)

    @property
    def bearable(self) -> timedelta:
        """How long it may be silent.

        The second longest of its days' longest pauses is usual: one outage makes no habit, and a nightly pause does.
        """
        pauses = sorted(self.pauses_seconds.values(), reverse=True)
        usual_seconds = pauses[min(1, len(pauses) - 1)] if pauses else 0.0
        return max(APART, _PATIENCE * timedelta(seconds=usual_seconds))

    @property
    def limits(self) -> tuple[timedelta, ...]:
        """After how long its silence is told, and told once more."""
        bearable = self.bearable
        return (bearable, _LONG) if bearable < _LONG else (bearable,)

    @property
    def is_steady(self) -> bool:
        """True once its pauses are known well enough to be judged by."""
        return self.spans >= _STEADY_SPANS

    def learn(self, since: datetime, until: datetime) -> None:
        """Note a pause."""
        day = f"{until:%Y-%m-%d}"
        self.spans += 1
        self.pauses_seconds[day] = max((until - since).total_seconds(), self.pauses_seconds.get(day, 0.0))
        if len(self.pauses_seconds) > _DAYS_KEPT:
            del self.pauses_seconds[min(self.pauses_seconds)]


class Silence(msgspec.Struct):
    """The streams, by name."""

    streams: dict[str, Stream] = {}

    def look(self, arrival: Arrival, events: Sequence[AuditEvent]) -> Iterator[Finding]:
        """Follow the stream's event time, and ask what the others do meanwhile."""
        start = next((time for time in map(event_time, events) if time is not None), None)
        if start is None:
            return
        known = self.streams.get(arrival.stream)
        stream = known or self._open(arrival.stream, start)
        yield from self._others(arrival, stream, start)
        stamps = [event.stage_timestamp for event in events]
        span = stream.last_stamp[:_SPAN_CHARACTERS]
        if stream.clock.leap is None and min(stamps)[:_SPAN_CHARACTERS] == span == max(stamps)[:_SPAN_CHARACTERS]:
            stream.last_stamp = stamps[-1]
            return
        for event in events:
            stamp = event.stage_timestamp
            if stamp[:_SPAN_CHARACTERS] == span and stream.clock.leap is None:
                stream.last_stamp = stamp
                continue
            time = event_time(event)
            if time is not None:
                yield from _moved(arrival.stream, stream, time)
                stream.last_stamp = stamp
                span = stamp[:_SPAN_CHARACTERS]

    def _open(self, name: str, start: datetime) -> Stream:
        if len(self.streams) >= _STREAMS_KEPT:
            del self.streams[min(self.streams, key=lambda each: (self.streams[each].clock.now, each))]
        stream = self.streams[name] = Stream(Clock(start), start)
        return stream

    def _others(self, arrival: Arrival, going_on: Stream, now: datetime) -> Iterator[Finding]:
        """Find streams that fell silent while this one, which was there before, went on.

        It is asked once a batch, with the time of its first event: a source hands over the stream that lags behind.
        """
        if len(self.streams) == 1:
            return
        if arrival.present is not None:
            for name in [name for name in self.streams if name not in arrival.present]:
                del self.streams[name]
        for name, stream in list(self.streams.items()):
            last = stream.last if now - stream.clock.now > APART else now
            if now - last > _FORGOTTEN:
                del self.streams[name]
            elif stream.is_steady and going_on.first <= last and name not in arrival.behind:
                passed = [limit for limit in stream.limits if now - last > limit]
                if len(passed) <= stream.told:
                    continue
                if self._was_rotated(name, stream):
                    del self.streams[name]
                    continue
                for limit in passed[stream.told :]:
                    yield _silent(name, Gap(last, last + limit))
                stream.told = len(passed)

    def _was_rotated(self, name: str, ended: Stream) -> bool:
        """Tell whether another stream began when this one ended: the next file of the same log."""
        last = ended.last
        return any(
            last - APART <= other.first <= last + ended.bearable for each, other in self.streams.items() if each != name
        )


def _moved(name: str, stream: Stream, time: datetime) -> Iterator[Finding]:
    clock = stream.clock
    if clock.leap is None:
        clock.move(stream.last)
    since = clock.now
    moved = clock.move(time)
    if isinstance(moved, Apart):
        text = f"{name} at {moved.near:%Y-%m-%d %H:%M} and {moved.far:%Y-%m-%d %H:%M} UTC"
        yield Finding(APART_IN_TIME, about_stream("skew", text, moved.near), of_stream=True)
    elif isinstance(moved, Gap):
        if stream.is_steady and not stream.told and moved.until - moved.since > stream.bearable:
            yield _silent(name, moved)
        stream.learn(moved.since, moved.until)
    elif clock.now > since:
        stream.learn(since, clock.now)
    if clock.now > since:
        stream.told = 0


def _silent(name: str, gap: Gap) -> Finding:
    minutes = int((gap.until - gap.since).total_seconds() // 60)
    text = f"{name} for {minutes:,} minutes since {gap.since:%Y-%m-%d %H:%M} UTC"
    rule = SILENT_LONG if gap.until - gap.since >= _LONG else SILENT
    return Finding(rule, about_stream("gap", text, gap.until), of_stream=True)
