"""What a source hands over: raw bytes and where they came from; the start of the line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Position(NamedTuple):
    """Where one record lies in its stream: a file and its line, or a topic's partition and offset."""

    stream: str
    """File path, or `topic[partition]`."""
    offset: int
    """1-based line number of a file, or offset of a Kafka record."""

    def __str__(self) -> str:
        """`audit.log:12` or `audit[3]:17`, as it stands in dead letters and error messages."""
        return f"{self.stream}:{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record or an alert that could not be used, as it goes to the dead letters."""

    position: Position | None
    """Where the record lies; None for an alert that its sink refused."""
    reason: str
    detail: str
    payload: bytes


class Lines(Sequence[Position]):
    """The positions of consecutive lines, made when one is asked for."""

    def __init__(self, stream: str, first_line: int, count: int) -> None:
        self._stream, self._first_line, self._count = stream, first_line, count

    def __len__(self) -> int:
        """How many lines there are."""
        return self._count

    def __getitem__(self, index: int) -> Position:  # type: ignore[override]  # slices are never asked for
        """The position of the line at `index`."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        return Position(self._stream, self._first_line + index)


Positions: TypeAlias = Mapping[str, int]
"""Per stream the position to go on from: the next byte of a file, the next offset of a partition."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records read together: the unit of work and of commit."""

    values: Sequence[bytes]
    """The records' bytes, in the order of their streams."""
    positions: Sequence[Position]
    """One for each value; sources build it lazily, for only a bad record asks."""
    end: Positions
    """Where reading goes on once every value of this batch is decided."""
    behind: frozenset[str] = frozenset()
    """Streams that have more to read at once: event time may not pass them by."""
    refused: Sequence[DeadLetter] = ()
    """What the source itself could not use: a file that is cut, a line that is too long."""
    present: frozenset[str] | None = None
    """The streams that are being read, if the source knows: one that was given away is not silent."""
