"""Sources: where records come from. Each file is one source, which yields batches and takes a commit."""

from collections.abc import Callable, Iterator
from typing import Protocol

from detector.record import Batch, Positions


class Source(Protocol):
    """Reads records in the order of their streams."""

    checkpoint: Callable[[], None]
    """Called by the source before it gives a stream away: all that was yielded must then be decided and committed."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches until the end of the input or until `stop` is called.

        Raises:
            SourceUnavailable: the source stays out of reach.
        """

    def commit(self, positions: Positions) -> None:
        """Let the streams move on: everything before these positions is decided."""

    def hold(self, seconds: float) -> None:
        """Wait without reading on, and without losing the streams, while a sink cannot take alerts."""

    def stop(self) -> None:
        """End the iteration after the batch in hand; safe to call from a signal handler."""

    def close(self) -> None:
        """Release what the source holds."""
