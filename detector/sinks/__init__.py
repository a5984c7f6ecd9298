"""Sinks: where alerts go. Each file is one sink; `write` returns once the alerts are durable, or raises."""

from collections.abc import Sequence
from typing import Protocol

from detector.alert import Alert


class Sink(Protocol):
    """Takes alerts for good."""

    def probe(self) -> None:
        """Look whether alerts can be stored, before the first record is read.

        Raises:
            SinkUnavailable: they cannot; the message says what to do.
        """

    def write(self, alerts: Sequence[Alert]) -> None:
        """Store these versions of alerts; writing one again changes nothing.

        Raises:
            SinkUnavailable: none or only some could be stored now; the same call may be made again.
            SinkRejected: the sink refuses some for good; all the others are stored.
        """

    def close(self) -> None:
        """Release what the sink holds."""
