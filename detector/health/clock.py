"""Clock: how far the event time of one stream has come, which a single wrong clock does not move."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

APART: Final = timedelta(minutes=10)
"""As long as a fold waits for late events: what lies further apart in one stream is no ordinary delay."""
_CONFIRMING_EVENTS: Final = 10
"""A busy cluster sends as many in a second, and a wrong clock seldom so many in a row."""


class Gap(NamedTuple):
    """The stream was silent between two times, and has gone on since."""

    since: datetime
    until: datetime


class Apart(NamedTuple):
    """Events of one stream told times that lie far apart, one after the other."""

    near: datetime
    far: datetime


class Clock(msgspec.Struct):
    """Event time of one stream."""

    now: datetime
    leap: datetime | None = None
    """A time far from `now` that was told last: later, and the stream was silent; or earlier, and it goes back."""
    leap_events: int = 0

    def move(self, time: datetime) -> Gap | Apart | None:
        """Take the time of the next event."""
        if abs(time - self.now) <= APART:
            leap, self.leap = self.leap, None
            near = self.now
            self.now = max(self.now, time)
            return Apart(near, leap) if leap is not None and leap > near else None
        forward = time > self.now
        if self.leap is None or forward != (self.leap > self.now) or (forward and time < self.leap - APART):
            self.leap, self.leap_events = time, 1
            return None
        self.leap_events += 1
        if self.leap_events < _CONFIRMING_EVENTS:
            return None
        since, leap = self.now, self.leap
        self.now, self.leap = time, None
        return Gap(since, leap) if forward else Apart(since, leap)
