"""Several sinks as one: durable when each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass

from detector.alert import Alert
from detector.errors import SinkRejected
from detector.sinks import Sink


@dataclass(frozen=True, slots=True)
class FanOut:
    """Writes to each sink in turn; the one that may be unavailable should come first."""

    sinks: Sequence[Sink]

    def probe(self) -> None:
        """Ask each."""
        for sink in self.sinks:
            sink.probe()

    def write(self, alerts: Sequence[Alert]) -> None:
        """Write to all; what one of them refuses is told after the others have stored it."""
        refusals: list[SinkRejected] = []
        for sink in self.sinks:
            try:
                sink.write(alerts)
            except SinkRejected as error:
                refusals.append(error)
        if refusals:
            raise SinkRejected(refusals[0].sink, [item for error in refusals for item in error.rejected])

    def close(self) -> None:
        """Close each."""
        for sink in self.sinks:
            sink.close()
