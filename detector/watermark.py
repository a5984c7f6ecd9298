"""Watermark: how far event time has come, over streams that are read at different speed.

Event time moves in steps of ten minutes, at events and not at batches: whatever waits for a time (windows, folds) then
closes at the same event, however the input was cut.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from detector.event import AuditEvent, event_time

STEP_SECONDS: Final = 600
"""Windows end on it, and so does what they wait for late events."""
_MAJORITY: Final = 5  # events ahead that outnumber those behind, before time moves: one wrong clock does not move it
_TIME_LENGTH: Final = len("2026-11-23T09:15:02.104900Z")
_STEP_LENGTH: Final = len("2026-11-23T09:1")  # as much of a time as tells its step
_STEPS_KEPT: Final = 10_000


class StreamClock(msgspec.Struct):
    """Event time of one stream."""

    step: int
    """Steps since the epoch."""
    ahead: int = 0
    """By how many events those that are ahead outnumber the others since time last moved."""
    next_step: int = 0
    """The earliest step of those ahead."""

    def tell(self, step: int) -> bool:
        """Take an event's step; true if time moves on to `next_step`."""
        if step <= self.step:
            self.ahead -= self.ahead > 0
            return False
        self.next_step = min(step, self.next_step) if self.ahead else step
        self.ahead += 1
        if self.ahead < _MAJORITY:
            return False
        self.step, self.ahead = self.next_step, 0
        return True


class Watermark(msgspec.Struct):
    """Event time per stream; the whole moves on only as far as the streams that lag behind."""

    by_stream: dict[str, StreamClock] = {}

    def parts(
        self, stream: str, events: Sequence[AuditEvent], behind: Collection[str]
    ) -> Iterator[tuple[Sequence[AuditEvent], datetime | None]]:
        """Cut a batch where time moves on: each part with the time that all streams have reached after it, if known.

        A stream that is read to its end holds nothing back: it may stay silent for days.
        """
        start = 0
        for index, event in enumerate(events):
            step = _step(event)
            if step is None:
                continue
            clock = self.by_stream.get(stream)
            if clock is None:
                self.by_stream[stream] = StreamClock(step)
            elif (step != clock.step or clock.ahead) and clock.tell(step):
                yield events[start : index + 1], self._now(behind)
                start = index + 1
        yield events[start:], self._now(behind)

    def _now(self, behind: Collection[str]) -> datetime | None:
        if any(name not in self.by_stream for name in behind):
            return None
        steps = [self.by_stream[name].step for name in behind] or [clock.step for clock in self.by_stream.values()]
        if not steps:
            return None
        return datetime.fromtimestamp((min(steps) if behind else max(steps)) * STEP_SECONDS, UTC)


_steps: Final[dict[str, int]] = {}


def _step(event: AuditEvent) -> int | None:
    """The step of an event; the API server writes all times alike, so it is mostly known by its text."""
    text = event.stage_timestamp
    known = text[:_STEP_LENGTH] if len(text) == _TIME_LENGTH and text[-1] == "Z" else ""
    step = _steps.get(known)
    if step is None:
        time = event_time(event)
        if time is None:
            return None
        step = int(time.timestamp() // STEP_SECONDS)
        if known:
            if len(_steps) >= _STEPS_KEPT:
                _steps.clear()
            _steps[known] = step
    return step
