"""Watermark: how far event time has come, over streams that are read at different speed."""

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from detector.event import AuditEvent, event_time


class Watermark(msgspec.Struct):
    """Event time per stream; the whole moves on only as far as the streams that lag behind."""

    by_stream: dict[str, datetime] = {}

    def update(self, stream: str, events: Sequence[AuditEvent], behind: Collection[str]) -> datetime | None:
        """Take the events read from a stream; the time that all streams have reached comes back, if it is known.

        The event in the middle speaks for its batch, so that one API server's wrong clock does not move time far ahead.
        A stream that is read to its end holds nothing back: it may stay silent for days.
        """
        time = event_time(events[len(events) // 2]) if events else None
        if time is not None:
            self.by_stream[stream] = max(time, self.by_stream.get(stream, time))
        if not behind:
            return max(self.by_stream.values(), default=None)
        if any(name not in self.by_stream for name in behind):
            return None
        return min(self.by_stream[name] for name in behind)
